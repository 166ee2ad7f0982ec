"""The squared error of the expected rating as a loss: the mathematics, and what a student learns."""

import json
import math
from pathlib import Path

import pytest
import students
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from recbole_exp3rt.distill.train import lora_trainer
from recbole_exp3rt.distill.train.base import TrainableModel
from recbole_exp3rt.distill.train.encode import IGNORED, encode, placed
from recbole_exp3rt.distill.train.label_tree import branches_of
from recbole_exp3rt.distill.train.packing import NAME
from recbole_exp3rt.distill.train.rating_loss import (
    RatedBatches,
    expected_ratings,
    label_scores,
    squared_errors,
)
from recbole_exp3rt.distill.train.run import difference
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Readout, Request, score
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.train import make_settings, train

STARS = RatingScale.between(0.5, 5, 0.5)
QUICK = {"preset": "cpu", "batch_size": 4, "micro_batch": 2, "epochs": 2, "device": "cpu"}
ADAPTER = "adapter_model.safetensors"


def fit(base, data, output, say=lambda text: None, **more):
    given = {**QUICK, "base": base, "data": str(data), "output": str(output), **more}
    return train(make_settings(given), say=say).metrics[""]


def scaled(folder, scale, answer=students.rating_answer, rows=12):
    """The rating examples of `students`, with answers on a scale that the card names."""
    students.write_data(folder, train=rows)
    for file in folder.glob("*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        first = rows if "valid" in file.name else 0
        for k, line in enumerate(lines, first):
            line["messages"][-1]["content"] = answer(k)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = json.loads((folder / "card.json").read_text())
    settings = {"scale": scale.setting, "use_reasoning": True, "max_new_tokens": 12}
    (folder / "card.json").write_text(json.dumps({**card, "settings": settings}))
    return folder


def starred(k):
    return f"Reasoning: The rain suits taste {k}.\nPredicted User Rating: {STARS.labels[k % 10]}"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return scaled(tmp_path_factory.mktemp("digits") / "data", students.SCALE)


@pytest.fixture(scope="module")
def stars(tmp_path_factory):
    return scaled(tmp_path_factory.mktemp("stars") / "data", STARS, starred)


# --- the mathematics


def test_the_squared_error_by_hand():
    levels = torch.tensor([1.0, 2.0, 3.0])
    scores = torch.tensor([[0.1, 0.15, 0.25]]).log()  # half of the probability is on no label
    # over the labels 0.2, 0.3, 0.5: 2.3; over the vocabulary: 0.1 + 0.3 + 0.75
    assert expected_ratings(scores, levels).tolist() == pytest.approx([2.3])
    assert expected_ratings(scores, levels, "vocabulary").tolist() == pytest.approx([1.15])
    lowest, highest = torch.tensor([0]), torch.tensor([2])
    assert squared_errors(scores, levels, lowest).item() == pytest.approx((1.3 / 2) ** 2)
    assert squared_errors(scores, levels, highest, "vocabulary").item() == pytest.approx(
        (1.85 / 2) ** 2
    )


@pytest.mark.parametrize("softmax", ["labels", "vocabulary"])
def test_its_gradient_is_that_of_finite_differences(softmax):
    torch.manual_seed(0)
    levels = torch.arange(1.0, 6.0, dtype=torch.float64)
    logits = torch.randn(2, 4, 9, dtype=torch.float64)
    rows, columns = torch.tensor([0, 1]), torch.tensor([[[1, 2]] * 5, [[3, 0]] * 5])
    tokens = torch.tensor([[[0, 3], [0, 4], [1, -1], [2, -1], [5, 6]]] * 2)
    columns = columns.where(tokens != -1, -1)

    def loss(given):
        scores = label_scores(given, rows, columns, tokens)
        return squared_errors(scores, levels, torch.tensor([1, 4]), softmax).sum()

    asked = logits.clone().requires_grad_()
    loss(asked).backward()
    step = 1e-5
    for place in [(0, 1, 0), (0, 1, 7), (0, 2, 3), (1, 3, 5), (1, 0, 6), (1, 2, 2), (0, 3, 1)]:
        up, down = logits.clone(), logits.clone()
        up[place] += step
        down[place] -= step
        slope = (loss(up) - loss(down)) / (2 * step)
        assert asked.grad[place].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-9)


