"""Loads a language model by its name.

- `oracle`: the synthetic teacher of the sample data set
- `smollm2`: the embedded student, SmolLM2-135M-Instruct
- `llama3-8b`, a preset: a model of the hub with precision and quantisation
- a hub id or a folder of a model: whatever transformers can load
- a folder of an adapter, or the bare name of a student of this package: its base with the adapter
- `openai:MODEL`: a model behind OpenAI-compatible servers
- `batch:MODEL`: the same by OpenAI's Batch route

`store:IDENTITY`, answers that are stored already, is a name for the teacher only (`annotate`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_exp3rt.llm.base import LLM, LLMError
from recbole_exp3rt.llm.card import CARD, folder_of
from recbole_exp3rt.llm.local import waiting
from recbole_exp3rt.llm.server.openai_batch import PREFIX as BATCH
from recbole_exp3rt.llm.server.openai_batch import OpenAIBatch
from recbole_exp3rt.llm.server.openai_llm import PREFIX, HTTPOptions, OpenAIHTTP

ORACLE = "oracle"
ADAPTER = "adapter_config.json"

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


def base_of(student: str | Path) -> str | None:
    """The base model of an adapter's folder, by its card or by peft; None: it is no adapter.

    Raises: LLMError if neither names one.
    """
    folder = folder_of(student)
    config = folder / ADAPTER
    if not config.is_file():
        return None
    for file, key in ((folder / CARD, "base"), (config, "base_model_name_or_path")):
        try:
            base = json.loads(file.read_text(encoding="utf-8")).get(key)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(base, str) and base:
            return base
    raise LLMError(
        f"student {student} does not say which model it was trained on: put "
        f'"base_model_name_or_path" into its {ADAPTER}'
    )


def load_llm(name: str, http: HTTPOptions | None = None, **options: Any) -> LLM:
    """Load the model called `name` (see the top of this file).

    `options` are those of TransformersLLM and win over those of a preset. `adapter` among them
    takes the place of the adapter of a folder; `oracle` and models behind servers take none.
    `http` says how servers are reached.
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
    waiting.choose()
    try:
        from recbole_exp3rt.llm.local.transformers_llm import TransformersLLM
    except ModuleNotFoundError as error:
        raise LLMError(f"model {name!r} needs {error.name}: pip install {error.name}") from error
    return TransformersLLM(**local_options(name, **options))


def local_options(name: str, **options: Any) -> dict[str, Any]:
    """The options of a model on this machine: those of its name, then the given ones.

    Raises: LLMError for an adapter without a base model.
    """
    given = {key: value for key, value in options.items() if value is not None}
    base = base_of(name)
    if base is not None:
        name, given = base, {"adapter": str(folder_of(name)), **given}
    return {"name_or_path": name, **PRESETS.get(name, {}), **given}
