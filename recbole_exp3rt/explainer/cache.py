"""Explanations that are written already, in a file beside the adapter that wrote them."""

from __future__ import annotations

import json
from pathlib import Path

from recbole_exp3rt.errors import UsageError

NAME = "explanations.jsonl"


class Explanations:
    """Texts by key in `<folder>/explanations.jsonl`, one line each; a torn last line is no line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._texts: dict[str, str] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    row = json.loads(line)
                    self._texts[str(row["key"])] = str(row["text"])
                except (ValueError, KeyError, TypeError):
                    continue

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def get(self, key: str) -> str:
        """The text of a key. Raises: KeyError."""
        return self._texts[key]

    def add(self, key: str, pair: tuple[str, str], text: str) -> None:
        """Keep a text at once. Raises: UsageError if the file cannot be written."""
        row = {"key": key, "user_id": pair[0], "item_id": pair[1], "text": text}
        self._texts[key] = text
        try:
            with self.path.open("a", encoding="utf-8") as file:
                # a line of its own, also after one that was torn
                file.write("\n" + json.dumps(row) + "\n")
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error.strerror}") from error