def test_cross_entropy_does_not_know_what_is_near_and_the_squared_error_does():
    levels = torch.arange(1.0, 11.0)

    def pull(true):
        scores = torch.zeros(1, 10, requires_grad=True)
        squared_errors(scores, levels, torch.tensor([true])).sum().backward()
        return scores.grad[0]

    up = pull(9)
    assert (up.diff() < 0).all()  # the nearer to the true 10, the more it is raised
    assert (cross_entropy_gradient(9)[:9].diff() == 0).all()


def cross_entropy_gradient(true):
    scores = torch.zeros(1, 10, requires_grad=True)
    cross_entropy(scores, torch.tensor([true])).backward()
    return scores.grad[0]


def test_labels_that_begin_alike_share_their_branches():
    labels = ((1, 9), (1, 0, 9), (2, 9))  # 1, 10 and 2, with the end of the turn
    branches = branches_of(labels, 2)  # the text is "2"
    assert branches.tokens == (1, 0) and branches.depths == (1, 2)
    assert branches.sees == ((0, (0,)), (0, (0, 1)))
    assert branches.scored == (((0, 1), (-1, 9)), ((0, 1), (-1, 0), (-2, 9)), ((0, 2), (1, 9)))
    beside = branches_of(labels, 1)  # the text is "10"
    assert beside.tokens == (2,) and beside.scored[0] == ((0, 1), (1, 9))
    assert branches_of(((1,), (2,)), 0).tokens == ()


# --- the places in a batch


@pytest.mark.parametrize(("scale", "answer"), [(students.SCALE, None), (STARS, starred)])
@pytest.mark.parametrize("in_rows", [True, False])
def test_the_labels_have_the_probabilities_that_a_readout_reads(
    scale, answer, in_rows, tiny, tiny_llm
):
    if not in_rows and answer:
        pytest.skip("branches need rows")
    wanted, examples, trees = [], [], []
    settings = make_settings(
        {**QUICK, "base": tiny, "data": "d", "output": "o", "dtype": "float32"}
    )
    base = TrainableModel(settings)
    chat = base.chat(base.tokenizer())
    for k in (1, 4, 9):
        text = (answer or students.rating_answer)(k)
        messages = students.rating_messages(k)
        example = placed(chat, encode(chat, messages, text, 1200), text, scale)
        assert bool(example.place.branches.tokens) == bool(answer)
        trees = [example.place.labels]
        place = {"level": example.place.level, "start": example.place.start, "tree": 0}
        examples.append({"input_ids": example.ids, "labels": example.labels, **place})
        before = text[: text.rindex("\n")]
        request = Request(messages, prefill=before, max_new_tokens=0)
        wanted += score(tiny_llm, [request], Readout("\nPredicted User Rating: ", scale.labels))
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        tiny, attn_implementation=NAME if in_rows else "sdpa"
    )
    for some in (examples, examples[:1]):
        batch = RatedBatches(trees, None if in_rows else padded)(some)
        readout, _ = batch.pop("readout"), batch.pop("labels")
        with torch.no_grad():
            logits = model(**batch, use_cache=False).logits
        found = label_scores(logits, *(readout[key] for key in ("rows", "columns", "tokens")))
        for row, expected in zip(found.tolist(), wanted, strict=False):
            assert row == pytest.approx(expected, abs=1e-3)


def padded(examples):
    longest = max(len(e["input_ids"]) for e in examples)

    def filled(key, value):
        rows = [[*e[key], *[value] * (longest - len(e[key]))] for e in examples]
        return torch.tensor(rows)

    return {"input_ids": filled("input_ids", 0), "labels": filled("labels", IGNORED)}
