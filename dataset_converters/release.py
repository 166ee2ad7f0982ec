"""Everything that the paper's authors released, of each data set that is there.

Their tree is `data/<data set>/{rating_bias,user_profile,item_profile}` and `data/topk/<data set>`;
a flat folder is read, too. The top-k split becomes a data set, the teacher's profiles training
data. Test rows with released profiles are files of their own (`released`): their profiles and
averages are made of all reviews, so nothing that trains or writes profiles may read them, and no
data set loads them.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataset_converters.base import convert, drop_lines
from dataset_converters.cleaning import Dropped
from dataset_converters.exp3rt import AlignedSource, convert_topk
from dataset_converters.manifest import Manifest
from dataset_converters.profiles import convert_profiles
from dataset_converters.read import as_id, as_number, as_text, records
from dataset_converters.write import load_properties
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import properties_dir
from recbole_exp3rt.stages.lists import Unreadable, parse_lists
from recbole_exp3rt.text import without_surrogates

Reader = Callable[[Mapping[str, Any]], dict[str, Any] | Dropped]

PARTS = ("all", "topk", "aligned", "profiles", "released")
ROWS = ("test_helpful.json", "test_similarity.json", "unseen.json")
PROFILES = {"user_profile.json": "user", "item_profile.json": "item"}
NAMES = {"user": "user_persona", "item": "item_synopsis"}  # the authors' names of a profile
NOTE = (
    "Released profiles and averages are made of all reviews, test rows included. They are here to "
    "measure with; training data and profiles must not be made of them."
)
_FILES: dict[str, str] = {  # a file that shows that a part is there
    "train.txt": "topk",
    "interactions.jsonl": "aligned",
    **{f"{side}_{name}.json": "profiles" for side in NAMES for name in ("valid", "test")},
    **dict.fromkeys([*ROWS, *PROFILES], "released"),
}
_INNER = {"topk", "rating_bias", "user_profile", "item_profile", "user_persona", "item_synopsis"}
_AVERAGE = "[Average Rating]"


@dataclass(frozen=True)
class Told:
    """What the user says of the data sets; None: what is known of one by its name."""

    item_word: str | None = None
    rating_scale: Sequence[float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def convert_release(input_path: Path, output_path: Path, told: Told, overwrite: bool) -> str:
    """Write all parts that are there into folders of `output_path`, all or none.

    Raises: UsageError if there is no part, if a folder is there already, or as a part's converter.
    """
    found = parts_of(input_path)
    targets = {(name, part): _folder(name, part) for name, parts in found.items() for part in parts}
    there = [folder for folder in targets.values() if (output_path / folder).exists()]
    if there and not overwrite:
        raise UsageError(
            f"{output_path} already holds {there[0]}; add --overwrite to replace it, or name "
            "another folder with --output_path"
        )
    parent = next(folder for folder in output_path.resolve().parents if folder.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output_path.name}.", dir=parent) as folder:
            lines = [
                _convert(part, found[name][part], Path(folder) / target, name, told)
                for (name, part), target in targets.items()
            ]
            _put_in_place(Path(folder), output_path, list(targets.values()))
    except OSError as error:
        raise UsageError(
            f"output_path={output_path}: {error.strerror}; name a folder that can be written"
        ) from error
    return "\n".join(lines)


def parts_of(input_path: Path) -> dict[str, dict[str, Path]]:
    """Data set -> part -> its folder. The name is '' where the folder is that of one data set.

    Raises: UsageError if there is no part.
    """
    if not input_path.is_dir():
        raise UsageError(f"input_path={input_path} is not a folder; name the one of the release")
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(input_path.rglob("*")):
        folder = path.parent
        inside = folder.relative_to(input_path).parts
        part = _FILES.get(path.name)
        if part and "org" not in inside and not any(p.startswith(".") for p in inside):
            at = folder if part == "topk" or folder.name not in _INNER else folder.parent
            names = [name for name in inside if name not in _INNER and name != "data"]
            found.setdefault(names[-1] if names else "", {}).setdefault(part, at)
    if not found:
        raise UsageError(
            f"input_path={input_path} holds nothing of the release, such as topk/train.txt, "
            "user_valid.json or test_helpful.json; name the folder that does"
        )
    return {name: dict(sorted(parts.items())) for name, parts in sorted(found.items())}


def _folder(name: str, part: str) -> str:
    return f"{name}-{part}" if name else part


def _convert(part: str, source: Path, output: Path, name: str, told: Told) -> str:
    """Write one part."""
    word, scale = told.item_word, told.rating_scale
    if (properties_dir() / "dataset" / f"{name}.yaml").is_file():
        known = load_properties(name)
        word, scale = word or known["item_word"], scale or known["rating_scale"]
    makers: dict[str, Callable[[], str]] = {
        "topk": lambda: convert_topk(
            source, output, load_properties("exp3rt-topk", word, scale), about=told.options
        ),
        "aligned": lambda: _aligned(source, output, told),
        "profiles": lambda: convert_profiles(source, output, word or "movie"),
        "released": lambda: convert_released(source, output, told.options),
    }
    return makers[part]()


def _aligned(source: Path, output: Path, told: Told) -> str:
    properties = load_properties("exp3rt-aligned", told.item_word, told.rating_scale)
    aligned = AlignedSource(source, properties["description_fields"])
    return convert(aligned, output, properties, 0, aligned.split)


def _put_in_place(made: Path, output_path: Path, folders: Sequence[str]) -> None:
    """Move the folders into `output_path`; older ones are removed when all are in place."""
    output_path.mkdir(parents=True, exist_ok=True)
    old = []
    for folder in folders:
        target = output_path / folder
        if target.exists():
            aside = target.with_name(f".{folder}.{os.getpid()}.old")
            target.rename(aside)
            old.append(aside)
        (made / folder).rename(target)
    for aside in old:
        shutil.rmtree(aside, ignore_errors=True)


def convert_released(
    input_path: Path, output_path: Path, options: Mapping[str, Any] | None = None
) -> str:
    """Write the released test rows and profiles as JSON lines; return what was kept and dropped.

    A row is `user_id, item_id, rating, user_profile, item_profile, item_description`, and
    `rationale` where there is one; a profile is `likes, dislikes, average_rating`, and `text` in
    place of lists where it has another form.

    Raises: UsageError if there is no such file, or if the folder cannot be written.
    """
    readers: dict[str, Reader] = {name: _row for name in ROWS}
    readers |= {name: functools.partial(_profile_of, side) for name, side in PROFILES.items()}
    files = {name: path for name in readers if (path := _find(input_path, name))}
    if not files:
        raise UsageError(
            f"input_path={input_path} has none of {', '.join(readers)}; name the folder that does"
        )
    name = output_path.resolve().name
    lines = [f"{name}: test rows and profiles released by the authors, kept apart"]
    output_path = output_path.resolve()
    partial = output_path.parent / f".{name}.{os.getpid()}.partial"
    counts: dict[str, Any] = {}
    try:
        partial.mkdir(parents=True)
        for file, path in files.items():
            dropped: Counter[str] = Counter()
            target = partial / f"{Path(file).stem}.jsonl"
            kept = _write(_read(path, readers[file]), target, dropped)
            if not kept:
                said = "; ".join(line.strip() for line in drop_lines(dropped)) or "it is empty"
                raise UsageError(f"{path} has no readable row ({said}); check the file")
            counts[target.name] = {"rows": kept, "dropped": dict(dropped)}
            lines += [f"  {target.name}: {kept:,} rows", *drop_lines(dropped)]
        manifest = Manifest("exp3rt", options or {}, list(files.values()), counts)
        manifest.counts["note"] = NOTE
        manifest.write(partial, name)
        if output_path.is_dir():
            for old in partial.iterdir():
                os.replace(old, output_path / old.name)
        else:
            partial.rename(output_path)
    except OSError as error:
        raise UsageError(
            f"output_path={output_path}: {error.strerror}; name a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return "\n".join(lines)


def _find(folder: Path, name: str) -> Path | None:
    """A file in a folder or in one of the authors' folders in it."""
    places = [folder / name, *(folder / inner / name for inner in sorted(_INNER))]
    return next((path for path in places if path.is_file()), None)


