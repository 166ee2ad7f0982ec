"""The exact log-probability of each of a fixed set of answers, by one pass of the decoder.

Answers are token sequences. As a trie they share their beginnings, and every fork lies on one of
few paths: "1.0" … "5.0" need the five paths "1." … "5." alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Answers:
    """A set of answers [n_answers], no one of them the beginning of another.

    Where the tokens do not have this property, each answer ends in the end token.
    """

    def __init__(self, answers: Sequence[Sequence[int]], start: int, end: int) -> None:
        """`start` is the decoder's first token. Raises: ValueError for equal or empty answers."""
        whole = [tuple(answer) for answer in answers]
        if len(set(whole)) < len(whole) or () in whole:
            raise ValueError(f"{len(whole)} answers are not all different and not empty")
        if set(whole) & {answer[:n] for answer in whole for n in range(1, len(answer))}:
            whole = [(*answer, end) for answer in whole]
        before = {answer[:-1] for answer in whole}
        inner = {path[:n] for path in before for n in range(len(path))}
        paths = sorted(before - inner)
        self.n_paths, self.depth = len(paths), max(map(len, whole))
        self.inputs = torch.tensor(
            [[start, *path, *[end] * (self.depth - 1 - len(path))] for path in paths]
        )  # [n_paths, depth]
        self.paths = torch.tensor(
            [next(k for k, p in enumerate(paths) if p[: len(a) - 1] == a[:-1]) for a in whole]
        )  # [n_answers]
        self.tokens = torch.tensor([[*a, *[end] * (self.depth - len(a))] for a in whole])
        self.scored = torch.tensor([[k < len(a) for k in range(self.depth)] for a in whole])

    def log_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """log P(answer): [batch, n_paths, depth, vocabulary] -> [batch, n_answers].

        `logits` are the decoder's after `inputs`. Column j of `tokens` is predicted at position j.
        """
        at = torch.arange(self.depth)
        chosen = logits[:, self.paths[:, None], at[None, :], self.tokens].float()
        norms = logits.float().logsumexp(dim=-1)[:, self.paths[:, None], at[None, :]]
        steps = (chosen - norms).masked_fill(~self.scored.to(logits.device), 0.0)
        return steps.sum(dim=-1)  # [batch, n_answers]
