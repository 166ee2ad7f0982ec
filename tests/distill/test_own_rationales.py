"""The second round: two students write about each other's pairs, a third learns from that."""

import json
import math
import re
import shutil
from random import Random

import pytest
import torch
from test_rating_loss import QUICK, WORDS, padded, world
from transformers import AutoModelForCausalLM

from recbole_exp3rt.distill.annotate.examples import Example, read_examples
from recbole_exp3rt.distill.train import own_rationales
from recbole_exp3rt.distill.train.base import TrainableModel
from recbole_exp3rt.distill.train.encode import encode
from recbole_exp3rt.distill.train.monitor import watched as decisive
from recbole_exp3rt.distill.train.own_ratings import OwnRatings
from recbole_exp3rt.distill.train.own_rationales import Gap, Written, folds
from recbole_exp3rt.distill.train.run import difference
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Failure, Message, answer_all
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.llm.names import load_llm
from recbole_exp3rt.llm.store import Store
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.rating import CUE, REASONING, prediction_of, rating_request
from recbole_exp3rt.train import make_settings, train

SCALE = RatingScale.between(1, 10)
SETTINGS = {**QUICK, "batch_size": 4, "micro_batch": 4, "learning_rate": 0.003}
SETTINGS |= {"own_rationales": True}


def teacher(level):
    """Reasons of somebody who knows the rating."""
    return f"Reasoning: It is {WORDS[level // 2]}.\n"


def fit(base, data, output, say=lambda text: None, **more):
    given = {**SETTINGS, "base": base, "data": str(data), "output": str(output), **more}
    return train(make_settings(given), say=say)


@pytest.fixture(scope="module")
def fluent(tiny, tmp_path_factory):
    """The tiny base after lessons in writing: it says a reason, the cue and a digit."""
    base = TrainableModel(make_settings({"base": tiny, "data": "d", "output": "o", **QUICK}))
    chat = base.chat(base.tokenizer())
    model = AutoModelForCausalLM.from_pretrained(tiny)
    random = Random(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(70):
        examples = []
        for _ in range(8):
            kind = random.randrange(5)
            asked = Message("user", f"{WORDS[kind]} {WORDS[kind]} {random.randrange(100)}")
            answer = f"{teacher(2 * kind)}Predicted User Rating: {random.randrange(10)}"
            made = encode(chat, [asked], answer, 1200)
            examples.append({"input_ids": made.ids, "labels": made.labels})
        batch = padded(examples)
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("fluent") / "base")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    return world(tmp_path_factory.mktemp("taught") / "data", 16, teacher)


@pytest.fixture(scope="module")
def finished(fluent, taught, tmp_path_factory):
    """A student of two rounds, and what its training said."""
    folder, said = tmp_path_factory.mktemp("finished") / "student", []
    fit(fluent, taught, folder, said.append)
    return folder, said


def examples_of(folder):
    return read_examples(folder)["rating"]


def parts_of(example):
    """Rationale and label of an answer."""
    rationale, _, label = example.answer.partition("\nPredicted User Rating: ")
    return rationale, label


def as_prompted(examples):
    """How many rationales have the word of their prompt."""
    return sum(e.messages[0].content.split()[0] in parts_of(e)[0] for e in examples)


def test_the_second_round_has_the_students_reasons_and_the_true_ratings(finished, taught):
    folder, _ = finished
    (first, first_valid), own = examples_of(taught), folder.with_name("student-own") / "data"
    second, second_valid = examples_of(own)
    assert [e.messages for e in second] == [e.messages for e in first]
    assert [parts_of(e)[1] for e in second] == [parts_of(e)[1] for e in first]
    for example in second:
        assert re.fullmatch(rf"Reasoning: It is ({'|'.join(WORDS)})\.", parts_of(example)[0])
    # they tell what the prompt says more often than the teacher, who told the rating
    assert as_prompted(second) > as_prompted(first)
    # both write about the validation pairs
    assert [e.messages for e in second_valid] == 2 * [e.messages for e in first_valid]


