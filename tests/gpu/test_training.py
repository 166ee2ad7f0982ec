"""Training on a CUDA device: four bits and bfloat16, by the presets' ways."""

import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
sys.path.insert(0, str(Path(__file__).parents[1] / "distill"))


@pytest.mark.parametrize("optimizer", ["adamw", "paged_adamw_8bit"])
@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_a_student_is_trained_and_answers(quantization, optimizer, tmp_path):
    pytest.importorskip("bitsandbytes")
    import students

    from recbole_exp3rt.llm.base import Readout, Request, answer_all
    from recbole_exp3rt.llm.names import load_llm
    from recbole_exp3rt.train import make_settings, train

    data = students.write_data(tmp_path / "data")
    given = {"data": str(data), "output": str(tmp_path / "s"), "base": "smollm2", "epochs": 2}
    given |= {"preset": "imdb", "rank": 16, "batch_size": 4, "micro_batch": 2}
    given |= {"quantization": quantization, "optimizer": optimizer}
    metrics = train(make_settings(given), say=lambda text: None).metrics[""]
    assert metrics["eval_loss"][1][1] < metrics["eval_loss"][0][1] < 4
    student = load_llm(str(tmp_path / "s"), quantization="nf4" if quantization == "nf4" else None)
    readout = Readout("\nPredicted User Rating: ", tuple("0123456789"))
    asked = Request(students.rating_messages(1), max_new_tokens=0, readout=readout)
    assert len(answer_all(student, [asked])[0].label_logp) == 10
