"""A grounder that is a natural-language-inference model: a sequence classifier of transformers.

Each line of evidence is a premise, the statement is the hypothesis. The most certain line decides,
as in the NLI metrics of arXiv 2512.24366 (the maximum over the statements of the other side).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.statements import Statement, by_sentence
from recbole_exp3rt.explain.verdicts import VERDICTS, Claim, Found, Verdict
from recbole_exp3rt.stages.counts import StepCount

AT_ONCE = 32  # pairs of premise and hypothesis in one batch
MOST_TOKENS = 256
_WORDS: dict[str, Verdict] = {
    "entail": "entailed",
    "neutral": "neutral",
    "contradict": "contradicted",
}


class NLIGrounder:
    """See verdicts.Grounder. It takes texts apart by sentence and knows no topics."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        """Load a hub id or a folder.

        Raises: UsageError if it is no sequence classifier with the labels entailment, neutral and
        contradiction.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from recbole_exp3rt.llm.local.hub import config_file

        try:
            config_file(name)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"grounder nli:{name} cannot be loaded: {reason}") from error
        self._model.to(device).eval()
        self._order = order_of(self._model.config.id2label, name)
        self.name = f"nli:{name}"
        self.counts: dict[str, StepCount] = {}

    def cut(self, texts: Sequence[str]) -> list[tuple[Statement, ...] | None]:
        """A statement for each sentence."""
        return [by_sentence(text) for text in texts]

    def check(self, claims: Sequence[Claim]) -> list[Found]:
        """See Grounder. Of the lines that entail or contradict, the most certain one decides."""
        pairs = list(
            dict.fromkeys((line.text, c.statement.text) for c in claims for line in c.evidence)
        )
        shares = dict(zip(pairs, self._shares(pairs), strict=True))
        return [
            decided([(line.text, shares[line.text, c.statement.text]) for line in c.evidence])
            for c in claims
        ]

    def _shares(self, pairs: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Probabilities in the order of VERDICTS: [n_pairs][3]."""
        import torch

        found: list[list[float]] = []
        for first in range(0, len(pairs), AT_ONCE):
            some = pairs[first : first + AT_ONCE]
            batch = self._tokenizer(
                [premise for premise, _ in some],
                [hypothesis for _, hypothesis in some],
                padding=True,
                truncation=True,
                max_length=MOST_TOKENS,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.no_grad():
                logits = self._model(**batch).logits  # [pairs, labels]
            found += logits.float().softmax(-1)[:, self._order].tolist()
        return found


def order_of(id2label: dict[int, str], name: str) -> list[int]:
    """The places of entailment, neutral and contradiction among a model's labels.

    Raises: UsageError if its labels do not say which is which.
    """
    places: dict[Verdict, int] = {}
    for place, label in id2label.items():
        for word, verdict in _WORDS.items():
            if word in str(label).lower():
                places[verdict] = int(place)
    if len(places) < len(VERDICTS):
        raise UsageError(
            f"grounder nli:{name} has the labels {', '.join(map(str, id2label.values()))}; "
            "take one with entailment, neutral and contradiction"
        )
    return [places[verdict] for verdict in VERDICTS]


def decided(lines: Sequence[tuple[str, Sequence[float]]]) -> Found:
    """The verdict of lines with their probabilities, in the order of VERDICTS."""
    best, found = 0.0, Found("neutral")
    for text, (entailed, neutral, contradicted) in lines:
        share = max(entailed, contradicted)
        if share > max(neutral, best):
            best = share
            found = Found("entailed" if entailed >= contradicted else "contradicted", text)
    return found
