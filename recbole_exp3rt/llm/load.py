"""A model by its name: `oracle`, `openai:MODEL`, `batch:MODEL`, a preset, or whatever transformers
can load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_exp3rt.llm.base import LLM, LLMError
from recbole_exp3rt.llm.openai_batch import PREFIX as BATCH
from recbole_exp3rt.llm.openai_batch import OpenAIBatch
from recbole_exp3rt.llm.openai_http import PREFIX, HTTPOptions, OpenAIHTTP

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


def is_served(name: str) -> bool:
    """Whether `name` is a model behind a server: `openai:MODEL`, or `batch:MODEL`."""
    return name.startswith((PREFIX, BATCH))


def load_llm(name: str, http: HTTPOptions | None = None, **options: Any) -> LLM:
    """The model called `name`; `options` are TransformersLLM's, and win over a preset's.

    `oracle` is the sample's synthetic teacher, which takes no adapter. `openai:MODEL` is what the
    servers of `http` call MODEL; an adapter is served under a name of its own. `batch:MODEL` is
    the same, asked by the Batch route.
    Raises: LLMError, in one line, if it cannot be loaded.
    """
    if name == ORACLE:
        if options.get("adapter"):
            raise LLMError(
                f"adapter {options['adapter']} cannot be put on the oracle; leave it out"
            )
        from recbole_exp3rt.sample.oracle import OracleTeacher

        return OracleTeacher()
    if is_served(name):
        prefix, _, model = name.partition(":")
        if options.get("adapter"):
            raise LLMError(
                f"adapter {options['adapter']} cannot be put on {name}: let the server load it, "
                f"and name it as {prefix}:ADAPTER"
            )
        if name.startswith(BATCH):
            return OpenAIBatch(model, http)
        return OpenAIHTTP(model, http)
    try:
        from recbole_exp3rt.llm.transformers_local import TransformersLLM
    except ModuleNotFoundError as error:
        raise LLMError(f"model {name!r} needs {error.name}: pip install {error.name}") from error
    given = {key: value for key, value in options.items() if value is not None}
    return TransformersLLM(**{"name_or_path": name, **PRESETS.get(name, {}), **given})
