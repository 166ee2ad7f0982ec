"""The size of an evaluation batch shapes the time of a ranking model's fit, and no metric."""

import pytest
from worlds import structured_rows

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.trainer.fitting import fit


def measured(make_world, model, **settings):
    """Metrics on test, the best validation, and the users of each batch of validation."""
    rows = structured_rows(n_users=20, n_items=30)
    config = make_world(rows, model=model, search=None, epochs=1, use_gpu=False, **settings)
    split = load_split(config)
    fitted = fit(model, config, split, refit=False)
    return evaluate_ranking(config, split, fitted).metrics, fitted.trainer.best_valid_result, config


@pytest.mark.parametrize("model", ["BPR", "NeuMF", "SASRec"])
def test_small_and_large_batches_give_the_same_metrics(make_world, model):
    """NeuMF scores pair by pair; of SASRec RecBole's batches have other sizes."""
    usual, valid, config = measured(make_world, model)
    assert config["eval_batch_size"] == 2**20 > 20 * 31, "all users are one batch"
    small, small_valid, _ = measured(make_world, model, eval_batch_size=40)
    assert small == usual and small_valid == valid


def test_a_model_that_scores_pairs_gets_no_more_than_its_layers_have_room_for(make_world):
    rows = structured_rows(n_users=10)
    config = make_world(rows, model="NeuMF", search=None, epochs=1, use_gpu=False)
    fitted = fit("NeuMF", config, load_split(config), refit=False)
    assert fitted.trainer.test_batch_size == 2**16
    given = make_world(rows, model="NeuMF", search=None, epochs=1, eval_batch_size=50)
    assert fit("NeuMF", given, load_split(given), refit=False).trainer.test_batch_size == 50
