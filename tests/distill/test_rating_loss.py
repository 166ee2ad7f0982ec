"""The squared error of the expected rating as a loss: its mathematics, and what is learned."""

import json
import re
from random import Random

import pytest
import students
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

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
from recbole_exp3rt.llm.base import Message, Readout, Request, score
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
    settings = {"scale": scale.setting, "use_reasoning": True, "max_new_tokens": 30}
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


@pytest.mark.parametrize(
    ("scale", "answer", "in_rows"),
    [(students.SCALE, None, True), (students.SCALE, None, False), (STARS, starred, True)],
)
def test_the_labels_have_the_probabilities_that_a_readout_reads(
    scale, answer, in_rows, tiny, tiny_llm
):
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


# --- training


def the_loss_before(self, model, inputs, return_outputs=False, num_items_in_batch=None):
    """The loss as it was when there was cross entropy alone."""
    labels = inputs.pop("labels")[:, 1:]
    kept = (labels != IGNORED).any(dim=0).nonzero().squeeze(-1)
    labels = labels[:, kept]
    out = model(**inputs, logits_to_keep=kept, use_cache=False)
    logits = out.logits.float().flatten(0, 1)
    losses = cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="none")
    losses = losses.view_as(labels)
    if model.training and self.rating_weight != 1:
        losses = torch.where(self._is_rating(labels), self.rating_weight * losses, losses)
    total, count = losses.sum(), (labels != IGNORED).sum()
    if not model.training:
        self._eval_sums.append([total.item(), count.item(), 0.0, 0.0])
    loss = total / (count.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)
    return (loss, out) if return_outputs else loss


def test_without_the_new_settings_a_student_is_the_same_byte_for_byte(
    tiny, digits, tmp_path, monkeypatch
):
    given = {"learning_rate": 0.01, "rating_weight": 3}
    now = fit(tiny, digits, tmp_path / "now", **given)
    assert not {"loss_parts", "eval_rmse"} & set(now)
    card = json.loads((tmp_path / "now" / CARD).read_text())
    assert not {"rating_loss", "stop_on", "own_rationales"} & set(card["settings"])
    read = fit(tiny, digits, tmp_path / "read", **given, stop_on="rmse")  # best is the last, too
    assert read["eval_loss"] == now["eval_loss"] and read["best_epoch"] == now["best_epoch"]
    with monkeypatch.context() as patched:
        patched.setattr(lora_trainer.AnswerTrainer, "compute_loss", the_loss_before)
        before = fit(tiny, digits, tmp_path / "before", **given)
    assert before["loss"] == now["loss"] and before["eval_loss"] == now["eval_loss"]
    adapter = (tmp_path / "now" / ADAPTER).read_bytes()
    assert (tmp_path / "before" / ADAPTER).read_bytes() == adapter
    assert (tmp_path / "read" / ADAPTER).read_bytes() == adapter


def test_the_loss_is_the_sum_of_its_parts(tiny, digits, tmp_path):
    one = {"batch_size": 12, "micro_batch": 12, "epochs": 1, "dtype": "float32"}
    one |= {"learning_rate": 1e-9}
    found = {}
    for name, given in {
        "ce": {},
        "heavy": {"rating_weight": 3},
        "both heavy": {"rating_loss": "both", "rating_weight": 3, "rating_loss_weight": 10},
        "squared": {"rating_loss": "squared", "rating_weight": 3, "rating_loss_weight": 10},
        "vocabulary": {"rating_loss": "both", "rating_softmax": "vocabulary"},
    }.items():
        metrics = fit(tiny, digits, tmp_path / name, **one, **given)
        (_, loss), *_ = metrics["loss"]
        found[name] = (loss, *(metrics.get("loss_parts") or [(1, loss, 0.0)])[0][1:])
    for name, weight in (("both heavy", 10), ("squared", 10), ("vocabulary", 1)):
        loss, entropy, squared = found[name]
        tokens = weight * squared * 12 / (loss - entropy)  # the error counts like that of a token
        assert tokens == pytest.approx(count_of_tokens(tiny, digits), rel=0.02), name
        assert 0 < squared < 1
    rated = (found["heavy"][0] - found["ce"][0]) / 2  # cross entropy of the labels alone
    assert found["vocabulary"][1] == pytest.approx(found["ce"][0], rel=1e-4)
    assert found["both heavy"][1] == pytest.approx(found["heavy"][0], rel=1e-4)
    assert found["squared"][1] == pytest.approx(found["ce"][0] - rated, rel=1e-4)
    # a random model's labels have almost no mass: the expected rating is near zero
    assert found["vocabulary"][2] > found["squared"][2]


