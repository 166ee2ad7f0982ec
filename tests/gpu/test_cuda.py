"""The local backend on a CUDA device: bfloat16 and four bits give complete, repeatable answers."""

import pytest
import torch

from recbole_exp3rt.llm.base import Message, Readout, Request, answer_all
from recbole_exp3rt.llm.names import load_llm

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

READOUT = Readout("\nPredicted User Rating: ", tuple("0123456789"))


def ask(text, **settings):
    return Request((Message("user", text),), **{"max_new_tokens": 16, **settings})


@pytest.fixture(scope="module", params=[None, "nf4"], ids=["bfloat16", "nf4"])
def llm(request):
    if request.param:
        pytest.importorskip("bitsandbytes")
    return load_llm("smollm2", quantization=request.param)


def test_it_is_on_the_device_in_bfloat16(llm):
    assert llm.model.device.type == "cuda"
    assert "+bfloat16" in llm.identity


def test_every_request_is_answered_once_the_same_way(llm):
    requests = [
        ask(f"Is {word} a good film?", readout=READOUT) for word in ["Rain", "Steel", "Sea"]
    ]
    requests.append(ask("Go on.", max_new_tokens=5))
    first, second = answer_all(llm, requests), answer_all(llm, requests)
    assert first == second
    assert all(len(answer.label_logp) == 10 for answer in first[:3])
    assert first[3].new_tokens <= 5


def test_labels_are_near_the_cpus(llm, smollm2):
    requests = [ask("Is it raining?", max_new_tokens=0, readout=READOUT)]
    on_gpu, on_cpu = answer_all(llm, requests)[0], answer_all(smollm2, requests)[0]
    # bfloat16 has eight bits of precision, four-bit weights fewer
    room = 2.0 if "nf4" in llm.identity else 0.3
    assert on_gpu.label_logp == pytest.approx(on_cpu.label_logp, abs=room)


def test_a_short_chat_is_sensible(llm):
    if "nf4" in llm.identity:
        pytest.skip("a model this small loses too much in four bits")
    answer = answer_all(llm, [ask("What is the capital of France?", max_new_tokens=30)])[0]
    assert "Paris" in answer.text
