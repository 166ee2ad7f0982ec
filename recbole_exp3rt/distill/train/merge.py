"""Merges an adapter into its base: a plain model, for servers that cannot load adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.llm.local.hub import config_file
from recbole_exp3rt.llm.local.memory import USABLE, count_parameters, free_memory, gigabytes
from recbole_exp3rt.llm.local.transformers_llm import loading, source_of, with_adapter
from recbole_exp3rt.llm.names import PRESETS, base_of


def merge(adapter: str | Path, out: str | Path) -> Path:
    """Write base and adapter as one model to the new folder `out`, in the base's precision.

    If the adapter was trained on a base in 4 bits, answers differ a little: the merged weights
    are not quantised.
    Raises: UsageError, LLMError with a message of one line.
    """
    adapter, out = Path(adapter), Path(out)
    base = base_of(adapter)
    if base is None:
        raise UsageError(f"adapter {adapter} is not a folder with adapter_config.json; name one")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty; name another folder")
    name = str(PRESETS.get(base, {}).get("name_or_path", base))
    source = source_of(name)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with loading(name):
        config_file(source)
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        needed = sum(count_parameters(config)) * (config.dtype or torch.float32).itemsize
        if needed > USABLE * free_memory("cpu"):
            raise LLMError(
                f"merging onto {name} needs {gigabytes(needed)} of memory, "
                f"{gigabytes(free_memory('cpu'))} are free: merge on a larger machine, or use the "
                "adapter without a merge, which works here and on vLLM"
            )
        model = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    merged = with_adapter(model, adapter, merge=True)
    try:
        merged.save_pretrained(str(out))
        tokenizer.save_pretrained(str(out))
        if (adapter / CARD).is_file():
            card = json.loads((adapter / CARD).read_text(encoding="utf-8"))
            text = json.dumps({**card, "merged": True}, indent=1)
            (out / CARD).write_text(text, encoding="utf-8")
    except BaseException:  # leave no incomplete model
        shutil.rmtree(out, ignore_errors=True)
        raise
    return out
