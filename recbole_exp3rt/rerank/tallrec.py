"""TALLRec: candidates sorted by a language model's log-odds of Yes, from titles alone.

Source: Bao et al., "TALLRec: An Effective and Efficient Tuning Framework to Align Large Language
Model with Recommendation", RecSys 2023, arXiv 2305.00447. `docs/models/tallrec.md` says what
differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from recbole_exp3rt.config.systems import TALLRecSettings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.display.terminal import say as say_plainly
from recbole_exp3rt.distill.annotate.examples import Example, Parts
from recbole_exp3rt.distill.annotate.training_data import Count, DataCard
from recbole_exp3rt.distill.train.on_demand import OnDemand
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.card import pair_digest
from recbole_exp3rt.llm.names import base_of
from recbole_exp3rt.model.asked import Pair
from recbole_exp3rt.model.prompted import Content
from recbole_exp3rt.records import Review
from recbole_exp3rt.rerank.pointwise import CUE, NO, YES, PointwiseReranker
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.untrusted import harmless

SAVED = Path("saved")  # where trained students are kept
Shot = tuple[Review, Sequence[Review]]  # a rated pair, and what the user rated before


class TALLRec(PointwiseReranker):
    """Shows the titles that the user liked and disliked, and asks Yes or No about another one.

    Preset `paper` only asks; `original` trains LoRA matrices on a few train pairs first
    (`prepare`). A user without train ratings is asked about with empty lists.
    """

    prompt = "tallrec"
    fields: ClassVar[frozenset[str]] = frozenset({"liked", "disliked", "target"})

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        """As every pointwise reranker. Raises: UsageError for settings that do not fit."""
        super().__init__(config, *args, **kwargs)
        self.settings = TALLRecSettings.from_config(config)
        self.ready = self.settings.preset == "paper"

    def content(self, user: str, item: str) -> Content:
        """The user's other train ratings, oldest first, and the item's title."""
        return self._content(self.corpus.user_reviews(user, without=item), item, self.corpus)

    def _content(self, history: Sequence[Review], item: str, corpus: Corpus) -> Content:
        lists: dict[str, list[str]] = {"liked": [], "disliked": []}
        for review in history:
            title = harmless(corpus.description(review.item).title)
            lists["liked" if self.likes(review.rating) else "disliked"].append(f"- {title}")
        return Content(self.prompt, {"target": harmless(corpus.description(item).title)}, lists)

    def likes(self, rating: float) -> bool:
        """Whether a rating, in rating units, says that the user liked the item."""
        return rating >= self.settings.like_from

    def log_odds(self, pairs: Sequence[Pair]) -> list[float | None]:
        """As every pointwise reranker. Raises: UsageError if its student is not trained yet."""
        if not self.ready:
            raise UsageError(
                f"{self.name} with preset=original has no student yet: train it with "
                "prepare(split), or take preset=paper"
            )
        return super().log_odds(pairs)

    # --- preset `original`

    def prepare(
        self,
        split: Split,
        say: Callable[[str], None] = say_plainly,
        *,
        train: bool = True,
    ) -> None:
        """Take the student that learned from the train rows of `split`; `train` it if needed.

        Without `train`, a student that is not there yet is not missed: questions are planned as
        the base's. With preset `paper` nothing happens.
        Raises: UsageError, LLMError with a message of one line; checkpoints are kept.
        """
        if self.ready:
            return
        student = self.student(split)
        if not student.is_trained:
            if not train:
                return
            parts = student.examples["binary"]
            shown = " and ".join(f"{len(part):,}" for part in parts)
            say(f"Training {self.name} on {shown} pairs of train and validation")
            student.train(say)
        self.llm = self.step.llm = self.models.get(self.base, adapter=str(student.folder))
        self.ready = True

    @property
    def base(self) -> str:
        """The model that is trained: the student, or an adapter's base."""
        student = str(self.config["student"])
        return base_of(student) or student

    def student(self, split: Split) -> OnDemand:
        """The student that learns from `split`, trained or not. Raises: UsageError."""
        corpus = self.corpus if split.train is self.dataset else self._read(split.train)
        shots = self._train_shots(corpus), self._valid_shots(corpus, split)
        parts: Parts = (self._examples(shots[0], corpus), self._examples(shots[1], corpus))
        for part, examples in zip(("train", "validation"), parts, strict=True):
            if not examples:
                raise UsageError(
                    f"{self.name} with preset=original has no {part} row of a user with earlier "
                    "ratings to learn from; take preset=paper, or another split"
                )
        seen = {(r.user, r.item) for shot, before in shots[0] for r in (shot, *before)}
        card = DataCard(
            dataset=str(self.config.dataset),
            split=split.digest,
            teacher={},
            prompts=hashlib.sha256(repr(self._prompt.sections).encode()).hexdigest(),
            settings={
                "like_from": self.settings.like_from,
                "shots": self.settings.shots,
                "valid_shots": self.settings.valid_shots,
                "max_prompt_tokens": self.max_prompt_tokens,
            },
            train_pairs=sorted(pair_digest(*pair) for pair in seen),
            counts={"binary": Count(len(parts[0]), len(parts[1]))},
            synthetic=False,
            note=f"for {self.name}: Yes from rating {self.settings.like_from:g} on",
        )
        base = self.models.get(self.base)
        given = {
            "preset": "tallrec",
            "base": self.base,
            "tasks": ["binary"],
            "seed": self.settings.seed,
            "max_tokens": 2 * self.max_prompt_tokens,  # with the chat template; nothing is cut
            "threads": self.models.settings.threads,
            **self.settings.train_args,
        }
        place = SAVED / f"{self.config.dataset}-{self.name}"
        return OnDemand(place, {"binary": parts}, card, given, base.identity)

    def _train_shots(self, corpus: Corpus) -> list[Shot]:
        """Random train rows, each with the train rows of its user before it."""
        rows: list[Shot] = [
            (rated[k], rated[:k])
            for _, rated in sorted(corpus.by_user.items())
            for k in range(1, len(rated))
        ]
        return self._some(rows, self.settings.shots)

    def _valid_shots(self, corpus: Corpus, split: Split) -> list[Shot]:
        """Random validation rows, each with the train rows of its user."""
        rated = zip(split.pairs("valid"), split.ratings("valid"), strict=True)
        rows: list[Shot] = [
            (Review(user, item, float(rating)), corpus.user_reviews(user, without=item))
            for (user, item), rating in sorted(rated)
        ]
        return self._some([row for row in rows if row[1]], self.settings.valid_shots)

    def _some(self, rows: list[Shot], wanted: int) -> list[Shot]:
        return Random(self.settings.seed).sample(rows, min(wanted, len(rows)))

    def _examples(self, shots: Sequence[Shot], corpus: Corpus) -> tuple[Example, ...]:
        """What inference asks about each pair, and its answer by the pair's own rating."""
        examples = []
        for shot, before in shots:
            try:
                messages = self.messages(self._content(before, shot.item, corpus))
            except Unreadable:  # fits into no prompt, and would not at inference
                continue
            label = YES if self.likes(shot.rating) else NO
            examples.append(Example("binary", messages, f"{CUE}{label}", label))
        return tuple(examples)
