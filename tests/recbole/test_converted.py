"""What the converters make of mutated rows, as RecBole loads it."""

from __future__ import annotations

import pytest
from mutated import FORMS, convert, read_ids

from recbole_exp3rt.config.configurator import Config


@pytest.mark.parametrize("form", [form for form in FORMS if form != "profiles"])
def test_recbole_has_the_ids_that_were_written(form, tmp_path):
    from recbole.data import create_dataset

    convert(form, 3, 300, tmp_path / "dataset")
    dataset = create_dataset(Config("BPR", "out", config_dict={"data_path": "dataset"}))
    for side, field in (("user", dataset.uid_field), ("item", dataset.iid_field)):
        written = set(read_ids(tmp_path / "dataset" / "out", side))
        assert set(dataset.field2id_token[field]) == written | {"[PAD]"}
