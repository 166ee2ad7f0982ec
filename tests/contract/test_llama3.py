"""The preset `llama3-8b` on its real tokenizer: all but the size of the model is as it will be."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
import llama3

from recbole_exp3rt.llm import names
from recbole_exp3rt.llm.base import Message, Readout, Request, answer_all
from recbole_exp3rt.llm.label_tokens import label_tokens
from recbole_exp3rt.llm.local.transformers_llm import TransformersLLM

LABELS = tuple("0123456789")
CUE = "\nPredicted User Rating: "
BEGIN, END_OF_TURN = 128_000, 128_009


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-llama3")
    llama3.save(folder)
    return folder


@pytest.fixture(scope="module")
def llm(folder):
    return TransformersLLM(str(folder), device="cpu")


def ask(text, **settings):
    messages = (Message("system", "You rate movies."), Message("user", text))
    return Request(messages, **{"max_new_tokens": 8, **settings})


def test_exactly_one_beginning_of_text(llm):
    prompt = llm.chat.prompt(ask("A film?", prefill="Reasoning:"))
    assert prompt[0] == BEGIN
    assert prompt.count(BEGIN) == 1
    said = llm.chat.decode(prompt)
    assert said.endswith("<|start_header_id|>assistant<|end_header_id|>\n\nReasoning:")


@pytest.mark.parametrize("cue", [CUE, "Predicted User Rating: "])
def test_labels_are_single_tokens(llm, cue):
    found = label_tokens(llm.chat.encode, "", Readout(cue, LABELS), llm.chat.end_of_turn)
    assert [len(label) for label in found.labels] == [1] * 10
    assert [llm.chat.decode(label) for label in found.labels] == list(LABELS)
    assert llm.chat.decode(found.context) == cue
    # numbers up to three digits are one token each: no sequence is needed for 10 either
    ten = label_tokens(llm.chat.encode, "", Readout(cue, ("1", "10")), llm.chat.end_of_turn)
    assert [len(label) for label in ten.labels] == [1, 1]


def test_the_templates_end_of_turn_ends_an_answer(folder, llm):
    assert llm.chat.end_of_turn == END_OF_TURN
    assert llm.chat.ends == {END_OF_TURN, 128_001}
    other = TransformersLLM(str(folder), device="cpu")
    with torch.no_grad():  # a model that always ends its turn
        other.model.model.norm.weight.zero_()
        other.model.lm_head = torch.nn.Linear(64, 128_256)
        other.model.lm_head.bias.zero_()
        other.model.lm_head.bias[END_OF_TURN] = 9.0
    answer = answer_all(other, [ask("A film?")])[0]
    assert (answer.text, answer.finish, answer.new_tokens) == ("", "stop", 0)


def test_padding_does_not_change_answers(llm):
    requests = [
        ask("rain " * n, readout=Readout(CUE, LABELS), prefill="Reasoning:") for n in (1, 40, 7, 90)
    ]
    for request, together in zip(requests, answer_all(llm, requests), strict=True):
        alone = answer_all(llm, [request])[0]
        assert replace(alone, label_logp=None) == replace(together, label_logp=None)
        assert alone.label_logp == pytest.approx(together.label_logp, abs=1e-4)


def test_the_preset_runs_on_what_its_name_stands_for(folder, monkeypatch):
    settings = {**names.PRESETS["llama3-8b"], "name_or_path": str(folder), "quantization": None}
    assert names.PRESETS["llama3-8b"]["quantization"] == "nf4"
    monkeypatch.setitem(names.PRESETS, "llama3-8b", settings)
    llm = names.load_llm("llama3-8b", device="cpu")
    assert llm.identity.endswith("+bfloat16")
    answer = answer_all(llm, [ask("A film?", readout=Readout(CUE, LABELS))])[0]
    assert len(answer.label_logp) == 10


def test_an_adapter_changes_answers_and_identity(folder, llm, tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    model.save_pretrained(tmp_path / "adapter")
    adapted = TransformersLLM(str(folder), device="cpu", adapter=tmp_path / "adapter")
    assert adapted.identity.startswith(f"{llm.identity}+adapter@")
    request = ask("A film?", readout=Readout(CUE, LABELS))
    plain, other = answer_all(llm, [request])[0], answer_all(adapted, [request])[0]
    assert plain.label_logp != pytest.approx(other.label_logp, abs=1e-2)
