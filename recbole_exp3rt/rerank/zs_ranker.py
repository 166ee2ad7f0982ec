"""ZS-Ranker: a language model puts all candidates of a user in order at once, without training.

Source: Hou et al., "Large Language Models are Zero-Shot Rankers for Recommender Systems", ECIR
2024, arXiv 2305.08845 (LLMRank). `docs/models/zsranker.md` says what differs.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from recbole.utils import InputType, ModelType

from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.config.systems import ZSRankerSettings
from recbole_exp3rt.data.history import histories
from recbole_exp3rt.data.train_corpus import read_descriptions
from recbole_exp3rt.llm.base import Completion, Message, Request
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.prompts import load_prompt
from recbole_exp3rt.records import Description
from recbole_exp3rt.rerank.reranker import Candidates
from recbole_exp3rt.stages.room import Lists, within
from recbole_exp3rt.stages.step import Progress, Step, silent
from recbole_exp3rt.stages.trial import try_first
from recbole_exp3rt.stages.untrusted import harmless
from recbole_exp3rt.stages.written_order import WrittenOrder, written_order

LATEST = {"recency", "in_context"}  # strategies whose prompt names the latest item by itself


@dataclass(frozen=True, slots=True)
class Question:
    """One list of candidates, as it is shown in one round: the items in shuffled order."""

    user: str
    items: tuple[str, ...]
    round: int


class ZSRanker:
    """Asks for the numbers of all candidates in order of preference, one question a list and round.

    It reads titles and the users' train items; no rating, no review, no test row.
    """

    # What RecBole's Config asks of the class of every model.
    type: ClassVar[ModelType] = ModelType.GENERAL
    input_type: ClassVar[InputType] = InputType.POINTWISE
    readout = ""  # no label is scored

    def __init__(
        self,
        config: Any,
        dataset: Any,
        models: LanguageModels | None = None,
        progress: Progress = silent,
    ) -> None:
        """Read the histories in `dataset`, the train part; ask the model `student` of `models`.

        Raises: UsageError for settings that do not fit.
        """
        read = Reader(config)
        self.config = config
        self.settings = settings = ZSRankerSettings.from_config(config)
        size = settings.history
        self.history = {user: items[-size:] for user, items in histories(dataset).items()}
        folder = Path(dataset.dataset_path)
        self._described = read_descriptions(
            folder / f"{dataset.dataset_name}.item",
            read.names("description_fields"),
            dataset.iid_field,
            config["field_separator"],
            config["encoding"],
        )
        own = read.text_or_none("prompt_dir")
        self._prompts = {
            name: load_prompt(f"zs_{name}", own, _fields(name))
            for name in {"sequential", settings.strategy}
        }
        models = models or LanguageModels.from_config(config)
        self.llm = models.get(read.text("student"))
        self.step = Step("ZSRanker", "Ranking candidates by ZSRanker", self.llm, progress)

    def title(self, item: str) -> str:
        """The title of an item as prompts show it; its id if it has none."""
        return harmless(self._described.get(item, Description(item)).title)

    def question(self, user: str, items: Sequence[str], round: int) -> Question:
        """The candidates in the order of a round: it depends on their set, the user, the round."""
        shuffled = sorted(items)
        random.Random(f"{user}\0{round}").shuffle(shuffled)
        return Question(user, tuple(shuffled), round)

    def messages(self, question: Question) -> tuple[Message, ...]:
        """The prompt of a question. Raises: Unreadable if its candidates fit into no budget."""
        past = [self.title(item) for item in self.history[question.user]]
        strategy = self.settings.strategy if len(past) > 1 else "sequential"
        fields = {"item_word": self.settings.item_word}
        if strategy in LATEST:
            fields["latest"] = past[-1]
            past = past[:-1] if strategy == "in_context" else past
        fields["candidates"] = "\n".join(
            f"{number}. {self.title(item)}" for number, item in enumerate(question.items, 1)
        )
        prompt = self._prompts[strategy]

        def render(lists: Lists) -> tuple[Message, ...]:
            return prompt.render(history="\n".join(lists["history"]), **fields)

        lists = {"history": [f"- {title}" for title in past]}
        return within(render, lists, self.settings.max_prompt_tokens, self.llm.count_tokens)

    def request(self, question: Question) -> Request:
        """The request of a question. Raises: Unreadable, see `messages`."""
        return Request(self.messages(question), max_new_tokens=self.settings.max_new_tokens)

    def _rounds(self, user: str, items: Sequence[str]) -> list[Question]:
        """All questions about a list; none about a user without train rows, or no candidate."""
        if user not in self.history or not items:
            return []
        return [self.question(user, items, round) for round in range(self.settings.boots)]

    def questions(self, pairs: Sequence[tuple[str, str]]) -> list[Request]:
        """The requests about the candidates in `pairs` of raw tokens, for a plan.

        A user's items are taken as lists of `rerank_depth`, in their order.
        """
        of_user: dict[str, list[str]] = {}
        for user, item in dict.fromkeys(pairs):
            of_user.setdefault(user, []).append(item)
        asked = {
            question: question
            for user, items in of_user.items()
            for start in range(0, len(items), self.settings.rerank_depth)
            for question in self._rounds(user, items[start : start + self.settings.rerank_depth])
        }
        return list(self.step.requests(asked, self.request).values())

    def rerank(self, lists: Sequence[Candidates]) -> list[list[float | None]]:
        """Scores of all candidates: [lists][candidates], see `round_scores`; summed over rounds.

        None for a candidate that no answer names, and for all of a user without train rows.
        Warns, with the number, if answers hold numbers of no candidate.
        Raises: NothingRated if the answers about the first lists, or all, are unreadable.
        """
        rounds = [self._rounds(one.user, one.items) for one in lists]
        orders: dict[Question, WrittenOrder] = {}

        def read(question: Question, answer: Completion) -> WrittenOrder:
            return written_order(answer.text, [self.title(item) for item in question.items])

        def ask(some: Sequence[Question]) -> None:
            new = {question: question for question in some if question not in tried}
            tried.update(new)
            records = self.step.run(self.step.requests(new, self.request), read).records
            orders.update({question: order for question, order in records.items() if order})

        tried: set[Question] = set()
        asked = [question for questions in rounds for question in questions]
        try_first(asked, ask, self.step.count, "numbers of candidates", "lists was ranked")
        if outside := sum(order.outside for order in orders.values()):
            warnings.warn(
                f"ZSRanker: {outside:,} numbers in answers name no candidate", stacklevel=2
            )
        scores = []
        for one, questions in zip(lists, rounds, strict=True):
            total: dict[str, float] = {}
            for question in questions:
                if question in orders:
                    for item, score in round_scores(question, orders[question]).items():
                        total[item] = total.get(item, 0.0) + score
            scores.append([total.get(item) for item in one.items])
        return scores


def round_scores(question: Question, written: WrittenOrder) -> dict[str, float]:
    """Item -> number of candidates minus its place, from 0, for each candidate that is named."""
    size = len(question.items)
    return {
        question.items[number - 1]: float(size - place)
        for place, number in enumerate(written.order)
    }


def _fields(strategy: str) -> frozenset[str]:
    fields = {"item_word", "history", "candidates"}
    return frozenset(fields | ({"latest"} if strategy in LATEST else set()))
