"""The micro-batch that fits is chosen; what is learned stays the same, and the card says it."""

import json

import pytest
from transformers import LlamaConfig

from recbole_exp3rt.distill.train import base, lora_trainer
from recbole_exp3rt.distill.train.base import Machine, TrainableModel
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.llm.local.memory import USABLE
from recbole_exp3rt.train import make_settings, train

GB = 10**9
LONGEST = [(1200, 256)] * 32  # every example as long as the default allows
DEFAULT = {"data": "data", "output": "student"}  # python -m recbole_exp3rt.train --data --output
FREE = "recbole_exp3rt.llm.local.memory.free_memory"


@pytest.fixture(scope="module")
def eight_billion(tmp_path_factory):
    """The configuration of Llama-3-8B, without weights."""
    folder = tmp_path_factory.mktemp("llama3")
    LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    ).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("free", "micro_batch", "checkpointing"),
    [(80, 8, False), (23, 4, False), (16, 4, False), (8, 1, False), (4, 4, True), (2, 1, True)],
)
def test_the_default_command_fits_into_small_machines(
    free, micro_batch, checkpointing, monkeypatch
):
    monkeypatch.setattr(FREE, lambda device: free * GB)
    trainee = TrainableModel(make_settings({**DEFAULT, "device": "cpu", "dtype": "float32"}))
    plan = trainee.choose([8, 4, 2, 1], LONGEST)
    assert (plan.micro_batch, plan.checkpointing) == (micro_batch, checkpointing)
    assert plan.needed <= USABLE * free * GB


@pytest.mark.parametrize(
    ("preset", "free", "micro_batch"),
    [("imdb", 80, 8), ("amazon-book", 40, 8), ("amazon-book", 23, 4), ("amazon-book", 16, 1)],
)
def test_the_papers_presets_on_a_gpu(preset, free, micro_batch, eight_billion, monkeypatch):
    monkeypatch.setattr(FREE, lambda device: free * GB)
    on_gpu = Machine("cuda:0", "bfloat16", "nf4")
    monkeypatch.setattr(base.Machine, "of", lambda settings: on_gpu)
    settings = make_settings({**DEFAULT, "preset": preset, "base": eight_billion})
    plan = TrainableModel(settings).choose([8, 4, 2, 1], LONGEST)
    assert (plan.micro_batch, plan.checkpointing) == (micro_batch, True)


def test_where_nothing_fits_the_advice_is_what_would(eight_billion, monkeypatch):
    """The paper's rank of 512: adapter, gradients and moments alone are 21 GB."""
    monkeypatch.setattr(FREE, lambda device: 23 * GB)
    on_gpu = Machine("cuda:0", "bfloat16", "nf4")
    monkeypatch.setattr(base.Machine, "of", lambda settings: on_gpu)
    settings = {**DEFAULT, "preset": "imdb", "base": eight_billion}
    with pytest.raises(LLMError, match=r"does not fit: .*a rank below 512 or optimizer=paged"):
        TrainableModel(make_settings(settings)).choose([2, 1], LONGEST)
    monkeypatch.setattr(FREE, lambda device: 26 * GB)
    smaller = {**settings, "optimizer": "paged_adamw_8bit"}
    assert TrainableModel(make_settings(smaller)).choose([2, 1], LONGEST).micro_batch == 1


def test_a_micro_batch_of_the_user_is_kept_or_refused(tiny, data, tmp_path, monkeypatch):
    given = {"data": data, "base": tiny, "device": "cpu", "batch_size": 4, "preset": "cpu"}
    monkeypatch.setattr(FREE, lambda device: 20_000_000)
    with pytest.raises(LLMError, match=r"micro_batch=4 does not fit: .* take micro_batch=1 or"):
        train(make_settings({**given, "output": str(tmp_path / "s"), "micro_batch": 4}))


def test_what_fits_is_said_noted_and_learns_the_same(tiny, data, tmp_path, monkeypatch):
    given = {"data": data, "base": tiny, "device": "cpu", "preset": "cpu", "batch_size": 4}
    given |= {"epochs": 2, "dtype": "float32", "learning_rate": 0.01}
    usual = {**given, "output": str(tmp_path / "usual"), "micro_batch": 4}
    wanted = train(make_settings(usual), say=lambda text: None).metrics[""]

    lines, output = [], tmp_path / "small"
    settings = make_settings({**given, "output": str(output)})
    with monkeypatch.context() as small:
        small.setattr(FREE, lambda device: 13_000_000)
        small.setattr(lora_trainer.TrainingMonitor, "on_train_end", stop)
        with pytest.raises(KeyboardInterrupt):  # after all steps, before the card
            train(settings, say=lines.append)
    (said,) = [line for line in lines if "to fit into memory" in line]
    assert "micro_batch=1, gradient_checkpointing=False" in said and "batch_size stays 4" in said
    made = train(settings, say=lines.append).metrics[""]  # with all memory, as it was begun
    assert (made["micro_batch"], made["gradient_checkpointing"]) == (1, False)
    assert [loss for _, loss in made["loss"]] == pytest.approx(
        [loss for _, loss in wanted["loss"]], abs=2e-4
    )
    assert made["best_eval_loss"] == pytest.approx(wanted["best_eval_loss"], abs=2e-4)
    card = json.loads((output / CARD).read_text())
    assert card["settings"]["micro_batch"] is None and card["metrics"]["micro_batch"] == 1


def stop(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_training_that_goes_on_may_take_another_micro_batch(tiny, data, tmp_path, monkeypatch):
    """Memory ran out in spite of the plan: what was trained is not lost."""
    given = {"data": data, "base": tiny, "device": "cpu", "preset": "cpu", "batch_size": 4}
    given |= {"output": str(tmp_path / "s"), "epochs": 2, "micro_batch": 4}
    evaluate, epochs = lora_trainer.AnswerTrainer.evaluate, iter([True])

    def full(self, *args, **kwargs):
        if next(epochs, False):
            return evaluate(self, *args, **kwargs)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as broken:
        broken.setattr(lora_trainer.AnswerTrainer, "evaluate", full)
        with pytest.raises(LLMError, match=r"ran out of memory .* --micro_batch=1 .* goes on"):
            train(make_settings(given), say=lambda text: None)
    lines = []
    again = make_settings({**given, "micro_batch": 1})
    assert train(again, say=lines.append).metrics[""]["micro_batch"] == 1
    assert "  goes on from step 3" in lines
