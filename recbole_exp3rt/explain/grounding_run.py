"""The work of `exp3rt ground`: the grounder is measured, then it checks all explanations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_exp3rt import __version__
from recbole_exp3rt.explain.explanations import Explanations
from recbole_exp3rt.explain.grounding import Grounded, GroundedText, ground
from recbole_exp3rt.explain.grounding_figures import (
    Difference,
    SystemFigures,
    differences,
    measure,
)
from recbole_exp3rt.explain.grounding_measured import (
    STATEMENTS,
    CutterCard,
    GrounderCard,
    measure_cutter,
    measure_grounder,
)
from recbole_exp3rt.explain.text_metrics import bert_score, feature_metrics, text_metrics
from recbole_exp3rt.explain.verdicts import Grounder, LLMGrounder
from recbole_exp3rt.explain.verdicts_oracle import OracleGrounder
from recbole_exp3rt.llm.names import ORACLE
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.paths import write_atomic
from recbole_exp3rt.report.forms import without_nan
from recbole_exp3rt.sample.truth import GroundTruth, examples, texts
from recbole_exp3rt.stages.step import Progress, silent

NLI = "nli:"
# Data set -> the world that knows which statements are true
TRUTHS = {"sample": GroundTruth.of_sample}


@dataclass(frozen=True)
class GroundingReport:
    """All that is known of a set of explanations, ready to be shown and written."""

    explanations: Explanations
    card: GrounderCard | None  # None: the grounder was not measured
    cutting: CutterCard | None
    figures: Sequence[SystemFigures]
    differences: Sequence[Difference]
    metrics: Mapping[str, Mapping[str, float]]  # system -> metric of its texts -> value
    grounded: Grounded
    unreadable: Mapping[str, str] = field(default_factory=dict)  # step -> how many, why

    @property
    def dataset(self) -> str:
        """Its name; "": not known."""
        return self.explanations.dataset

    @property
    def pairs(self) -> int:
        """How many pairs of user and item all systems have explained."""
        return len(self.explanations.pairs)

    @property
    def users(self) -> int:
        """How many users these pairs have."""
        return len(set(self.explanations.users))

    @property
    def warnings(self) -> list[str]:
        """What must be known before a figure is read."""
        found = [one.warning for one in (self.card, self.cutting) if one and one.warning]
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
            "users": self.users,
            "measured": asdict(self.card) if self.card else None,
            "cutting": asdict(self.cutting) if self.cutting else None,
            "figures": [{**asdict(one), "statements": one.statements} for one in self.figures],
            "differences": [asdict(one) for one in self.differences],
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
    all_pairs: bool = False,
    metrics: bool = False,
    bert: bool = False,
    bert_model: str | None = None,
    seed: int = 0,
) -> GroundingReport:
    """Measure the grounder on `measured` examples (0: not at all), then ground everything.

    A cutter is measured on texts with about as many statements. all_pairs: each system is compared
    with each other one, not the first alone. metrics: BLEU, ROUGE, USR and those of features too;
    bert: BERTScore too, by `bert_model`.
    Raises: UsageError without the packages of the metrics; LLMError.
    """
    card = measure_grounder(grounder, examples(measured, seed)) if measured else None
    cutting = None
    if measured:
        cutting = measure_cutter(cutter or grounder, texts(-(-measured // STATEMENTS), seed))
    make = TRUTHS.get(explanations.dataset)
    grounded = ground(explanations, grounder, cutter, make() if make else None)
    found = {}
    if metrics or bert:
        found = {system: _metrics(own, bert, bert_model) for system, own in grounded.texts.items()}
    counts = {**(cutter.counts if cutter else {}), **grounder.counts}
    return GroundingReport(
        explanations,
        card,
        cutting,
        measure(grounded, seed=seed),
        differences(grounded, all_pairs=all_pairs, seed=seed),
        found,
        grounded,
        {
            name: f"{count.readable:,} of {count.asked:,} answers were readable "
            f"(mostly: {count.main_reason()})"
            for name, count in counts.items()
            if count.readable < count.asked
        },
    )


def _metrics(texts: Sequence[GroundedText], bert: bool, bert_model: str | None) -> dict[str, float]:
    said, wanted = [one.text for one in texts], [one.pair.review for one in texts]
    topics = [{c.statement.topic for c in one.statements or ()} - {""} for one in texts]
    of_reviews = [{s.topic for s, _ in one.recalled or ()} - {""} for one in texts]
    found = text_metrics(said, wanted)
    if any(topics) and any(of_reviews):
        found |= feature_metrics(topics, of_reviews)
    return {**found, **(bert_score(said, wanted, model=bert_model) if bert else {})}
