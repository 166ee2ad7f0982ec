"""Reads lines, JSON lines and JSON arrays with bounded memory, and the values of a row.

A row that cannot be read is None, and the caller counts it. A line or an array element that is
too long to be a row ends the conversion with an error. A value that is not an id, a number or a
text is None.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import math
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from recbole_exp3rt.errors import UsageError

LONGEST_LINE = 4 * 2**20  # bytes after unpacking; the longest row in real data has about 15,000
_LONGEST_LITERAL = 2**18  # Python's parser needs about 500 bytes of memory for each character
_CHUNK = 2**16
_IS_ARRAY = re.compile(rb"\s*\[(?:\s*[{\]]|[ \t\r]*\n)")
_MARK = re.compile(rb'\\[^\n]|["{}\[\],\n]')  # an escaped character is one match
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def lines(path: Path) -> Iterator[str]:
    """Yield lines of UTF-8 text, plain, gzip or zstd, with their line feeds.

    A byte that is not UTF-8 becomes U+FFFD.

    Raises: UsageError for a file that cannot be read, or a line longer than LONGEST_LINE.
    """
    for _, line in _in_bytes(path, arrays=False):
        yield line.decode("utf-8", errors="replace")


def records(path: Path) -> Iterator[object]:
    """Yield each row of JSON lines or of one JSON array; None for a row that is not JSON.

    A row may also be a Python literal, as in Amazon's metadata of 2014. Empty lines are skipped.

    Raises: UsageError as `lines` does.
    """
    for _, found in numbered_records(path):
        yield found


def numbered_records(path: Path, longest: int = LONGEST_LINE) -> Iterator[tuple[int, object]]:
    """Yield the rows of `records` with the numbers of their lines or elements, from 1.

    A row may have `longest` bytes.
    """
    for number, row in _in_bytes(path, arrays=True, longest=longest):
        if not row.isspace():
            yield number, parsed(row.decode("utf-8", errors="replace"))


def beginning(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked. Raises: UsageError if it cannot be read."""
    with opened(path) as file:
        return file.peek(_CHUNK)


