"""A model by its name: `oracle`, a preset, or whatever transformers can load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_exp3rt.llm.base import LLM, LLMError

ORACLE = "oracle"

# The paper's student (section 4.1): Llama-3-8B-Instruct, four bits. Its budgets, 1200 tokens of
# prompt and 512 new ones, belong to the steps: `max_prompt_tokens` and `max_new_tokens`.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "llama3-8b": {
        "name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct",
        "dtype": "bfloat16",
        "quantization": "nf4",
    },
}


def load_llm(name: str, **options: Any) -> LLM:
    """The model called `name`; `options` are TransformersLLM's, and win over a preset's.

    `oracle` is the sample's synthetic teacher, which takes no adapter.
    Raises: LLMError, in one line, if it cannot be loaded.
    """
    if name == ORACLE:
        if options.get("adapter"):
            raise LLMError(
                f"adapter {options['adapter']} cannot be put on the oracle; leave it out"
            )
        from recbole_exp3rt.sample.oracle import OracleTeacher

        return OracleTeacher()
    try:
        from recbole_exp3rt.llm.transformers_local import TransformersLLM
    except ModuleNotFoundError as error:
        raise LLMError(f"model {name!r} needs {error.name}: pip install {error.name}") from error
    given = {key: value for key, value in options.items() if value is not None}
    return TransformersLLM(**{"name_or_path": name, **PRESETS.get(name, {}), **given})