def test_the_card_says_whose_rationales_they_are_and_how_far_the_ratings_differ(finished, taught):
    folder, said = finished
    card = json.loads((folder / CARD).read_text())
    one, two = card["teacher"]["rationales"].split(", ")
    assert "half-1" in one and "half-2" in two
    gap = card["data_settings"]["own_rationales"]
    assert gap["train"]["pairs"] == 16 and gap["valid"]["pairs"] == 2 * 8
    line = next(line for line in said if line.startswith("Round 1, train: RMSE "))
    assert f"{gap['train']['own_rmse']:.3f} after its own" in line
    text = (folder.with_name("student-own") / "data" / "card.md").read_text()
    assert "each of which has not learned the ratings of the pairs it wrote about" in text
    assert "but for the rationales: students wrote them" in text
    wanted = {**SETTINGS, "base": card["base"], "data": str(taught), "output": "o"}
    assert difference(card, make_settings(wanted)) is None
    assert "own_rationales=True" in difference(
        card, make_settings({**wanted, "own_rationales": False})
    )


def test_the_gap_by_hand():
    rows = [
        Written(None, "", "", own=4, teacher=5, true=5),
        Written(None, "", "", own=5, teacher=2, true=2),
    ]
    gap = Gap.of(rows)
    assert (gap.pairs, gap.teacher_rmse, gap.difference) == (2, 0, 2)
    assert gap.own_rmse == pytest.approx(math.sqrt((1 + 9) / 2))


def test_equal_prompts_are_in_one_half_whatever_their_ratings():
    def example(prompt, level):
        return Example("rating", (Message("user", prompt),), f"Predicted User Rating: {level}")

    rows = [example(f"pair {k // 2}", k) for k in range(20)]
    one, two = folds(rows)
    assert len(one) == len(two) == 10 and {*one, *two} == set(rows)
    assert not {e.messages for e in one} & {e.messages for e in two}
    other, _ = folds([example(f"pair {k // 2}", 9 - k % 10) for k in range(20)])
    assert [e.messages for e in other] == [e.messages for e in one]


def test_the_rating_of_a_pair_changes_nothing_in_its_own_prompt_and_rationale(
    fluent, taught, finished, tmp_path, monkeypatch
):
    folder, _ = finished
    before, _ = examples_of(folder.with_name("student-own") / "data")
    data = shutil.copytree(taught, tmp_path / "data")
    file = data / "rating.train.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    level = int(lines[3]["messages"][-1]["content"][-1])
    other = (level + 5) % 10  # the teacher's rationale changes with it
    lines[3]["messages"][-1]["content"] = f"{teacher(other)}Predicted User Rating: {other}"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = {**SETTINGS, "base": fluent, "data": str(data), "output": str(tmp_path / "student")}
    asked, ask = [], own_rationales.answer_all
    monkeypatch.setattr(
        own_rationales,
        "answer_all",
        lambda llm, requests: asked.append((llm, requests)) or ask(llm, requests),
    )
    made = own_rationales.second_round(make_settings(given), lambda text: None)
    after, _ = examples_of(made)
    assert after[3].messages == before[3].messages
    assert parts_of(after[3])[0] == parts_of(before[3])[0]
    assert parts_of(after[3])[1] == str(other) != parts_of(before[3])[1]
    # the student that learned the pair is another one, the one that wrote about it the same
    names = [
        {p.name: p for p in place.glob("half-*") if not p.name.endswith("-data")}
        for place in (folder.with_name("student-own"), tmp_path / "student-own")
    ]
    (same,) = names[0].keys() & names[1].keys()
    assert before[3].messages not in learned_by(names[1][same])
    assert len(names[0].keys() | names[1].keys()) == 3
    weights = [(found[same] / "adapter_model.safetensors").read_bytes() for found in names]
    assert weights[0] == weights[1]
    # and so it is for every pair: nobody is asked about what it has learned
    assert len(asked) == 2
    for llm, requests in asked:
        student = next(place for name, place in names[1].items() if name in llm.identity)
        assert not {request.messages for request in requests} & learned_by(student)


