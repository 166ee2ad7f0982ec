"""Tables for other programs: a spreadsheet that opens the CSV runs nothing of it."""

import pandas as pd
import pytest

from recbole_exp3rt.evaluator.exports import write_table

TABLE = pd.DataFrame(
    {
        "user_id": ["=1+1", "+cmd", "-5", "@SUM(A1)", "plain", "\uff1d1+1"],
        "rationale": ["=HYPERLINK(1)", "\t=1", "\r=1", None, "a = b", "-x, \"y\""],
        "rating": [-1.5, 0.0, 1.0, -2.0, float("nan"), 3.0],
        "=1+2": [True, False, True, True, False, False],
    }
)  # fmt: skip


def test_no_cell_of_a_csv_is_a_formula_and_numbers_stay_numbers(tmp_path):
    path = write_table(TABLE, tmp_path, "ratings", "csv")
    read = pd.read_csv(path, dtype={"user_id": str}, lineterminator="\n")
    assert read["user_id"].tolist() == ["'=1+1", "'+cmd", "-5", "'@SUM(A1)", "plain", "'\uff1d1+1"]
    said = read["rationale"].fillna("").tolist()
    assert said == ["'=HYPERLINK(1)", "'\t=1", "'\r=1", "", "a = b", '\'-x, "y"']
    assert read["rating"].tolist()[:4] == [-1.5, 0.0, 1.0, -2.0] and "'=1+2" in read


@pytest.mark.parametrize(("form", "safe"), [("csv", False), ("parquet", True), ("jsonl", True)])
def test_other_forms_and_a_csv_that_is_asked_to_hold_what_is_said(tmp_path, form, safe):
    path = write_table(TABLE[["user_id"]], tmp_path, "ratings", form, safe_cells=safe)
    readers = {"csv": pd.read_csv, "parquet": pd.read_parquet}
    read = readers[form](path) if form in readers else pd.read_json(path, lines=True, dtype=False)
    assert read["user_id"].astype(str).tolist() == TABLE["user_id"].tolist()
