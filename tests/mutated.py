"""Input files of every converter with broken rows in them, and what must hold for any of them.

Each form writes `count` rows, about half of them mutated, and says how to convert them. Every row
has to be kept or counted, and every id has to come back from RecBole's reader as it was written.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataset_converters.__main__ import main

HUGE = "an integer of 6,000 digits"
_DEEP: list[Any] = []
for _ in range(400):
    _DEEP = [_DEEP, "deep"]
AWKWARD: list[Any] = [
    *(None, True, False, 0, 0.0, -1, 7, 1.0, 1.5, 1e19, 1e300, float("nan"), float("inf"), HUGE),
    *([], [1], [[]], {}, {"a": [1]}, {"name": ["x"]}, ["a", None, 3], _DEEP),
    *("", " ", "NA", "null", "[PAD]", " u1 ", "u1 ", "1", "1.0", "007", "1e5", "-1", "٣", "1_0"),
    *("a\tb", "a\nb", "a\rb", "a\0b", "\x1b[31m", "\u2028", "\ud83d", "x\udc00", "\ufeffu", "１"),
    *('"', "'", 'a"b', "a,b", "=1+1", "\\", "\\N", "é", "e\u0301", "<br/>", "&#xD83D;", "&#0;"),
    *("x" * 1_001, "y" * 131_073, "9" * 400, "1,204", "12 May 2013", "30 February 2019"),
    *('{"Author": ["x"]}', "[" * 900 + "]" * 900, "[Like]\n- x", "[Like]\n\n[Dislike]\n"),
]
JUNK = [
    *(b"[" * 50_000, b"-" * 20_000 + b"1", b'{"a":' * 5_000, b"{[1]: 2}", b"{{}: 1}", b"{1, [2]}"),
    *(b"null", b"3", b'"text"', b"[1]", b"{}", b"\xff\xfe", b"\0", b"{'a': b'b'}", b"nan", b"'"),
    b'"\\ud83d"',
]
DAYS = ("9 September 2012", "12 May 2013", "30 January 2019")
Form = Callable[[random.Random, Path, int], list[str]]  # writes the rows; the arguments


def mutated(chance: random.Random, row: dict[str, Any]) -> bytes:
    """`row` as a line of JSON without its end, with one or two faults."""
    for _ in range(chance.randint(1, 2)):
        key = chance.choice(list(row))
        if chance.random() < 0.1:
            del row[key]
            row = row or {"a": 1}
        else:
            row[key] = chance.choice(AWKWARD)
    return damaged(chance, as_json(row)) if chance.random() < 0.25 else as_json(row)


def as_json(row: Any) -> bytes:
    text = json.dumps(row, ensure_ascii=True).replace(json.dumps(HUGE), "9" * 6_000)
    return text.encode()


def damaged(chance: random.Random, line: bytes) -> bytes:
    """The line cut off, with a byte of it lost, exchanged or added, or something else."""
    at = chance.randrange(len(line))
    odd = chance.choice([b"\r", b'"', b"\xff", b"\0", b"{", b"]", b",", b"\\", b"\xed\xa0\xbd"])
    found = [line[:at] or b"{", line[:at] + line[at + 1 :], line[:at] + odd + line[at:]]
    result = chance.choice([*found, chance.choice(JUNK)])
    return result if result.strip() else b"{}"


def json_lines(chance: random.Random, path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [as_json(r) if chance.random() < 0.5 else mutated(chance, r) for r in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")


def _pair(chance: random.Random) -> tuple[str, str]:
    return f"u{chance.randrange(60)}", f"i{chance.randrange(90)}"


def _amazon(review: Callable[..., dict[str, Any]], item: Callable[..., dict[str, Any]]) -> Form:
    def write(chance: random.Random, folder: Path, count: int) -> list[str]:
        rows = [review(*_pair(chance), chance.randint(1, 5)) for _ in range(count)]
        json_lines(chance, folder / "r.jsonl", rows)
        json_lines(chance, folder / "m.jsonl", [item(f"i{n}") for n in range(90)])
        files = ["--reviews", str(folder / "r.jsonl"), "--meta", str(folder / "m.jsonl")]
        return ["amazon-book", *files]

    return write


def _row_2014(user: str, item: str, rating: int) -> dict[str, Any]:
    row = {"reviewerID": user, "asin": item, "overall": float(rating), "helpful": [3, 4]}
    return row | {"unixReviewTime": 991526400 + rating, "summary": "So.", "reviewText": "Good."}


def _row_2018(user: str, item: str, rating: int) -> dict[str, Any]:
    row = _row_2014(user, item, rating) | {"vote": "1,204", "style": {"Format:": " Hardcover"}}
    del row["helpful"]
    return row


def _row_2023(user: str, item: str, rating: int) -> dict[str, Any]:
    row = {"user_id": user, "parent_asin": item, "asin": item + "-hardcover", "rating": rating}
    return row | {"timestamp": 991526400000, "title": "So", "text": "Good.", "helpful_vote": 2}


def _item_2018(item: str) -> dict[str, Any]:
    return {"asin": item, "title": "T", "category": ["a", "b"], "brand": "B", "description": ["d"]}


def _item_2023(item: str) -> dict[str, Any]:
    row = {"parent_asin": item, "title": "T", "categories": ["a"], "author": {"name": "A"}}
    return row | {"details": {"Author": "A"}, "description": ["d"], "store": "B (Author)"}


def _imdb(chance: random.Random, folder: Path, count: int) -> list[str]:
    header = ["username", "rating", "helpful", "total", "date", "title", "review"]
    texts = ("Good.", 'He said "no".', "Two\nlines, 8, 3.", "")
    for film in range(10):
        lines = [",".join(f'"{name}"' for name in header).encode()]
        for _ in range(count * (film + 1) // 10 - count * film // 10):
            cells = [_pair(chance)[0], str(chance.randint(1, 10)), "1,093", "2"]
            cells += [chance.choice(DAYS), " So\n", chance.choice(texts)]
            fault = chance.random()
            if fault < 0.3:
                cells[chance.randrange(7)] = _cell(chance.choice(AWKWARD))
            line = b",".join(
                b'"' + c.replace('"', '""').encode("utf-8", "replace") + b'"' for c in cells
            )
            if 0.3 <= fault < 0.45:
                marks = [at for at, byte in enumerate(line) if byte == ord('"')]
                at = chance.choice(marks)
                line = line[:at] + line[at + 1 :]  # not opened or not closed
            elif fault >= 0.95 and lines[-1].count(b'"') % 2 == 0:
                line = b"a stray,row"  # after a quotation mark that is not closed, it is text
            lines.append(line)
        (folder / f"Film_ {film} {1990 + film}.csv").write_bytes(b"\r\n".join(lines) + b"\r\n")
    return ["imdb", "--input_path", str(folder)]


def _cell(value: object) -> str:
    return "9" * 6_000 if value == HUGE else str(value)[:140_000]


def _aligned(chance: random.Random, folder: Path, count: int) -> list[str]:
    rows = []
    for _ in range(count):
        user, item = _pair(chance)
        row = {"user_id": user, "item_id": item, "rating": str(chance.randint(1, 10))}
        row |= {"helpful": "2", "date": chance.choice(DAYS), "title": "So", "review": "Good."}
        rows.append(row | ({"exp3rt_test_score": "6"} if chance.random() < 0.2 else {}))
    json_lines(chance, folder / "interactions.jsonl", rows)
    lines = "Title: T (1999)\nGenres: Drama\nPlot: P"
    items = [{"item_id": f"i{n}", "exp3rt_item_description": lines} for n in range(45)]
    movie = {"title": "T", "year": 2001, "plot": "P"}
    items += [{"item_id": f"i{n}", "metadata": movie, "file": "T 2001.csv"} for n in range(45, 90)]
    json_lines(chance, folder / "item_descriptions.jsonl", items)
    return ["exp3rt", "--part", "aligned", "--input_path", str(folder)]


def _topk(chance: random.Random, folder: Path, count: int) -> list[str]:
    for name, letter, size in (("user", "u", 60), ("item", "i", 90)):
        lines = [b"org_id remap_id"] + [f"{letter}{n} {n}".encode() for n in range(size)]
        lines = [damaged(chance, line) if chance.random() < 0.1 else line for line in lines]
        (folder / f"{name}_list.txt").write_bytes(b"\n".join(lines) + b"\n")
    for part, size in (("train", count * 3 // 4), ("test", count - count * 3 // 4)):
        lines = []
        while size > 0:
            items = [str(chance.randrange(90)) for _ in range(min(size, chance.randint(1, 9)))]
            size -= len(items)
            for at in range(len(items)):
                if chance.random() < 0.5:
                    odd = ("x", "٣", "-1", "1.0", "007", "99999999999999999999", "\ufffd", "True")
                    items[at] = chance.choice(odd)
            user = str(chance.randrange(60)) if chance.random() < 0.9 else "\0"
            lines.append(" ".join([user, *items]))
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["exp3rt", "--part", "topk", "--input_path", str(folder)]


def _profiles(chance: random.Random, folder: Path, count: int) -> list[str]:
    told = "[Like]\n- calm score\n\n[Dislike]\n- None\n---\n[Like]\n- None\n\n[Dislike]\n- haste"
    entry = {"instruction": "", "input": told, "output": "[Like]\n- Calm\n\n[Dislike]\n- Haste"}
    for number, name in enumerate(("user_valid", "user_test", "item_valid", "item_test")):
        size = count * (number + 1) // 4 - count * number // 4
        rows = []
        for _ in range(size):
            kind = chance.random()
            if kind < 0.5:
                rows.append(as_json(entry))
            elif kind < 0.9:
                key = chance.choice(list(entry))
                rows.append(as_json(entry | {key: chance.choice(AWKWARD)}))
            else:
                rows.append(as_json(chance.choice(AWKWARD)))
        (folder / f"{name}.json").write_bytes(b"[\n" + b",\n".join(rows) + b"\n]\n")
    return ["exp3rt", "--part", "profiles", "--input_path", str(folder)]


def _imdb_json(chance: random.Random, folder: Path, count: int) -> list[str]:
    rows = []
    for _ in range(count):
        user, item = _pair(chance)
        row = {"review_id": "rw", "reviewer": user, "movie": item, "rating": "8"}
        row |= {"review_summary": "So", "review_date": chance.choice(DAYS), "spoiler_tag": 0}
        rows.append(row | {"review_detail": "Good.", "helpful": ["2", "5"]})
    json_lines(chance, folder / "part-01.json", rows)
    return ["imdb", "--input_path", str(folder)]


FORMS: dict[str, Form] = {
    "2014": _amazon(_row_2014, _item_2018),
    "2018": _amazon(_row_2018, _item_2018),
    "2023": _amazon(_row_2023, _item_2023),
    "imdb": _imdb,
    "imdb-json": _imdb_json,
    "aligned": _aligned,
    "topk": _topk,
    "profiles": _profiles,
}


def convert(form: str, seed: int, count: int, folder: Path) -> tuple[int, int]:
    """Write and convert `count` rows; how many were kept and how many counted as dropped.

    The data set is `folder`/out. Raises: whatever a conversion raises; AssertionError if it ends
    with an error or changes an id.
    """
    source, out = folder / "in", folder / "out"
    source.mkdir(parents=True)
    arguments = [*FORMS[form](random.Random(seed), source, count), "--output_path", str(out)]
    said, failed = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(failed):
        code = main([*arguments, "--k_core", "0", "--overwrite"])
    assert code == 0, f"{form} seed {seed}: {failed.getvalue()}"
    report = said.getvalue()
    dropped = sum(
        int(n.replace(",", "")) for n in re.findall(r"^  dropped ([\d,]+):", report, re.M)
    )
    if form == "profiles":
        found = re.findall(r"([\d,]+) train, ([\d,]+) valid", report)
        return sum(int(n.replace(",", "")) for pair in found for n in pair), dropped
    ids = {side: read_ids(out, side) for side in ("user", "item")}
    if form != "topk":
        texts = [json.loads(line) for line in (out / "out.reviews.jsonl").open(encoding="utf-8")]
        for side, found in ids.items():
            assert sorted(row[f"{side}_id"] for row in texts) == sorted(found), f"{form} {side} ids"
    return len(ids["user"]), dropped


def read_ids(out: Path, side: str) -> list[str]:
    """The ids of every interaction, as Python's own reader sees them."""
    found = []
    for path in out.glob("*.inter"):
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            found += [row[f"{side}_id:token"] for row in rows]
    return found