def learned_by(student):
    """The prompts that a student of the first round has learned."""
    return {e.messages for e in examples_of(student.with_name(f"{student.name}-data"))[0]}


def test_a_stopped_second_round_goes_on_and_asks_nothing_twice(
    fluent, taught, finished, tmp_path, monkeypatch
):
    folder, _ = finished
    asked, calls = own_rationales.answer_all, []

    def stopping(llm, requests):
        calls.append(llm)
        if len(calls) == 2:  # the second student writes a part of its answers
            asked(llm, requests[:5])
            raise SystemExit
        return asked(llm, requests)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(own_rationales, "answer_all", stopping)
        fit(fluent, taught, tmp_path / "student", store_path=str(tmp_path / "shared.sqlite"))
    assert not (tmp_path / "student-own" / "answers.sqlite").exists()
    store = Store(tmp_path / "shared.sqlite")
    stored = len(store)
    store.close()
    seen, said = [], []

    def counting(llm, requests):
        seen.append(llm)
        return asked(llm, requests)

    with monkeypatch.context() as patched:
        patched.setattr(own_rationales, "answer_all", counting)
        fit(
            *(fluent, taught, tmp_path / "student", said.append),
            store_path=str(tmp_path / "shared.sqlite"),
        )
    assert [llm.hits for llm in seen] == [2 * (8 + 8), 5]
    assert seen[0].calls == 0 and stored == seen[0].hits + 5
    assert sum("Training one adapter" in line for line in said) == 1  # the final one
    name = "adapter_model.safetensors"
    assert (tmp_path / "student" / name).read_bytes() == (folder / name).read_bytes()


class Scripted:
    """A student that says what stands in the prompt, and is cut off or silent where it says so."""

    identity = "scripted"

    def generate(self, requests):
        for k, request in enumerate(requests):
            text = request.messages[-1].content
            logp = tuple(0.0 if label == "5" else -50.0 for label in request.readout.labels)
            finish = "length" if text == "endless" else "stop"
            yield k, Completion("" if text == "silent" else text, finish, label_logp=logp)


def test_a_rationale_that_is_empty_or_cut_off_is_not_learned():
    rows = [
        Example("rating", (Message("user", text),), "Reasoning: x.\nPredicted User Rating: 7")
        for text in ("It is good.", "silent", "endless")
    ]
    good, silent, endless = own_rationales._write(Scripted(), rows, SCALE, 30)
    assert good.example.answer == "Reasoning: It is good.\nPredicted User Rating: 7"
    assert (good.own, good.true) == (pytest.approx(6), 8)  # label 5 is level 6
    assert silent.example is None and silent.reason == "empty"
    assert endless.example is None and endless.reason == "cut off at the token limit"


