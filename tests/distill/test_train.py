"""Training a student, on a base that takes seconds: what is left behind, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import students
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from recbole_exp3rt.distill.train import lora_trainer
from recbole_exp3rt.distill.train.merge import merge
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError, Readout, Request, answer_all
from recbole_exp3rt.llm.card import CARD, check_unseen, for_step, has_card
from recbole_exp3rt.llm.names import load_llm
from recbole_exp3rt.train import main, make_settings, train

LABELS = tuple("0123456789")
READOUT = Readout("\nPredicted User Rating: ", LABELS)
QUICK = {"preset": "cpu", "batch_size": 4, "micro_batch": 2, "epochs": 2, "device": "cpu"}


def fit(base, data, output, **more):
    given = {**QUICK, "base": base, "data": data, "output": str(output), **more}
    return train(make_settings(given), say=lambda text: None)


def logp(student, k=1):
    request = Request(students.rating_messages(k), max_new_tokens=0, readout=READOUT)
    llm = load_llm(str(student), device="cpu")
    return answer_all(llm, [request])[0].label_logp


@pytest.fixture(scope="module")
def student(tiny, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("students") / "student"
    fit(tiny, data, folder, learning_rate=0.01)
    return folder


def test_a_student_has_an_adapter_and_a_card_that_tells_all(student, tiny):
    names = {file.name for file in student.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", CARD}
    card = json.loads((student / CARD).read_text())
    assert card["base"] == tiny and card["tasks"] == ["rating"] and card["preset"] == "cpu"
    assert card["split"] == "0123" and card["prompts"] == "abcd" and len(card["train_pairs"]) == 12
    assert [step for step, _ in card["metrics"]["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [epoch for epoch, _ in card["metrics"]["eval_loss"]] == [1.0, 2.0]
    assert card["metrics"]["examples"]["rating"]["train"] == 12
    assert card["settings"]["learning_rate"] == 0.01 and card["versions"]["trl"]


def test_it_learned_and_is_named_by_its_folder(student, tiny):
    before, after = logp(tiny), logp(student)
    assert sum(after) > sum(before) + 3  # digits follow the cue
    assert has_card(str(student))
    check_unseen(str(student), [("u50", "i50")])
    with pytest.raises(UsageError, match="trained on 1 of the 1 test pairs"):
        check_unseen(str(student), [("u3", "i3")])


def test_identity_is_the_bases_and_the_adapters(student, tiny):
    base = load_llm(tiny, device="cpu").identity
    assert load_llm(str(student), device="cpu").identity.startswith(f"{base}+student@")


def test_another_adapter_takes_the_place_of_the_students_own(student, tiny, tmp_path):
    other = Path(shutil.copytree(student, tmp_path / "other"))
    weights = load_file(other / "adapter_model.safetensors")
    halved = {name: weight / 2 for name, weight in weights.items()}
    save_file(halved, other / "adapter_model.safetensors")
    placed = load_llm(str(student), adapter=str(other), device="cpu").identity
    assert placed == load_llm(str(other), device="cpu").identity
    assert placed != load_llm(str(student), device="cpu").identity


def test_plain_peft_loads_it_and_a_merged_model_says_the_same(student, tiny, tmp_path):
    from peft import PeftModel

    merged = merge(student, tmp_path / "merged")
    ids = torch.tensor([[1, 5, 7, 9]])
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(tiny)
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, str(student)).eval()(ids).logits
        whole = AutoModelForCausalLM.from_pretrained(merged)(ids).logits
    assert not torch.allclose(plain, adapted, atol=0.1)
    assert torch.allclose(adapted, whole, atol=1e-4)
    assert logp(merged) == pytest.approx(logp(student), abs=1e-3)
    assert has_card(str(merged))


def test_the_same_seed_is_the_same_run(student, tiny, data, tmp_path):
    again = fit(tiny, data, tmp_path / "again", learning_rate=0.01).metrics[""]
    other = fit(tiny, data, tmp_path / "other", learning_rate=0.01, seed=1).metrics[""]
    metrics = json.loads((student / CARD).read_text())["metrics"]
    curve = [list(point) for point in again["loss"]]
    assert curve == metrics["loss"]
    assert curve != [list(point) for point in other["loss"]]


def test_padded_packed_and_shared_starts_have_the_same_loss(tiny, data, tmp_path):
    ways = {
        "rows": {"share_starts": True},
        "padded": {"share_starts": False},
        "packed": {"batching": "packing"},
        "checkpointed": {"gradient_checkpointing": True},
    }
    # one step on everything, so that no order matters
    one = {"batch_size": 12, "micro_batch": 12, "epochs": 1, "dtype": "float32"}
    found = {}
    for name, way in ways.items():
        settings = {**one, **way}
        if name == "packed":  # 12 examples of some 230 tokens stand in three rows
            settings |= {"batch_size": 15, "micro_batch": 15}
        metrics = fit(tiny, data, tmp_path / name, **settings).metrics[""]
        found[name] = (metrics["loss"][0][1], metrics["best_eval_loss"])
    for name in ways:
        assert found[name] == pytest.approx(found["rows"], rel=1e-4), name


@pytest.mark.parametrize("way", [{}, {"share_starts": False}, {"batching": "packing"}])
def test_a_rating_may_weigh_more_in_training_but_not_in_evaluation(way, tiny, data, tmp_path):
    one = {"batch_size": 12, "micro_batch": 12, "epochs": 1, "dtype": "float32", **way}
    losses = []
    for weight in (1, 3, 5):
        settings = {**one, "rating_weight": weight, "learning_rate": 1e-9}
        metrics = fit(tiny, data, tmp_path / str(weight), **settings).metrics[""]
        losses.append((metrics["loss"][0][1], metrics["best_eval_loss"]))
    (a, plain), (b, other), (c, _) = losses
    assert b > a * 1.01 and c - b == pytest.approx(b - a, rel=1e-3)
    assert other == pytest.approx(plain, rel=1e-5)


def test_training_stops_early_and_keeps_the_best(tiny, data, tmp_path):
    # steps this large make it worse at once
    metrics = fit(tiny, data, tmp_path / "s", learning_rate=3.0, epochs=9).metrics[""]
    losses = [loss for _, loss in metrics["eval_loss"]]
    best = losses.index(min(losses))
    assert len(losses) == best + 2 < 9
    assert metrics["best_epoch"] == best + 1
    # the adapter left behind is that of the best epoch
    fit(tiny, data, tmp_path / "short", learning_rate=3.0, epochs=best + 1)
    name = "adapter_model.safetensors"
    assert (tmp_path / "s" / name).read_bytes() == (tmp_path / "short" / name).read_bytes()


STOPPED = {"learning_rate": 2.0, "epochs": 9, "checkpoint_minutes": 1e-6}
STOPPED |= {"batch_size": 4, "micro_batch": 4}


@pytest.fixture(scope="module")
def undisturbed(tiny, data, tmp_path_factory):
    """Batching -> the folder of a training that nothing stops, and its metrics."""
    folders = {b: tmp_path_factory.mktemp("whole") / b for b in ("length_grouping", "packing")}
    return {
        batching: (folder, fit(tiny, data, folder, **STOPPED, batching=batching).metrics[""])
        for batching, folder in folders.items()
    }


@pytest.mark.parametrize(
    ("moment", "batching"),
    [
        ("first evaluation", "packing"),
        ("first evaluation", "length_grouping"),
        ("last evaluation", "length_grouping"),
        ("last save", "length_grouping"),
    ],
)
def test_a_training_that_is_stopped_where_an_epoch_ends_goes_on_as_if_not(
    moment, batching, undisturbed, tiny, data, tmp_path, monkeypatch
):
    settings = {**STOPPED, "batching": batching}
    whole, wanted = undisturbed[batching]
    ends = len(wanted["eval_loss"])
    assert ends < 9  # it stops early

    def stopping(method, at):
        calls = []

        def stopped(*args, **kwargs):
            calls.append(1)
            if len(calls) == at:
                raise SystemExit
            return method(*args, **kwargs)

        return stopped

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        if moment == "last save":
            patched.setattr(
                lora_trainer.TrainingMonitor,
                "on_train_end",
                stopping(lora_trainer.TrainingMonitor.on_train_end, 1),
            )
        else:
            at = 1 if moment == "first evaluation" else ends
            evaluate = stopping(lora_trainer.AnswerTrainer.evaluate, at)
            patched.setattr(lora_trainer.AnswerTrainer, "evaluate", evaluate)
        fit(tiny, data, tmp_path / "again", **settings)
    got = fit(tiny, data, tmp_path / "again", **settings).metrics[""]
    assert (got["loss"], got["eval_loss"]) == (wanted["loss"], wanted["eval_loss"])
    name = "adapter_model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("schedule", "shares"), [("constant", [1]), ("linear", [1, 0.75, 0.5, 0.25])]
)
def test_the_learning_rate_stays_or_falls(schedule, shares, tiny, data, tmp_path, monkeypatch):
    step, rates = lora_trainer.AnswerTrainer.training_step, []

    def watching(trainer, *args, **kwargs):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return step(trainer, *args, **kwargs)

    monkeypatch.setattr(lora_trainer.AnswerTrainer, "training_step", watching)
    given = {"epochs": 2, "patience": 2, "train_rows": 6, "tasks": "rating", "batch_size": 3}
    given |= {"learning_rate": 0.01, "learning_rate_schedule": schedule}
    fit(tiny, data, tmp_path / "student", **given)
    assert list(dict.fromkeys(rates)) == pytest.approx([0.01 * share for share in shares])


def test_an_adapter_for_each_step(tiny, tmp_path):
    tasks = ("preference", "user_profile", "item_profile", "rating")
    data = students.write_data(tmp_path / "data", train=4, valid=2, tasks=tasks)
    result = fit(tiny, str(data), tmp_path / "s", adapters="per_task", epochs=1)
    assert set(result.metrics) == {"preference", "profile", "rating"}
    for step in result.metrics:
        assert for_step(str(tmp_path / "s"), step) == str(tmp_path / "s" / step)
    card = json.loads((tmp_path / "s" / "profile" / CARD).read_text())
    assert card["tasks"] == ["user_profile", "item_profile"]
    assert load_llm(str(tmp_path / "s" / "rating"), device="cpu").identity.count("rating@") == 1
    fit(tiny, str(data), tmp_path / "r", adapters="per_task", tasks="rating", epochs=1)
    with pytest.raises(UsageError, match="no adapter for profile, only for rating"):
        for_step(str(tmp_path / "r"), "profile")
    assert for_step("smollm2", "rating") == "smollm2"


def test_a_finished_student_is_replaced_by_overwrite_alone(student, tiny, data, tmp_path, capsys):
    copy = tmp_path / "student"
    shutil.copytree(student, copy)
    before = (copy / CARD).read_text()
    given = [f"--data={data}", f"--base={tiny}", f"--output={copy}"]
    assert main([*given, "--data=other"]) == 2
    assert f"error: --data is given twice, as {data} and as other" in capsys.readouterr().err
    assert main(given) == 2
    said = f"error: output {copy} holds a finished student; name another folder, or add --overwrite"
    assert capsys.readouterr().err == said + "\n"
    assert (copy / CARD).read_text() == before
    fit(tiny, str(data), copy, epochs=1, overwrite=True)
    assert json.loads((copy / CARD).read_text())["settings"]["epochs"] == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "nowhere"}, "nowhere is not a folder of training data"),
        ({"preset": "imbd"}, "preset='imbd' is not one of .* (did you mean imdb?)"),
        ({"batching": "pack"}, "batching='pack' is not one of .* (did you mean packing?)"),
        ({"ranks": 4}, "ranks is not a setting of a training (did you mean rank?)"),
        ({"rank": 0}, "rank=0 is not a whole number from 1 on"),
        ({"learning_rate": "fast"}, "learning_rate='fast' is not above 0"),
        ({"tasks": "ratings"}, "tasks: 'ratings' is not one of .* (did you mean rating?)"),
        ({"tasks": "preference"}, "has no preference.train.jsonl"),
        (
            {"rank": 32},
            "rank=32 is larger than layer model.layers.0.self_attn.k_proj (32 x 16) of .*; take 16 "
            "or less",
        ),
        ({"max_tokens": 64}, "no train example of rating fits into max_tokens=64"),
        ({"base": "./nowhere"}, "model ./nowhere is no folder"),
        ({"device": "cuda:7"}, "device=cuda:7: torch sees no such GPU here; leave device out"),
        ({"output": "/proc/s"}, "output /proc/s cannot be written; name another folder"),
        ({"output": "/dev/null/s"}, "output /dev/null/s cannot be written; name another folder"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(given, said, tiny, data, tmp_path):
    import re

    pattern = re.escape(said).replace(r"\.\*", ".*")
    with pytest.raises((UsageError, LLMError), match=pattern) as caught:
        place = given.pop("output", tmp_path / "s")
        fit(given.pop("base", tiny), given.pop("data", data), place, **given)
    assert "\n" not in str(caught.value)


def test_too_little_data_and_broken_lines_are_named(tiny, tmp_path):
    data = students.write_data(tmp_path / "data", train=4, valid=0)
    with pytest.raises(UsageError, match="has no valid example of rating: too little data"):
        fit(tiny, str(data), tmp_path / "s")
    file = data / "rating.valid.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "?"}]}\n')
    with pytest.raises(UsageError, match=r"rating.valid.jsonl line 1: no messages"):
        fit(tiny, str(data), tmp_path / "s")


def test_a_base_without_chat_template_is_refused(tiny, data, tmp_path):
    bare = shutil.copytree(tiny, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(LLMError, match="has no chat template: take its instruct version"):
        fit(str(bare), data, tmp_path / "s")


def test_what_does_not_fit_is_told_before_it_is_loaded(tiny, data, tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_exp3rt.llm.local.memory.free_memory", lambda device: 20_000_000)
    with pytest.raises(LLMError, match=r"does not fit: it needs .* take micro_batch=1 or"):
        fit(tiny, data, tmp_path / "s", micro_batch=4)
    monkeypatch.undo()
    fit(tiny, data, tmp_path / "s", micro_batch=1, epochs=1)  # the advice can be followed there
    assert has_card(str(tmp_path / "s"))


def test_labels_that_a_tokenizer_cannot_tell_apart_are_refused_whatever_is_drawn(tiny, tmp_path):
    base = Path(shutil.copytree(tiny, tmp_path / "base"))
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    replaced = {"type": "Replace", "pattern": {"String": "9"}, "content": "8"}
    tokenizer["normalizer"] = replaced
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    data = students.write_data(tmp_path / "data", train=4, valid=2)  # no 8 and no 9 among them
    card = json.loads((data / "card.json").read_text())
    (data / "card.json").write_text(json.dumps({**card, "settings": {"scale": [1, 10]}}))
    with pytest.raises(LLMError, match="labels '8' and '9' are the same tokens"):
        fit(str(base), str(data), tmp_path / "s")


def test_a_base_may_be_named_relatively(tiny, data, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(tiny).parent)
    fit(Path(tiny).name, data, tmp_path / "s", epochs=1)
    monkeypatch.chdir(tmp_path)
    assert sum(logp("s")) < 0


def test_a_full_disk_is_said_and_what_is_there_kept(tiny, data, small_disk):
    disk, make_room = small_disk
    with pytest.raises(UsageError, match=r"no space left for .*: free some; the same command"):
        fit(tiny, data, disk / "s")
    assert (disk / "s" / ".training" / "mixed" / "best").is_dir()
    assert make_room()
    fit(tiny, data, disk / "s")
    assert has_card(str(disk / "s"))


def test_a_merge_onto_a_full_disk_leaves_no_half_model(student, small_disk, capsys):
    disk, make_room = small_disk
    assert main(["merge", str(student), str(disk / "m")]) == 2
    assert "free some; the same command begins again" in capsys.readouterr().err
    assert not (disk / "m").exists()
    assert make_room()
    assert main(["merge", str(student), str(disk / "m")]) == 0


def test_checkpoints_that_were_not_finished_are_not_gone_on_from(tmp_path):
    from recbole_exp3rt.distill.train.lora_trainer import whole_checkpoint

    for step, state in ((2, "{}"), (10, "{}"), (30, '{"half')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-40").mkdir()
    assert whole_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