def files_of(patterns: Sequence[Path], option: str) -> list[Path]:
    """The files of paths and of patterns such as `books/*.jsonl.gz`, each once, in their order.

    Raises: UsageError for a path that is no file, or a pattern without one.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        files = [pattern] if pattern.is_file() else sorted(map(Path, glob(str(pattern))))
        files = [file for file in files if file.is_file()]
        if not files:
            raise UsageError(f"{option}={pattern} is not a file; name a .json, .jsonl or .gz file")
        found |= dict.fromkeys(files)
    return list(found)


class Unpacked(io.BufferedReader):
    """The bytes of a file that may be packed. `packed` is the file on the disk."""

    packed: BinaryIO

    def taken(self) -> int:
        """How many bytes of the file on the disk were read."""
        return self.packed.tell()


@contextmanager
def opened(path: Path) -> Iterator[Unpacked]:
    """Open a file: plain, gzip (by its name or content) or zstd. A BOM of UTF-8 is skipped.

    Raises: UsageError if it cannot be read.
    """
    try:
        with path.open("rb") as packed:
            start = packed.peek(4)[:4]
            raw: Any = packed
            if path.suffix == ".gz" or start[:2] == b"\x1f\x8b":
                raw = gzip.GzipFile(fileobj=packed)
            elif start == b"\x28\xb5\x2f\xfd":
                raw = pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd")
            file = Unpacked(raw, _CHUNK)
            file.packed = packed
            if file.peek(_CHUNK).startswith(b"\xef\xbb\xbf"):
                file.read(3)
            yield file
            file.detach()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: {error}; download it again") from None
    except OSError as error:
        if error.strerror is None:  # of zstd: pyarrow's errors have no number
            raise UsageError(f"{path}: {error}; download it again") from None
        raise UsageError(f"{path}: {error.strerror}; name a file that can be read") from None


def is_array(file: Unpacked) -> bool:
    """Whether the bytes to come are a JSON array."""
    return _IS_ARRAY.match(file.peek(_CHUNK)) is not None


def _in_bytes(path: Path, arrays: bool, longest: int = LONGEST_LINE) -> Iterator[tuple[int, bytes]]:
    with opened(path) as file:
        if arrays and is_array(file):
            yield from enumerate(elements(file, path, longest), start=1)
            return
        number = 0
        while line := file.readline(longest + 1):
            number += 1
            if len(line) > longest:
                raise too_long(path, f"line {number}", longest)
            yield number, line


def elements(file: Unpacked, path: Path, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """Yield the elements of the JSON array that `file` is, then the lines after its end.

    A string ends at the end of its line, even if its quotation mark is not closed. So a damaged
    element does not damage the others if each element begins on a line of its own.

    Raises: UsageError for an element longer than `longest`, or a line longer than LONGEST_LINE.
    """
    piece = bytearray()
    depth, number, quoted, broken = 0, 0, False, False
    while chunk := file.read(_CHUNK):
        if chunk.endswith(b"\\"):
            chunk += file.read(1)
        begin = 0
        for match in _MARK.finditer(chunk):
            at, mark = match.start(), match[0]
            if mark == b"\n":
                broken, quoted = broken or quoted, False
            elif mark == b'"':
                quoted = not quoted
            elif quoted or mark not in b"[]{},":
                continue
            elif mark == b"{" and depth and _is_next(piece, chunk[begin:at], depth, broken):
                number += 1
                yield bytes(piece + chunk[begin:at])
                piece.clear()
                begin, depth, broken = at, 2, False
            elif mark in b"[{":
                depth += 1
                begin = at + 1 if depth == 1 else begin
            elif depth > 1 or mark == b"]":
                depth -= mark != b","
            if (depth == 1 and mark == b",") or (depth == 0 and mark == b"]"):
                number += 1
                element = bytes(piece + chunk[begin:at])
                piece.clear()
                begin, broken = at + 1, False
                if mark == b"," or element.strip():
                    yield element
                if depth == 0:
                    yield from _lines_after(chunk[begin:], file, path)
                    return
        piece += chunk[begin:]
        if len(piece) > longest:
            raise too_long(path, f"element {number + 1} of its JSON array", longest)
    if piece and not piece.isspace():
        yield bytes(piece)


def _lines_after(rest: bytes, file: Unpacked, path: Path) -> Iterator[bytes]:
    """The lines of what was read already and of what comes after it."""
    *whole, begun = rest.split(b"\n")
    yield from (line + b"\n" for line in whole)
    line = begun + file.readline(LONGEST_LINE)
    while line:
        if len(line) > LONGEST_LINE:
            raise too_long(path, "a line after its JSON array")
        yield line
        line = file.readline(LONGEST_LINE + 1)


def _is_next(piece: bytearray, rest: bytes, depth: int, broken: bool) -> bool:
    """Whether an opening brace begins the next element although the one before is not closed.

    It does at the beginning of a line after a string that is not closed, and after a comma in a
    record, where JSON only allows a name.
    """
    before = bytes(piece[-200:]) + rest[-200:]
    if broken:
        return not before.rpartition(b"\n")[2].strip(b" \t\r,")
    return depth == 2 and before.rstrip().endswith(b",") and before.strip() != b","


def too_long(path: Path, what: str, longest: int = LONGEST_LINE) -> UsageError:
    """The error for a line or an element that is too long."""
    return UsageError(
        f"{path}: {what} is longer than {longest:,} bytes, too long for a row; check the file"
    )


def parsed(text: str) -> object:
    """The value of a text in JSON or, up to 256 KiB, a Python literal; None for other texts."""
    for parse in (json.loads, _literal):
        try:
            return parse(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _literal(text: str) -> object:
    """The value of a Python literal."""
    if len(text) > _LONGEST_LITERAL:
        raise ValueError("too long for a literal")
    return ast.literal_eval(text.strip())


def record(value: object) -> dict[str, Any]:
    """`value` if it is a dictionary or the text of one, else an empty dictionary."""
    found = parsed(value) if isinstance(value, str) else value
    return found if isinstance(found, dict) else {}


def as_id(value: object) -> str | None:
    """A text or a whole number as an id; None for other values, such as True, 1.5 or [1]."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**100 else None
    return value if isinstance(value, str) else None


def as_number(value: object) -> float | None:
    """A finite number, or a text of one in the digits 0-9; None for other values."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value := value.strip()) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_text(value: object) -> str | None:
    """A text or a number as text, '' for a missing value; None for other values."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return str(value)
    except ValueError:  # a number of thousands of digits
        return None


def whole_number(value: object) -> int:
    """A count such as 3, 3.0 or "1,204"; 0 for other values and for more than 10^9."""
    number = as_number(value.replace(",", "") if isinstance(value, str) else value)
    return max(int(number), 0) if number is not None and number <= 1e9 else 0


class Lines:
    """Lines that can be read again.

    `taken` are the lines read since it was emptied, `number` counts all that are read.
    """

    def __init__(self, text: Iterable[str]) -> None:
        """Read the lines of `text`."""
        self.text, self.waiting, self.taken = iter(text), deque[str](), list[str]()
        self.number = 0

    def __iter__(self) -> Lines:
        """The iterator itself."""
        return self

    def __next__(self) -> str:
        """The next line, which is added to `taken`."""
        self.taken.append(self.waiting.popleft() if self.waiting else next(self.text))
        self.number += 1
        return self.taken[-1]

    def give_back(self, since: int) -> None:
        """Read the lines from `taken[since]` on again."""
        self.waiting.extendleft(reversed(self.taken[since:]))
        self.number -= len(self.taken[since:])

    def again(self, since: int) -> Lines:
        """Go back to where `taken` was emptied, then read `since` lines; return the iterator."""
        self.give_back(0)
        self.taken = []
        for _ in range(since):
            next(self)
        return self
