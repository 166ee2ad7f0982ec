"""The work of `exp3rt ground`: the grounder is measured, then it checks all explanations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_exp3rt import __version__
from recbole_exp3rt.explain.explanations import Explanations
from recbole_exp3rt.explain.grounding import (
    Grounded,
    GroundedText,
    SystemFigures,
    ground,
    measure,
)
from recbole_exp3rt.explain.grounding_measured import GrounderCard, measure_grounder
from recbole_exp3rt.explain.text_metrics import bert_score, feature_metrics, text_metrics
from recbole_exp3rt.explain.verdicts import Grounder, LLMGrounder
from recbole_exp3rt.explain.verdicts_oracle import OracleGrounder
from recbole_exp3rt.llm.names import ORACLE
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.paths import write_atomic
from recbole_exp3rt.report.forms import without_nan
from recbole_exp3rt.sample.truth import GroundTruth, examples
from recbole_exp3rt.stages.step import Progress, silent

NLI = "nli:"
# Data set -> the world that knows which statements are true
TRUTHS = {"sample": GroundTruth.of_sample}


@dataclass(frozen=True)
class GroundingReport:
    """All that is known of a set of explanations, ready to be shown and written."""

    dataset: str
    pairs: int
    shared: int
    card: GrounderCard | None  # None: the grounder was not measured
    figures: Sequence[SystemFigures]
    metrics: Mapping[str, Mapping[str, float]]  # system -> metric of its texts -> value
    grounded: Grounded
    unreadable: Mapping[str, str] = field(default_factory=dict)  # step -> how many, why

    @property
    def warnings(self) -> list[str]:
        """What must be known before a figure is read."""
        found = [self.card.warning] if self.card and self.card.warning else []
        if self.grounded.grounder == OracleGrounder.name and self.dataset not in TRUTHS:
            found.append(
                f"{OracleGrounder.name} reads the language of the sample alone; of "
                f"{self.dataset or 'other texts'} it understands nothing"
            )
        return found

    def write(self, path: str | Path) -> None:
        """Write it as JSON, with every statement and its verdicts."""
        body = {
            "version": __version__,
            "dataset": self.dataset,
            "grounder": self.grounded.grounder,
            "pairs": self.pairs,
            "measured": asdict(self.card) if self.card else None,
            "figures": [asdict(one) for one in self.figures],
            "metrics": self.metrics,
            "unreadable": self.unreadable,
            "texts": [
                _text_json(system, one)
                for system, texts in self.grounded.texts.items()
                for one in texts
            ],
        }
        write_atomic(path, json.dumps(without_nan(body), indent=1, ensure_ascii=False) + "\n")


def _text_json(system: str, one: GroundedText) -> dict[str, Any]:
    checked = None if one.statements is None else [asdict(each) for each in one.statements]
    recalled = [[asdict(part) for part in each] for each in one.recalled or ()]
    where = {"system": system, "user": one.pair.user, "item": one.pair.item}
    return {**where, "text": one.text, "statements": checked, "review": recalled}


def make_grounder(
    name: str,
    models: LanguageModels,
    *,
    item_word: str = "item",
    prompt_dir: str | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Grounder:
    """A grounder by name: `oracle`, `nli:MODEL`, or any language model of `llm/names.py`.

    Raises: UsageError, LLMError if it cannot be loaded.
    """
    if name == ORACLE:
        return OracleGrounder()
    if name.startswith(NLI):
        from recbole_exp3rt.explain.verdicts_nli import NLIGrounder

        return NLIGrounder(name.removeprefix(NLI), device)
    return LLMGrounder(
        models.get(name), item_word=item_word, prompt_dir=prompt_dir, progress=progress
    )


def run_grounding(
    explanations: Explanations,
    grounder: Grounder,
    *,
    cutter: Grounder | None = None,
    measured: int = 60,
    metrics: bool = False,
    bert: bool = False,
    seed: int = 0,
) -> GroundingReport:
    """Measure the grounder on `measured` examples (0: not at all), then ground everything.

    metrics: BLEU, ROUGE, USR and those of features too; bert: BERTScore too.
    Raises: UsageError without the packages of the metrics; LLMError.
    """
    card = measure_grounder(grounder, examples(measured, seed)) if measured else None
    make = TRUTHS.get(explanations.dataset)
    grounded = ground(explanations, grounder, cutter, make() if make else None)
    found = {}
    if metrics or bert:
        found = {system: _metrics(texts, bert=bert) for system, texts in grounded.texts.items()}
    counts = {**(cutter.counts if cutter else {}), **grounder.counts}
    return GroundingReport(
        explanations.dataset,
        len(explanations.pairs),
        explanations.shared,
        card,
        measure(grounded, seed=seed),
        found,
        grounded,
        {
            name: f"{count.readable:,} of {count.asked:,} answers were readable "
            f"(mostly: {count.main_reason()})"
            for name, count in counts.items()
            if count.readable < count.asked
        },
    )


def _metrics(texts: Sequence[GroundedText], *, bert: bool) -> dict[str, float]:
    said, wanted = [one.text for one in texts], [one.pair.review for one in texts]
    topics = [{c.statement.topic for c in one.statements or ()} - {""} for one in texts]
    of_reviews = [{s.topic for s, _ in one.recalled or ()} - {""} for one in texts]
    found = text_metrics(said, wanted)
    if any(topics) and any(of_reviews):
        found |= feature_metrics(topics, of_reviews)
    return {**found, **(bert_score(said, wanted) if bert else {})}
