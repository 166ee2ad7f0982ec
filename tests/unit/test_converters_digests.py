"""Every data set of real files is what it was before the engine: its rows, and every byte.

The digests were made with the converters that read each row in Python (version 0.1, before
DuckDB). A change of them changes data sets, and with them paid answers and results.
"""

import csv
import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from dataset_converters.__main__ import main

DATA = Path(os.environ.get("EXP3RT_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}"),
]
OLD = "amazon-2014-digital-music"
NEW = "amazon-2023-format"
MUSIC_2014 = (
    *("amazon-book", "--reviews", f"{OLD}/reviews_Digital_Music_5.json.gz"),
    *("--meta", f"{OLD}/meta_Digital_Music.json.gz"),
)
MUSIC_2023 = (
    *("amazon-book", "--reviews", f"{NEW}/Digital_Music.jsonl.gz"),
    *("--meta", f"{NEW}/meta_Digital_Music.jsonl.gz"),
)
INSTRUMENTS = (
    *("amazon-book", "--reviews"),
    "amazon-2014-musical-instruments/reviews_Musical_Instruments_5.json.gz",
)
CASES = {
    "imdb-mini": ("imdb", "--input_path", "imdb-raw-mini"),
    "imdb-1200": ("imdb", "--input_path", "imdb-raw-1200"),
    "music14": MUSIC_2014,
    "music23": MUSIC_2023,
    "instruments14": INSTRUMENTS,
    "aligned": ("exp3rt", "--part", "aligned", "--input_path", "imdb-aligned"),
    "topk": ("exp3rt", "--part", "topk", "--input_path", "exp3rt-imdb/topk"),
    "table-music": ("table", f"{NEW}/Digital_Music.jsonl.gz"),
    "halves": (*MUSIC_2023[:3], "--split", "topk-halves"),
}
EXPECTED = {  # name and k-core: rows, set of (user, item, rating), files
    ("imdb-mini", 5): (4423, "2883ab033452f1a2", "7ea164b0a7d7c86a"),
    ("imdb-1200", 5): (42937, "7aa88d0d09cd5d9f", "98b86dec861dbadd"),
    ("music14", 5): (5212, "d9df862583cfcbb5", "20fd68b3b3f78e42"),
    ("music23", 0): (6908, "189ffa7a8a24355c", "3e1e6c8bfcf29e5d"),
    ("music23", 5): (5212, "d9df862583cfcbb5", "880813a764f006da"),
    ("instruments14", 5): (10261, "8d04b16fbfde5c81", "a19fd9fc512051bc"),
    ("aligned", 0): (3993, "97e9c76fa7eda235", "da90fb3e9ca55485"),
    ("aligned", 5): (3717, "adb11a5a1cfd6114", "d0846acec21b16d2"),
    ("topk", 0): (14613, "e7a49747fff10cd4", "e121471f9a420616"),
    ("topk", 5): (14411, "9703dd9434175e15", "54b680b89b013e30"),
    ("table-music", 0): (6908, "189ffa7a8a24355c", "28079020eda8fcd2"),
    ("table-music", 5): (5212, "d9df862583cfcbb5", "1c698ac79c30ce11"),
    ("halves", 0): (6636, "d467914e76f8d3a4", "1616d6096171e259"),
    ("halves", 5): (2399, "70f33231271138f4", "54c8e4a637adbf25"),
}


def digest(parts):
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def described(folder):
    """How many rows a data set has, their digest, and that of all files but the settings."""
    rows = []
    for path in folder.glob("*.inter"):
        with path.open(encoding="utf-8", newline="") as file:
            rows += [tuple(row.values())[:3] for row in csv.DictReader(file, delimiter="\t")]
    named = {path.name.partition(".")[2]: path for path in folder.iterdir()}
    files = [name.encode() + b"\0" + named[name].read_bytes() for name in sorted(named)]
    kept = [file for file in files if not file.startswith((b"yaml\0", b"json\0"))]
    return len(rows), digest("\t".join(row).encode() for row in sorted(rows)), digest(kept)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The reviews of 1,200 users, unpacked, with their metadata."""
    folder = tmp_path_factory.mktemp("imdb-raw-1200")
    with tarfile.open(DATA / "imdb-raw-1200" / "reviews_per_movie.tar.gz") as file:
        file.extractall(folder, filter="data")
    for beside in (DATA / "imdb-raw-1200").glob("*.jsonl"):
        shutil.copy(beside, folder)
    return folder


@pytest.mark.parametrize(("name", "k_core"), EXPECTED)
def test_a_data_set_is_what_it_was(tmp_path, request, name, k_core):
    words = [str(DATA / word) if (DATA / word).exists() else word for word in CASES[name]]
    if name == "imdb-1200":
        words[-1] = str(request.getfixturevalue("unpacked"))
    options = ["--k_core", str(k_core), "--output_path", str(tmp_path / "d")]
    assert main([*words, *options, "--sidecar", "jsonl"]) == 0
    assert described(tmp_path / "d") == EXPECTED[name, k_core]
