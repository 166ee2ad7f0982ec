"""The folder of the settings files, and files that are written completely or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_exp3rt.errors import UsageError

PACKAGE = Path(__file__).resolve().parent
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a full disk


def properties_dir() -> Path:
    """Return the folder with `overall.yaml`, `model/` and `dataset/`.

    Raises: FileNotFoundError if the installation is incomplete.
    """
    places = (PACKAGE / "properties", PACKAGE.parent / "properties")
    for place in places:
        if (place / "overall.yaml").is_file():
            return place
    raise FileNotFoundError(
        f"no overall.yaml in {' or '.join(map(str, places))}; install recbole-exp3rt again"
    )


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` to write to.

    At the end the temporary file replaces `path`. After an error `path` is unchanged.

    Raises: UsageError if the file cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, target)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_atomic(path: str | Path, text: str) -> None:
    """Write a text file completely or not at all. Raises: UsageError if it cannot be written."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def check_writable(path: str | Path) -> None:
    """Check, without creating `path`, that it can be written. Raises: UsageError if it cannot."""
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    try:
        existing = next(folder for folder in target.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def check_new(setting: str, path: str | Path, *, overwrite: bool) -> None:
    """Check that the file `path`, which `setting` names, can be written and replaces none.

    Raises: UsageError with the remedy.
    """
    check_writable(path)
    if Path(path).exists() and not overwrite:
        raise UsageError(f"{setting}: {path} is there already; name another, or add --overwrite")
