"""Trains a small module by Adam, and goes on where it was stopped, to the same weights.

All that is random in a step follows from the seed and the number of the step, so a training that
was stopped ends as an undisturbed one does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from recbole_exp3rt.paths import atomic

STATE = "training.safetensors"
SAVE_EVERY = 50  # steps between two saved states, at most
SAVE_SECONDS = 60.0  # as long as that between two of slow steps
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of Adam, for each weight
Batch = Sequence[int]  # numbers of examples


def batches_of(n: int, size: int, epochs: int, seed: int) -> list[list[int]]:
    """The batches of all epochs: each epoch has all `n` examples, in an order of its own."""
    batches = []
    for epoch in range(epochs):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        batches += [order[first : first + size] for first in range(0, n, size)]
    return batches


def tune(
    module: nn.Module,
    batches: Sequence[Batch],
    loss: Callable[[Batch], torch.Tensor],
    folder: Path,
    *,
    learning_rate: float,
    seed: int,
    save_every: int = SAVE_EVERY,
) -> Iterator[float]:
    """Train `module` on `batches` and yield the loss of each step, also of those done before.

    The state is kept in `folder` every `save_every` steps, or once a minute; whoever has saved the
    result removes it (`forget`). Raises: UsageError if it cannot be written.
    """
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    done = _resume(folder / STATE, module, optimizer)
    yield from done
    module.train()
    saved = time.monotonic()
    for step in range(len(done), len(batches)):
        # a caller may run without gradients; the random numbers of others stay theirs
        with torch.enable_grad(), torch.random.fork_rng():
            torch.manual_seed(seed * 1_000_003 + step)
            optimizer.zero_grad()
            value = loss(batches[step])
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        done.append(float(value.detach()))
        due = len(done) % save_every == 0 or time.monotonic() - saved > SAVE_SECONDS
        if due and len(done) < len(batches):
            _keep(folder / STATE, module, optimizer, done)
            saved = time.monotonic()
        yield done[-1]
    module.eval()


def forget(folder: Path) -> None:
    """Remove the state of a training that is over."""
    (folder / STATE).unlink(missing_ok=True)


def _keep(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, losses: Sequence[float]
) -> None:
    tensors = {}
    for name, weight in module.named_parameters():
        tensors[f"weight.{name}"] = weight.detach()
        for moment in MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[weight][moment]
    kept = {name: value.cpu().contiguous().clone() for name, value in tensors.items()}
    with atomic(path) as part:
        try:
            save_file(kept, part, metadata={"losses": json.dumps(list(losses))})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def _resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    """Take up the state in a file: the losses of the steps that are done; none without a file."""
    try:
        with safe_open(path, framework="pt") as file:
            losses = [float(one) for one in json.loads((file.metadata() or {})["losses"])]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        weights = {name: tensors[f"weight.{name}"] for name, _ in module.named_parameters()}
        moments = {name: {m: tensors[f"{m}.{name}"] for m in MOMENTS} for name in weights}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return []
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(weights[name])
            optimizer.state[weight] = {
                moment: value if moment == "step" else value.to(weight.device)
                for moment, value in moments[name].items()
            }
    return losses
