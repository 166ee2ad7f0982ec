"""What the explainers share that write out of what EXP3RT reads: reviews and bullets of train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole.utils import InputType, ModelType

from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.stages.step import Progress, silent

Pair = tuple[str, str]  # raw tokens of a user and an item


class ProfileExplainer:
    """An explainer that writes by a rule. A subclass gives `say`.

    It asks the questions of EXP3RT's first two steps, through EXP3RT's own rater: what is in the
    store is not asked again.
    """

    type = ModelType.GENERAL  # RecBole's Config asks for both; nothing is trained by RecBole
    input_type = InputType.POINTWISE
    step = None  # no question of its own, for a plan

    def __init__(
        self,
        config: Any,
        dataset: Any,
        models: LanguageModels | None = None,
        progress: Progress = silent,
        *,
        rater: Rater | None = None,
    ) -> None:
        """`rater` reads the train part alone. Raises: UsageError without one."""
        if rater is None:
            raise UsageError("this explainer reads the profiles of EXP3RT; make it in a run")
        self.config = config
        self.rater = rater
        self.item_word = Reader(config).text("item_word")

    @property
    def corpus(self) -> Corpus:
        """The train part."""
        return self.rater.pipeline.corpus

    def explain(self, pairs: Sequence[Pair]) -> list[str | None]:
        """An explanation of each pair, None for a user or item without a train row: [n_pairs]."""
        known = [p for p in dict.fromkeys(pairs) if self.knows(*p)]
        texts = dict(zip(known, self.say(known), strict=True))
        return [texts.get(pair) for pair in pairs]

    def knows(self, user: str, item: str) -> bool:
        """Whether both have a train row."""
        return bool(self.corpus.user_reviews(user)) and bool(self.corpus.item_reviews(item))

    def say(self, pairs: Sequence[Pair]) -> list[str | None]:
        """An explanation of each of these known pairs: [n_pairs]."""
        raise NotImplementedError


def plain_bullet(bullet: str) -> str:
    """A bullet as the end of a sentence: one line, without the full stop."""
    return " ".join(bullet.split()).rstrip(" .;,")
