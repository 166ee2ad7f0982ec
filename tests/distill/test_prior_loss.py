"""A training whose ratings are anchored at Bias: it learns what inference will read."""

import json
from random import Random

import numpy as np
import pytest
import torch

from recbole_exp3rt.distill.train import lora_trainer, prior_base
from recbole_exp3rt.distill.train.rating_loss import anchored_losses, expected_ratings
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.records import RatingPrediction
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.prior import Prior, log_normal
from recbole_exp3rt.train import make_settings, train

TEN = RatingScale.between(1, 10)
QUICK = {"preset": "cpu", "batch_size": 8, "micro_batch": 4, "epochs": 2, "device": "cpu"}
QUICK |= {"stop_on": "rmse", "dtype": "float32"}
SIGMA = 1.2
WORDS = ("bad", "fair", "great")
ADAPTER = "adapter_model.safetensors"


def fit(base, data, output, say=lambda text: None, **more):
    given = {**QUICK, "base": base, "data": str(data), "output": str(output), **more}
    return train(make_settings(given), say=say).metrics[""]


def write(folder, rows, seed=0, speaks=True, sigma=SIGMA):
    """Ratings of Bias plus what a word says of them; a mute word says nothing."""
    random = Random(seed)
    folder.mkdir(parents=True)

    def line(k):
        word, bias = random.randrange(3), random.uniform(3, 8)
        rating = round(bias + (2 * (word - 1) if speaks else 0) + random.gauss(0, 0.3))
        turns = [
            {"role": "user", "content": f"{WORDS[word]} {WORDS[word]}"},
            {"role": "assistant", "content": f"Predicted User Rating: {TEN.label_of(rating)}"},
        ]
        return json.dumps({"messages": turns, "bias": bias}) + "\n"

    (folder / "rating.train.jsonl").write_text("".join(line(k) for k in range(rows)))
    (folder / "rating.valid.jsonl").write_text("".join(line(k) for k in range(rows // 2)))
    told = {"scale": [1, 10], "use_reasoning": False, "prior": {"sigma": sigma}}
    card = {"dataset": "w", "teacher": {}, "prompts": "a", "synthetic": True}
    (folder / "card.json").write_text(json.dumps({**card, "train_pairs": [], "settings": told}))
    return folder


def bias_rmse(data):
    lines = map(json.loads, (data / "rating.valid.jsonl").read_text().splitlines())
    errors = [
        line["bias"] - TEN.level_of(line["messages"][-1]["content"].split()[-1]) for line in lines
    ]
    return float(np.sqrt(np.mean(np.square(errors))))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("prior") / "data", 48)


def test_a_rating_is_anchored_in_training_as_at_inference():
    said = torch.tensor([[0.1, 0.4, 0.2, 0.3, 0.5, 0.9, 1.2, 0.3, 0.2, 0.1]]).log_softmax(dim=-1)
    base = np.log(np.full(10, 0.1))
    bias = np.array([6.3])
    prior = torch.tensor(log_normal(bias, SIGMA, TEN))
    anchored = said.double() - torch.tensor(base) + prior
    shares = dict(zip(TEN.labels, said.exp()[0].tolist(), strict=True))
    one = RatingPrediction("u", "i", "", 0.0, 1.0, shares)
    (wanted,) = Prior(SIGMA, tuple(base), 1.0).apply([one], bias, TEN)
    levels = torch.tensor(TEN.levels, dtype=torch.float64)
    assert expected_ratings(anchored, levels).item() == pytest.approx(wanted.expected)
    loss = anchored_losses(anchored, torch.tensor([6]))
    assert loss.item() == pytest.approx(-np.log(wanted.probabilities[TEN.labels[6]]))


def test_a_base_model_is_bias_before_it_learns(tiny, data, tmp_path):
    said = []
    metrics = fit(tiny, data, tmp_path / "s", said.append, epochs=1, learning_rate=1e-9)
    # what it says is close to its own mean, which is taken away
    assert metrics["eval_rmse"][0][1] == pytest.approx(bias_rmse(data), rel=0.02)
    card = json.loads((tmp_path / "s" / CARD).read_text())
    assert len(card["prior_base"]) == 10
    assert sum(np.exp(card["prior_base"])) == pytest.approx(1, abs=1e-4)


def test_a_student_learns_what_bias_does_not_know(tiny, data, tmp_path):
    given = {"epochs": 8, "patience": 8, "learning_rate": 0.01, "rating_loss_weight": 10}
    metrics = fit(tiny, data, tmp_path / "s", rating_loss="both", **given)
    assert metrics["best_eval_rmse"] < 0.85 * bias_rmse(data)


def test_it_stays_at_bias_where_the_texts_say_nothing(tiny, tmp_path):
    mute = write(tmp_path / "mute", 48, speaks=False, sigma=0.5)
    metrics = fit(tiny, mute, tmp_path / "s", epochs=2, learning_rate=0.005)
    assert metrics["best_eval_rmse"] == pytest.approx(bias_rmse(mute), abs=0.15)


def test_a_stopped_training_goes_on_with_the_same_base(tiny, data, tmp_path, monkeypatch):
    given = {"rating_loss": "both", "learning_rate": 0.01, "checkpoint_minutes": 1e-6}
    wanted = fit(tiny, data, tmp_path / "whole", **given)
    step, calls = lora_trainer.AnswerTrainer.training_step, []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            raise SystemExit
        return step(*args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(lora_trainer.AnswerTrainer, "training_step", stopping)
        fit(tiny, data, tmp_path / "again", **given)
    with monkeypatch.context() as patched:  # it is not taken again, from a model that has learned
        patched.setattr(prior_base, "_mean_labels", None)
        got = fit(tiny, data, tmp_path / "again", **given)
    for key in ("loss", "eval_loss", "eval_rmse", "prior_base"):
        assert got[key] == wanted[key], key
    whole = (tmp_path / "whole" / ADAPTER).read_bytes()
    assert (tmp_path / "again" / ADAPTER).read_bytes() == whole


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rating_loss": "both", "rating_softmax": "vocabulary"}, "take rating_softmax=labels"),
        ({"batching": "packing", "stop_on": "loss"}, "take batching=length_grouping"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(given, said, tiny, data, tmp_path):
    with pytest.raises(UsageError, match=said):
        fit(tiny, data, tmp_path / "s", **given)


def test_ratings_without_bias_are_named(tiny, data, tmp_path):
    place = write(tmp_path / "data", 8)
    rows = (place / "rating.train.jsonl").read_text().replace('"bias"', '"base"')
    (place / "rating.train.jsonl").write_text(rows)
    with pytest.raises(UsageError, match="annotate again with use_bias=prior"):
        fit(tiny, place, tmp_path / "s")
