"""A split is read and digested over columns: the same as RecBole's own reading, row by row."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_exp3rt.config.atomic_files import read_columns, read_csv
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import PARTS, load_split

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def how(path: Path, encoding: str = "utf-8") -> dict[str, object]:
    columns = path.read_text(encoding).lstrip("\ufeff").splitlines()[0].split("\t")
    kinds = {name: str if name.endswith("token") else np.float64 for name in columns}
    own = {"usecols": columns, "dtype": kinds, "encoding": encoding}
    return {"delimiter": "\t", "engine": "python", **own}


FILES = {
    "plain": "u\ti\t4\t1.5\n007\ti\t3.5\t1e9\n",
    "missing": "NA\ti\t\tnan\nnull\ti\t4\t2\nu\t\t4\t-1\n",
    "spaces stay in ids": " u \ti i\t4\t2\nu\ti\t 4\t2\n",
    "quotes": '"a\tb"\ti\t4\t2\nu"x\ti\t4\t2\n',
    "short and empty lines": "u\ti\t4\n\n  \nu\ti\t4\t2\n",
    "one field more": "u\ti\t4\t2\nu\ti\t4\t2\t9\n",
    "windows": "u\ti\t4\t2\r\nv\ti\t4\t2\r\n",
    "long numbers": "u\ti\t4.000000000000000001\t1700000000.1234567\nu\tj\t0.1\t1e-7\n",
    "no rows": "",
    "no last end of line": "u\ti\t4\t2\nv\ti\t4\t2",
    "other letters": "é\t用户\t4\t2\n",
    "signs": "u\ti\t+4\t-2\nu\tj\t.5\t5.\nu\tk\tinf\t0004\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("header", [HEADER, "\ufeff" + HEADER], ids=["", "mark"])
def test_columns_are_those_of_recbole_s_reading(tmp_path, name, header):
    path = tmp_path / "d.inter"
    path.write_bytes((header + FILES[name]).encode())
    given = how(path, "utf-8-sig" if header[0] == "\ufeff" else "utf-8")
    pd.testing.assert_frame_equal(
        read_csv(path, **given), pd.read_csv(path, **given), check_exact=True
    )


def test_a_file_that_recbole_cannot_read_fails_as_with_recbole(tmp_path):
    path = tmp_path / "d.inter"
    path.write_text(HEADER + "u\ti\t4\t2\nu\ti\tfour\t2\n")
    with pytest.raises(ValueError) as ours:
        read_csv(path, **how(path))
    with pytest.raises(ValueError) as theirs:
        pd.read_csv(path, **how(path))
    assert str(ours.value) == str(theirs.value)


def test_plain_files_are_read_as_columns_and_an_id_is_held_once(tmp_path):
    path = tmp_path / "d.inter"
    path.write_text(HEADER + "u\ti\t4\t2\n" * 50)
    columns = list(how(path)["usecols"])
    for encoding in ("utf-8", "utf-8-sig", None):  # those of a run
        assert read_columns(path, "\t", columns, encoding) is not None
    assert read_columns(path, "::", columns, "utf-8") is None
    assert read_columns(path, "\t", columns, "latin-1") is None
    assert len({id(user) for user in read_csv(path, **how(path))["user_id:token"]}) == 1


SPLITS = {
    "by time": {"order": "TO", "group_by": "user", "split": {"RS": [8, 1, 1]}},
    "at random": {"order": "RO", "group_by": "none", "split": {"RS": [8, 1, 1]}},
    "leave one out": {"order": "TO", "group_by": "user", "split": {"LS": "valid_and_test"}},
}


@pytest.mark.parametrize("name", SPLITS)
def test_the_split_is_recbole_s_own(name, monkeypatch):
    rows = [(k % 9, (k * k) % 13, 1 + k % 5, 1e9 + (k * 37) % 101 * 1000) for k in range(300)]
    folder = Path("dataset/own")
    folder.mkdir(parents=True)
    text = "".join(f"u{u}\ti{i}\t{r}\t{t}\n" for u, i, r, t in rows)
    (folder / "own.inter").write_text(HEADER + text)
    settings = {
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "rating_scale": [1, 5],
        "eval_args": SPLITS[name],
    }
    with monkeypatch.context() as patch:
        patch.setattr(pd, "read_csv", None)  # all is read as columns
        ours = load_split(Config("Bias", "own", config_dict=settings))

    from recbole.data.dataset import Dataset
    from recbole.utils import init_seed

    config = Config("Bias", "own", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    for part, theirs in zip(PARTS, Dataset(config).build(), strict=True):
        mine = getattr(ours, part)
        for field in ("user_id", "item_id", "rating", "timestamp"):
            assert mine.inter_feat[field].dtype == theirs.inter_feat[field].dtype
            assert mine.inter_feat[field].tolist() == theirs.inter_feat[field].tolist()
        assert list(mine.field2id_token["user_id"]) == list(theirs.field2id_token["user_id"])
    assert ours.digest == digest_over_pairs(ours)
    before = {pair for part in PARTS[:2] for pair in ours.pairs(part)}
    assert ours.repeats("test").tolist() == [pair in before for pair in ours.pairs("test")]
    assert any(ours.repeats("test")) and not ours.repeats("train").any()


def digest_over_pairs(split) -> str:
    """The digest by its definition: sorted lines, with the time where a pair has several rows."""
    found = Counter(pair for part in PARTS for pair in split.pairs(part))
    digest = hashlib.sha256()
    for part in PARTS:
        times = map(str, split.column(part, "timestamp"))
        rows = zip(split.pairs(part), times, strict=True)
        lines = sorted((*pair, at) if found[pair] > 1 else pair for pair, at in rows)
        digest.update(f"\0{part}\n".encode() + "".join("\t".join(x) + "\n" for x in lines).encode())
    return digest.hexdigest()
