"""A fit is kept: the same model on the same rows by the same settings is not fitted again."""

import numpy as np
import pytest
from worlds import structured_rows

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.evaluator.ratings import predict_ratings
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.trainer import fit_cache
from recbole_exp3rt.trainer.fit_cache import FitCache

QUICK = {"epochs": 3, "use_gpu": False}
SMALL = {"MF.search": None, "MF.embedding_size": 4, "LightGCN.search": None}


@pytest.fixture
def fits(monkeypatch):
    """The names of the models that are really fitted."""
    done = []

    def counted(name, *args, real=fit_cache.fit, **more):
        done.append(name)
        return real(name, *args, **more)

    monkeypatch.setattr(fit_cache, "fit", counted)
    return done


def fitted(config, model="MF", folder="fits", refit=False):
    return FitCache(folder).fit(model, config, load_split(config), refit=refit)


@pytest.mark.parametrize("refit", [False, True])
def test_a_kept_model_predicts_the_same_and_is_fitted_once(make_world, fits, refit):
    config = make_world(structured_rows(), **QUICK, **SMALL)
    first, again = (fitted(config, refit=refit) for _ in range(2))
    assert fits == ["MF"]
    rows = np.arange(again.split.size("test"))
    before, after = (predict_ratings(one, one.split, rows) for one in (first, again))
    assert (before == after).all()
    assert (first.epochs, first.chosen, first.valid_result, first.refitted) == (
        (again.epochs, again.chosen, again.valid_result, again.refitted)
    )


def test_a_kept_generator_ranks_the_same(make_world, fits):
    config = make_world(structured_rows(), **QUICK, **SMALL)
    first, again = (fitted(config, "LightGCN") for _ in range(2))
    assert fits == ["LightGCN"]
    one, two = (evaluate_ranking(config, f.split, f) for f in (first, again))
    assert one.metrics == two.metrics


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"eval_pairs": 3, "explanations": 0}, False),  # shapes no model
        ({"epochs": 2}, True),
        ({"seed": 7}, True),
        ({"MF.embedding_size": 8}, True),
        ({"MF.learning_rate": 0.1}, True),
    ],
)
def test_another_setting_is_another_fit_where_it_shapes_the_model(make_world, fits, change, again):
    fitted(make_world(structured_rows(), **QUICK, **SMALL))
    fitted(make_world(structured_rows(), **{**QUICK, **SMALL, **change}))
    assert len(fits) == 1 + again


def test_another_rating_of_one_row_is_another_fit(make_world, fits):
    rows = structured_rows()
    fitted(make_world(rows, **QUICK), "Bias")
    user, item, rating, time = rows[0]
    fitted(make_world([(user, item, 6 - rating, time), *rows[1:]], **QUICK), "Bias")
    assert fits == ["Bias", "Bias"]


def test_a_damaged_file_is_fitted_again_and_mended(make_world, fits, tmp_path):
    config = make_world(structured_rows(), **QUICK)
    fitted(config, "Bias", tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    for damage in (
        b"",
        b"\x00" * 40,
        whole[: len(whole) // 2],
        whole.replace(b"epochs", b"epachs"),
    ):
        file.write_bytes(damage)
        fitted(config, "Bias", tmp_path / "kept")
        assert file.read_bytes() == whole
    assert len(fits) == 5
    fitted(config, "Bias", tmp_path / "kept")
    assert len(fits) == 5


def test_a_cache_that_cannot_be_written_costs_no_result(make_world, fits, tmp_path):
    (tmp_path / "file").touch()
    cache = FitCache(tmp_path / "file" / "fits")
    config = make_world(structured_rows(), **QUICK)
    assert cache.fit("Bias", config, load_split(config), refit=False).name == "Bias"
    assert "cannot be written" in cache.trouble and not cache.hits
