"""What the base model says of ratings before it learns: the part of a prior that stays as it is.

The readout of `use_bias=prior` takes the base model's mean label distribution away from what a
student says (`stages/prior.py`). It is taken once, over random train pairs, and frozen.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random
from typing import Any

import torch

PAIRS = 200  # train pairs at most
FILE = "prior_base.json"


def anchor(trainer: Any, folder: Path) -> list[float] | None:
    """Give the trainer its `prior_base`: [labels], in nats; None if no rating has a prior.

    A fresh adapter changes nothing, so the trainer's model is the base model still. `folder` keeps
    the numbers for a training that is stopped.
    """
    rows = trainer.train_dataset
    if "prior" not in rows.column_names:
        return None
    rated = [k for k, prior in enumerate(rows["prior"]) if prior]
    if not rated:
        return None
    file = folder / FILE
    if file.is_file():
        base: list[float] = json.loads(file.read_text(encoding="utf-8"))
    else:
        Random(trainer.args.data_seed).shuffle(rated)
        base = _mean_labels(trainer, sorted(rated[:PAIRS]))
        made = file.with_suffix(".new")
        made.write_text(json.dumps(base) + "\n", encoding="utf-8")
        os.replace(made, file)
    trainer.prior_base = torch.tensor(base)
    return base


def _mean_labels(trainer: Any, chosen: list[int]) -> list[float]:
    """Logarithm of the mean probability of each label over the chosen train rows."""
    model = trainer.model
    was_training = model.training
    model.eval()
    sums, count = None, 0
    size = trainer.args.per_device_train_batch_size
    with torch.no_grad():
        for start in range(0, len(chosen), size):
            rows = [trainer.train_dataset[k] for k in chosen[start : start + size]]
            inputs = trainer._prepare_inputs(trainer.data_collator(rows))
            shares = trainer.label_scores_of(model, inputs).softmax(dim=-1)
            sums = shares.sum(dim=0) if sums is None else sums + shares.sum(dim=0)
            count += len(shares)
    model.train(was_training)
    assert sums is not None
    return [round(value, 6) for value in (sums / count).log().tolist()]
