"""What makes a training fast changes nothing that it learns."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from recbole_exp3rt.distill.train.cpu_lora import _mask, speed_up
from recbole_exp3rt.distill.train.packing import NAME, one_row


def test_the_fast_layer_is_pefts(tiny):
    def grads(fast, dropout=0.0):
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=dropout)
        config.init_lora_weights = False
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config).train()
        if fast:
            assert speed_up(model) == 14
        torch.manual_seed(1)
        ids = torch.arange(50, 90)[None]
        loss = model(ids, labels=ids).loss
        loss.backward()
        return [loss.detach()] + [p.grad for p in model.parameters() if p.requires_grad]

    for plain, ours in zip(grads(False), grads(True), strict=True):
        assert torch.allclose(plain, ours, rtol=1e-3, atol=1e-5)
    # dropped values differ from draw to draw, their share does not
    assert not torch.allclose(grads(True)[0], grads(True, dropout=0.5)[0], atol=1e-4)


def test_a_shared_start_has_the_gradients_of_the_examples_apart(tiny):
    def example(*tail):
        return {"input_ids": [*range(40, 60), *tail], "labels": [-100] * 22 + [*tail[2:]]}

    examples = [example(7, 8, 9), example(7, 9, 10, 11), example(8, 3, 3, 3, 3)]

    def grads(*batches):
        model = AutoModelForCausalLM.from_pretrained(tiny, attn_implementation=NAME)
        for batch in batches:
            labels = batch.pop("labels")
            logits = model(**batch, use_cache=False).logits[:, :-1]
            torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
            ).backward()
        return [p.grad for p in model.parameters()]

    together = one_row(examples)
    assert together["shared"] == 20 and together["input_ids"].shape == (1, 20 + 3 + 4 + 5)
    apart = grads(*(one_row([one]) for one in examples))
    for one, other in zip(grads(together), apart, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def test_dropout_keeps_the_mean():
    mask, kept = _mask(torch.ones(333, 31), 0.1)
    assert mask.shape == (333, 31)
    assert kept == pytest.approx(0.9, abs=0.002)
    assert mask.float().mean() == pytest.approx(kept, abs=0.02)
