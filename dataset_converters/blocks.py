"""Files as blocks of lines in Arrow's form, without a Python object a line.

A block holds some megabytes of whole lines. Each line has a place: the number of its file and its
own number in it, from 1, in one integer (`place`), so that places sort as the input is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataset_converters.read import LONGEST_LINE, Unpacked, elements, is_array, opened, too_long

BLOCK = 16 * 2**20  # bytes of text
_PIECE = 2**20  # bytes that are read at a time
_ELEMENTS = 10_000  # of a JSON array in a block
_CHUNK = 8_192  # lines of a block that one thread takes
_LINE_BITS = 40  # of a place; the number of the file stands above

Places = npt.NDArray[np.int64]


def place(file: int, line: int) -> int:
    """The place of line `line`, from 1, in file number `file`, from 0."""
    return file << _LINE_BITS | line


def file_and_line(place: int) -> tuple[int, int]:
    """The number of the file and the number of the line of a place."""
    return place >> _LINE_BITS, place & ((1 << _LINE_BITS) - 1)


@dataclass(frozen=True)
class Block:
    """Lines and their places, in the order of the input."""

    places: Places  # [lines], rising
    lines: pa.Array  # [lines] of large_string, with their line feeds

    def only(self, wanted: Places) -> Block:
        """The lines whose places stand in `wanted`, which rises."""
        first, last = np.searchsorted(wanted, [self.places[0], self.places[-1] + 1])
        at = np.searchsorted(self.places, wanted[first:last])
        inside = at < len(self.places)
        at = at[inside][self.places[at[inside]] == wanted[first:last][inside]]
        return Block(self.places[at], self.lines.take(pa.array(at)))

    def table(self) -> pa.Table:
        """Columns `place` and `line`, in chunks that threads share out."""
        whole = pa.table({"place": pa.array(self.places), "line": self.lines})
        return pa.Table.from_batches(whole.to_batches(max_chunksize=_CHUNK), whole.schema)


def blocks(files: Sequence[Path], progress: Progress | None = None) -> Iterator[Block]:
    """Yield all lines of `files`, plain, gzip or zstd, or the elements of a JSON array in one.

    An empty line is left out. A byte that is not UTF-8 becomes U+FFFD.

    Raises: UsageError for a file that cannot be read, or a line longer than LONGEST_LINE.
    """
    if progress:
        progress.begin(files)
    for number, path in enumerate(files):
        with opened(path) as file:
            for block in _of_file(file, path, number):
                if progress:
                    progress.at(path, file.taken(), len(block.places))
                if len(block.places):
                    yield block


class Progress:
    """What `blocks` tells while it reads: nothing, unless a subclass says it."""

    def begin(self, files: Sequence[Path]) -> None:
        """The reading of `files` begins."""

    def at(self, path: Path, taken: int, rows: int) -> None:
        """`rows` more lines were read, and `taken` bytes of the file on the disk."""


def _of_file(file: Unpacked, path: Path, number: int) -> Iterator[Block]:
    if is_array(file):
        rest = elements(file, path)
        count = 0
        while some := list(islice(rest, _ELEMENTS)):
            lines = [line.decode("utf-8", errors="replace") for line in some]
            places = np.arange(len(some), dtype=np.int64) + place(number, count + 1)
            count += len(some)
            yield Block(places, pa.array(lines, pa.large_string()))
        return
    before = 0
    for data in whole_lines(file, path):
        block, read = _split(data, number, before, path)
        before += read
        yield block


def whole_lines(file: Unpacked, path: Path) -> Iterator[bytes]:
    """The bytes of a file in blocks that end with the end of a line."""
    pieces: list[bytes] = []
    size, open_line, number = 0, 0, 0
    while piece := file.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        end = piece.rfind(b"\n") + 1
        open_line = len(piece) - end if end else open_line + len(piece)
        if open_line > LONGEST_LINE:
            raise too_long(path, f"line {number + _line_feeds(pieces) + 1}")
        if size >= BLOCK and end:
            yield b"".join([*pieces[:-1], piece[:end]])
            number += _line_feeds(pieces)
            pieces, size = [piece[end:]], len(piece) - end
    if size:
        yield b"".join(pieces)


def _line_feeds(pieces: Iterable[bytes]) -> int:
    return sum(piece.count(b"\n") for piece in pieces)


def _split(data: bytes, file: int, before: int, path: Path) -> tuple[Block, int]:
    """The lines of a block, and how many there are with empty ones."""
    data = in_utf8(data)
    offsets = offsets_of(data, before, path)
    sizes = np.diff(offsets)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    lines = pa.Array.from_buffers(pa.large_string(), len(sizes), buffers)
    block = Block(np.arange(1, len(sizes) + 1, dtype=np.int64) + place(file, before), lines)
    filled = np.flatnonzero(
        (sizes > 1) | (np.frombuffer(data, np.uint8)[offsets[:-1]] != ord("\n"))
    )
    if len(filled) < len(sizes):
        block = Block(block.places[filled], lines.take(pa.array(filled)))
    return block, len(sizes)


def in_utf8(data: bytes) -> bytes:
    """`data` with U+FFFD for each byte that is not UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("utf-8", errors="replace").encode()
    return data


def offsets_of(data: bytes, before: int, path: Path) -> npt.NDArray[np.int64]:
    """Where the lines of `data` begin, and its end: [lines + 1]. `before` lines were read.

    Raises: UsageError for a line longer than LONGEST_LINE.
    """
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if not len(ends) or ends[-1] != len(data):
        ends = np.append(ends, len(data))
    offsets: npt.NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), ends])
    sizes = np.diff(offsets)
    if sizes.max() > LONGEST_LINE:
        raise too_long(path, f"line {before + int(np.argmax(sizes > LONGEST_LINE)) + 1}")
    return offsets


def joined(blocks: Iterable[Block]) -> Iterator[tuple[int, str]]:
    """Each line of `blocks` and its place, as Python objects."""
    for block in blocks:
        yield from zip(block.places.tolist(), block.lines.to_pylist(), strict=True)