def _read(path: Path, reader: Reader) -> Iterator[dict[str, Any] | Dropped]:
    for found in records(path):
        yield reader(found) if isinstance(found, dict) else Dropped("malformed")


def _write(rows: Iterator[dict[str, Any] | Dropped], path: Path, dropped: Counter[str]) -> int:
    """Write the rows, count the dropped ones; return how many were written."""
    kept = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            if isinstance(row, Dropped):
                dropped[row.reason] += 1
            else:
                file.write(without_surrogates(json.dumps(row, ensure_ascii=False)) + "\n")
                kept += 1
    return kept


def _row(row: Mapping[str, Any]) -> dict[str, Any] | Dropped:
    """One test row."""
    ids = _ids(row, ("user_id", "item_id"))
    rating = as_number(row.get("score"))
    if row.get("score") in (None, "", "Null"):
        return Dropped("unrated")
    if ids is None or rating is None:
        return Dropped("malformed")
    profiles = {f"{side}_profile": _profile(row.get(name)) for side, name in NAMES.items()}
    if None in profiles.values():
        return Dropped("no profile")
    said = {key: as_text(row.get(key)) or "" for key in ("item_description", "rationale")}
    return {**ids, "rating": rating, **profiles, **{k: v for k, v in said.items() if v}}


def _profile_of(side: str, row: Mapping[str, Any]) -> dict[str, Any] | Dropped:
    """One row of all profiles."""
    ids, profile = _ids(row, (f"{side}_id",)), _profile(row.get(NAMES[side]))
    if ids is None:
        return Dropped("malformed")
    return {**ids, **profile} if profile else Dropped("no profile")


def _ids(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, str] | None:
    found = {name: as_id(row.get(name)) for name in names}
    given = {name: value for name, value in found.items() if value and value.strip()}
    return given if len(given) == len(names) else None


def _profile(value: object) -> dict[str, Any] | None:
    """Likes, dislikes and the average of a released profile; its text if it has no lists.

    None where there is no text.
    """
    if not isinstance(value, str) or not value.strip():
        return None
    text, mark, average = value.partition(_AVERAGE)
    number = as_number(average.strip()) if mark else None
    try:
        likes, dislikes = map(list, parse_lists(text))
    except Unreadable:
        return {"likes": None, "dislikes": None, "average_rating": number, "text": text.strip()}
    return {"likes": likes, "dislikes": dislikes, "average_rating": number}
