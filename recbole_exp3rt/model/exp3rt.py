"""EXP3RT as a model of RecBole: it predicts ratings from the reviews of the train part.

To rank, `RatingReranker` (in `rerank/`) sorts the candidates of a generator by these ratings.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.model.asked import AskedRater
from recbole_exp3rt.model.rater import Rater, make_rater
from recbole_exp3rt.stages.counts import StepCount


class EXP3RT(AskedRater):
    """Predicts expected ratings with an LLM that reads the reviews. Paper: section 3.

    RecBole does not train it: the student is trained before.
    """

    def __init__(self, config: Any, dataset: Any, rater: Rater | None = None) -> None:
        """Use `rater`, or make one from `config` and the reviews of `dataset`, the train part.

        Raises: UsageError for settings that do not fit, or if there are no reviews.
        """
        super().__init__(config, dataset)
        if rater is None:
            settings = Settings.from_config(config)
            rater = make_rater(
                settings, corpus_of(dataset, settings.description_fields, settings.review_file)
            )
        self.rater = rater
        self._beside: list[Rater] = []  # the first rater over a wider corpus

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """See AskedRater."""
        return [p.expected if p else None for p in self.rater.rate(pairs)]

    @property
    def corpus(self) -> Corpus:
        """The train part that it reads."""
        return self.rater.pipeline.corpus

    def over(self, corpus: Corpus) -> EXP3RT:
        """The same models, prompts and settings on another corpus.

        What all such models read is remembered and counted together, in `counts_beside`.
        """
        if not self._beside:
            self._beside.append(self.rater.over(corpus))
        other = copy.copy(self)
        other.rater = self._beside[0].going_on(corpus)
        return other

    @property
    def counts_beside(self) -> Mapping[str, StepCount]:
        """Step -> its counts over other corpora (`over`); nothing if there were none."""
        return self._beside[0].pipeline.counts if self._beside else {}

    def explain(self, pairs: Sequence[tuple[str, str]]) -> list[str | None]:
        """The rationale of each pair, None where there is none: [n_pairs]."""
        return [p.rationale or None if p else None for p in self.rater.explain(pairs)]

    @property
    def readout(self) -> str:
        """How the labels are read: exact, top or parsed."""
        return self.rater.readout