def count_of_tokens(tiny, data):
    """Tokens with loss in the train file."""
    base = TrainableModel(make_settings({"base": tiny, "data": "d", "output": "o", **QUICK}))
    chat = base.chat(base.tokenizer())
    total = 0
    for line in (data / "rating.train.jsonl").read_text().splitlines():
        *asked, answer = json.loads(line)["messages"]
        made = encode(chat, [Message(**m) for m in asked], answer["content"], 1200)
        total += sum(label != IGNORED for label in made.labels)
    return total


@pytest.mark.parametrize("way", [{"share_starts": False}, {"micro_batch": 12}])
def test_the_squared_error_does_not_depend_on_how_a_batch_is_laid_out(way, tiny, digits, tmp_path):
    one = {"batch_size": 12, "micro_batch": 3, "epochs": 1, "dtype": "float32"}
    one |= {"rating_loss": "both", "rating_loss_weight": 5}
    wanted = fit(tiny, digits, tmp_path / "rows", **one)
    got = fit(tiny, digits, tmp_path / "way", **{**one, **way})
    for key in ("loss", "loss_parts", "eval_rmse", "eval_loss"):
        assert got[key][0] == pytest.approx(wanted[key][0], rel=1e-4), key


@pytest.mark.parametrize(
    ("loss", "data", "schedule"), [("squared", "stars", "constant"), ("both", "digits", "linear")]
)
def test_a_stopped_training_goes_on_as_if_it_was_not(
    loss, data, schedule, tiny, tmp_path, monkeypatch, request
):
    data = request.getfixturevalue(data)
    given = {"rating_loss": loss, "learning_rate": 0.01, "checkpoint_minutes": 1e-6}
    given |= {"stop_on": "rmse", "rating_loss_weight": 10, "learning_rate_schedule": schedule}
    wanted = fit(tiny, data, tmp_path / "whole", **given)
    step, calls = lora_trainer.AnswerTrainer.training_step, []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == 6:  # in the first epoch's last step
            raise SystemExit
        return step(*args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(lora_trainer.AnswerTrainer, "training_step", stopping)
        fit(tiny, data, tmp_path / "again", **given)
    with pytest.raises(UsageError, match=f"begun with rating_loss='{loss}', not 'ce'"):
        fit(tiny, data, tmp_path / "again", **{**given, "rating_loss": "ce"})
    said = []
    got = fit(tiny, data, tmp_path / "again", said.append, **given)
    assert "goes on from step 2" in " ".join(said)
    for key in ("loss", "loss_parts", "eval_loss", "eval_rmse", "best_epoch"):
        assert got[key] == wanted[key], key
    whole = (tmp_path / "whole" / ADAPTER).read_bytes()
    assert (tmp_path / "again" / ADAPTER).read_bytes() == whole


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A world of five kinds of items, whose ratings lie around twice the kind."""
    folder = tmp_path_factory.mktemp("noisy") / "data"
    return world(folder, 64)


WORDS = ("bad", "poor", "fair", "good", "great")


def world(folder, rows, rationale=lambda level: ""):
    """`rows` train rows, half as many for validation. A `rationale` knows the level."""
    random = Random(0)
    reasons = bool(rationale(0))
    folder.mkdir(parents=True)

    def line(k):
        kind = random.randrange(5)
        level = min(9, max(0, 2 * kind + random.choice((-3, -2, 0, 1, 3, 4))))
        # with rationales no two prompts are the same
        asked = f"{WORDS[kind]} {WORDS[kind]}" + (f" {k}" if reasons else "")
        answer = f"{rationale(level)}Predicted User Rating: {level}"
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        return json.dumps({"messages": turns}) + "\n"

    (folder / "rating.train.jsonl").write_text("".join(map(line, range(rows))))
    (folder / "rating.valid.jsonl").write_text("".join(map(line, range(rows, 3 * rows // 2))))
    told = {"scale": [1, 10], "use_reasoning": reasons, "max_new_tokens": 30}
    card = {"dataset": "w", "teacher": {"rationales": "nobody"}, "prompts": "a", "synthetic": True}
    (folder / "card.json").write_text(json.dumps({**card, "train_pairs": [], "settings": told}))
    return folder


def test_a_student_of_both_losses_errs_less_than_one_of_cross_entropy(tiny, noisy, tmp_path):
    given = {"batch_size": 8, "micro_batch": 8, "epochs": 5, "patience": 5, "stop_on": "rmse"}
    given |= {"learning_rate": 0.02, "dtype": "float32"}  # the same on every machine
    entropy = fit(tiny, noisy, tmp_path / "ce", **given)
    both = fit(tiny, noisy, tmp_path / "both", **given, rating_loss="both", rating_loss_weight=10)
    assert both["best_eval_rmse"] < entropy["best_eval_rmse"] - 0.3
    assert both["best_eval_rmse"] == min(rmse for _, rmse in both["eval_rmse"])
    assert both["best_epoch"] == min(both["eval_rmse"], key=lambda pair: pair[1])[0]


def test_the_log_tells_both_parts_and_the_card_how_it_was_trained(tiny, digits, tmp_path):
    said = []
    fit(tiny, digits, tmp_path / "s", said.append, rating_loss="both", stop_on="rmse", epochs=1)
    log = "\n".join(said)
    assert "(cross entropy " in log and " a token, squared error 0." in log and ", RMSE " in log
    card = json.loads((tmp_path / "s" / CARD).read_text())
    assert card["settings"]["rating_loss"] == "both" and card["settings"]["stop_on"] == "rmse"
    assert len(card["metrics"]["loss_parts"]) == 3 and card["metrics"]["best_eval_rmse"] > 0
    same = {**QUICK, "base": tiny, "data": str(digits), "output": "o", "epochs": 1}
    wanted = make_settings({**same, "rating_loss": "both", "stop_on": "rmse"})
    assert difference(card, wanted) is None
    assert difference(card, make_settings(same)) == "rating_loss='both', not 'ce'"
    del card["settings"]["rating_loss"]  # the card of a student of before
    assert difference(card, wanted) == "rating_loss='ce', not 'both'"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rating_loss": "square"}, "is not one of ce, squared, both (did you mean squared?)"),
        ({"rating_loss_weight": 0}, "rating_loss_weight=0 is not above 0"),
        ({"stop_on": "rmse", "batching": "packing"}, "take batching=length_grouping"),
        ({"rating_loss": "both", "tasks": "preference"}, "has no rating to learn; leave it out"),
        ({"rating_loss": "both", "data": "unscaled"}, "names no scale of ratings; annotate again"),
        (
            {"rating_loss": "both", "data": "stars", "share_starts": False},
            "need a batch in one row",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(given, said, tiny, stars, tmp_path):
    data = students.write_data(tmp_path / "data", tasks=("rating", "preference"))
    place = stars if given.get("data") == "stars" else data
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        fit(tiny, place, tmp_path / "s", **{k: v for k, v in given.items() if k != "data"})
    assert "\n" not in str(caught.value)
