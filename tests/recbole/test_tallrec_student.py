"""The student of TALLRec: what it learns, and how its training goes on."""

import json
from functools import partial

import pytest
import torch
from tallrec_worlds import config_of, tasteful
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.distill.train import lora_trainer
from recbole_exp3rt.llm.base import Readout, Request, score
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.prompts import load_prompt
from recbole_exp3rt.rerank.tallrec import TALLRec


@pytest.fixture
def world(tmp_path):
    """world(train=…, valid=…, test=…, titles=…, **settings of TALLRec) -> its Config."""
    return partial(config_of, tmp_path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random Llama of width 32 with a few hundred tokens, made of the prompts' own words."""
    prompt = load_prompt("tallrec", None, frozenset({"item_word", "liked", "disliked", "target"}))
    words = [" ".join([prompt.frame, *tasteful()["titles"].values(), "Answer: Yes Answer: No"])]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, min_frequency=1, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "</s>")])
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    wrapped.chat_template = (
        "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=wrapped.bos_token_id,
        eos_token_id=wrapped.eos_token_id,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("tallrec") / "tiny"
    LlamaForCausalLM(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return str(folder)


ALL_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QUICK = {
    "rank": 16,
    "target_modules": ALL_LAYERS,
    "batch_size": 5,
    "learning_rate": 0.01,
    "epochs": 10,
    "device": "cpu",
    "dtype": "float32",  # the same on every machine
}


def auc(scores, labels):
    """Share of (liked, disliked) pairs in the right order; ties count half."""
    liked = [s for s, label in zip(scores, labels, strict=True) if label]
    others = [s for s, label in zip(scores, labels, strict=True) if not label]
    wins = sum((a > b) + (a == b) / 2 for a in liked for b in others)
    return wins / (len(liked) * len(others))


def judged(model, examples):
    """Log-odds of the questions of examples."""
    requests = [Request(e.messages, max_new_tokens=0) for e in examples]
    return [yes - no for yes, no in score(model.llm, requests, Readout("Answer: ", ("Yes", "No")))]


@pytest.fixture
def trained(world, tiny):
    """trained(rows, **train_args) -> a trained TALLRec, its split, and what it said."""

    def make(rows, shots=20, **train_args):
        config = world(**rows, preset="original", student=tiny, shots=shots, valid_shots=12)
        config["train_args"] = {**QUICK, **train_args}
        split, said = load_split(config), []
        model = TALLRec(config, split.train)
        model.prepare(split, said.append)
        return model, split, said

    return make


def on_test(model, split):
    return auc(model.log_odds(split.pairs("test")), split.ratings("test") >= 4)


def test_twenty_rows_are_learned_by_heart_and_the_student_is_used_again(trained):
    model, split, said = trained(tasteful())
    examples = model.student(split).examples["binary"][0]
    labels = [example.label == "Yes" for example in examples]
    assert len(examples) == 20 and 0 < sum(labels) < 20
    assert auc(judged(model, examples), labels) == 1.0
    assert on_test(model, split) > 0.8, "the rule is in the titles"
    assert any("Training TALLRec on 20 and 12 pairs" in line for line in said)
    again, _, said = trained(tasteful())
    assert not said and again.llm.identity == model.llm.identity
    folder = model.student(split).folder
    card = json.loads((folder / CARD).read_text())
    assert folder.parent.name == "saved" and card["tasks"] == ["binary"]
    assert card["settings"]["target_modules"] == ALL_LAYERS


def test_labels_without_sense_teach_nothing_about_other_pairs(trained):
    model, split, _ = trained(tasteful(shuffled=True), epochs=4)
    assert 0.35 < on_test(model, split) < 0.65


def test_a_training_that_was_killed_goes_on_as_if_not(trained, monkeypatch):
    few = {"epochs": 3, "shots": 10}
    model, split, _ = trained(tasteful(), **few)
    folder = model.student(split).folder
    wanted = json.loads((folder / CARD).read_text())["metrics"]
    folder.rename(folder.with_name("whole"))
    evaluate, calls = lora_trainer.AnswerTrainer.evaluate, []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise SystemExit
        return evaluate(*args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(lora_trainer.AnswerTrainer, "evaluate", killed)
        trained(tasteful(), **few)
    assert not (folder / CARD).is_file()
    _, _, said = trained(tasteful(), **few)
    assert any("goes on from step 2" in line for line in said)
    metrics = json.loads((folder / CARD).read_text())["metrics"]
    assert (metrics["loss"], metrics["eval_loss"]) == (wanted["loss"], wanted["eval_loss"])
