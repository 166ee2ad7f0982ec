"""Folders of models and adapters that others made: no code of theirs runs, none is asked about."""

import json
from pathlib import Path

import pytest
import torch
from students import tiny_llama
from transformers import AutoModelForCausalLM

from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.local.transformers_llm import with_adapter
from recbole_exp3rt.llm.names import load_llm


class Evil:
    """A pickle of it makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def folder(base, tmp_path):
    """A copy of the base's folder by links; `weights` and `config.json` are to be spoilt."""
    made = tmp_path / "model"
    made.mkdir()
    for file in base.iterdir():
        (made / file.name).symlink_to(file)
    return made


def adapter_of(folder, **config):
    folder.mkdir()
    told = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps({**told, **config}))
    return folder


def test_code_that_a_folder_brings_along_never_runs(folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user is asked"))
    (folder / "evil.py").write_text("from pathlib import Path\nPath('executed').mkdir()\n")
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "evil", "auto_map": names})
    )
    monkeypatch.chdir(folder)
    with pytest.raises(LLMError, match="cannot be loaded"):
        load_llm(str(folder))
    assert not (folder / "executed").exists()


def test_pickled_weights_of_a_model_never_run(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    torch.save({"w": Evil(tmp_path / "executed")}, folder / "pytorch_model.bin")
    with pytest.raises(LLMError, match=r"cannot be loaded .its weights are a pickle that can run"):
        load_llm(str(folder))
    assert not (tmp_path / "executed").exists()


def test_pickled_weights_of_an_adapter_never_run(base, tmp_path):
    adapter = adapter_of(tmp_path / "adapter")
    torch.save({"w": Evil(tmp_path / "executed")}, adapter / "adapter_model.bin")
    with pytest.raises(LLMError, match=r"adapter cannot be put on .*are a pickle that"):
        with_adapter(AutoModelForCausalLM.from_pretrained(base), adapter, merge=True)
    assert not (tmp_path / "executed").exists()


def test_an_adapter_fetches_no_others(base, tmp_path):
    """X-LoRA's config names adapters by folder or hub id."""
    adapter = adapter_of(tmp_path / "x", peft_type="XLORA", adapters={"0": "someone/else"})
    with pytest.raises(LLMError, match="it is made of others, at places that it names"):
        with_adapter(AutoModelForCausalLM.from_pretrained(base), adapter, merge=True)