@pytest.mark.parametrize(
    ("teacher_", "more", "said"),
    [
        (lambda level: "", {}, "has no rationales of a teacher; annotate with use_reasoning=True"),
        (teacher, {"scale": None}, "names no scale and max_new_tokens; annotate again"),
        (teacher, {"scale": [1, 5]}, "is not one of 1, 2, 3, 4, 5; annotate again"),
    ],
)
def test_data_without_rationales_or_scale_is_refused(teacher_, more, said, tiny, tmp_path):
    data = world(tmp_path / "data", 8, teacher_)
    card = json.loads((data / "card.json").read_text())
    card["settings"] |= more
    (data / "card.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match=said) as caught:
        fit(tiny, data, tmp_path / "student")
    assert "\n" not in str(caught.value)


# --- the ratings after its own rationales, as a run reads them


OWN = {"own_rationales": False, "stop_on": "rmse", "patience": 3, "epochs": 3}
OWN |= {"learning_rate": 0.03, "dtype": "float32"}


@pytest.fixture(scope="module")
def watched(fluent, taught, tmp_path_factory):
    """A student that was watched while it learned, and what its training said."""
    folder, said = tmp_path_factory.mktemp("watched") / "student", []
    fit(fluent, taught, folder, said.append, **OWN)
    return folder, said


def test_the_best_epoch_is_the_one_whose_student_rates_best_after_its_own_rationales(
    watched, taught
):
    folder, said = watched
    metrics = json.loads((folder / CARD).read_text())["metrics"]
    own = dict(metrics["eval_own_rmse"])
    assert metrics["best_epoch"] == min(own, key=own.get)
    assert own != dict(metrics["eval_rmse"])  # the teacher's rationales know the rating
    line = next(line for line in said if "epoch 1: evaluation loss" in line)
    assert f" and {own[1.0]:.4f} after its own rationales" in line

    llm = load_llm(str(folder), device="cpu")
    _, valid = examples_of(taught)
    asked = [rating_request(e.messages, SCALE, 30) for e in valid]
    errors = [
        prediction_of(answer, "", "", SCALE).expected - SCALE.level_of(parts_of(example)[1])
        for example, answer in zip(valid, answer_all(llm, asked), strict=True)
    ]
    rmse = math.sqrt(sum(error**2 for error in errors) / len(errors))
    assert metrics["best_eval_own_rmse"] == pytest.approx(rmse, abs=1e-4)


def test_what_decides_is_the_rmse_after_its_own_rationales_where_there_is_one():
    log = [
        {"epoch": 1.0, "eval_loss": 0.3, "eval_rmse": 1.2, "eval_own_rmse": 1.8},
        {"epoch": 2.0, "eval_loss": 0.4, "eval_rmse": 1.1, "eval_own_rmse": 2.0},
    ]
    assert decisive(log, "rmse") == [(1.0, 1.8), (2.0, 2.0)]
    assert decisive(log, "loss") == [(1.0, 0.3), (2.0, 0.4)]
    for entry in log:
        del entry["eval_own_rmse"]
    assert decisive(log, "rmse") == [(1.0, 1.2), (2.0, 1.1)]


def test_a_training_that_was_stopped_is_watched_as_one_that_was_not(
    fluent, taught, watched, tmp_path, monkeypatch
):
    folder, _ = watched
    rmse, calls = OwnRatings.rmse, []

    def stopping(*args):
        calls.append(1)
        if len(calls) == 2:  # while the second epoch is read
            raise SystemExit
        return rmse(*args)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(OwnRatings, "rmse", stopping)
        fit(fluent, taught, tmp_path / "again", **OWN)
    fit(fluent, taught, tmp_path / "again", **OWN)
    one, other = (json.loads((f / CARD).read_text()) for f in (folder, tmp_path / "again"))
    for key in ("loss", "eval_loss", "eval_rmse", "eval_own_rmse", "best_epoch"):
        assert one["metrics"][key] == other["metrics"][key], key
    weights = (folder / "adapter_model.safetensors").read_bytes()
    assert (tmp_path / "again" / "adapter_model.safetensors").read_bytes() == weights


def test_a_student_that_says_what_the_base_says_rates_as_its_prior():
    said = tuple(math.log(p) for p in (0.05, 0.05, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05))
    label = SCALE.labels[2]
    example = Example("rating", (), f"{REASONING} a.\n{CUE} {label}", bias=6.0)
    own = OwnRatings(None, [example], SCALE, 30, sigma=0.5)
    answer = Completion("a.", "stop", 1, 1, said)
    assert own._error(example, answer, said) == pytest.approx(6 - SCALE.level_of(label), abs=0.01)
    plain = OwnRatings(None, [example], SCALE, 30)._error(example, answer, None)
    mean = sum(math.exp(logp) * level for logp, level in zip(said, SCALE.levels, strict=True))
    assert plain == pytest.approx(mean - SCALE.level_of(label))
    nothing = own._error(example, Failure("too long"), said)
    assert nothing == SCALE.highest - SCALE.level_of(label)  # as far off as can be


def test_data_that_does_not_say_how_long_a_rationale_may_be_cannot_be_read(
    fluent, taught, tmp_path
):
    data = shutil.copytree(taught, tmp_path / "data")
    card = json.loads((data / "card.json").read_text())
    del card["settings"]["max_new_tokens"]
    (data / "card.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match=r"stop_on=rmse: .* names no scale and max_new_tokens"):
        fit(fluent, data, tmp_path / "student", **OWN)
