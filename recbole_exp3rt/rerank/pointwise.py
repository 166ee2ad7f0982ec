"""The shared way of a pointwise reranker: one Yes-or-No question about each candidate.

The score of a candidate is log p(Yes) - log p(No) where the answer begins, read in one forward
pass; nothing is generated. A subclass names its prompt and says what stands in its fields; what
all candidates of a user share comes first in the prompt, so that it is read once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from recbole.utils import InputType, ModelType

from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.llm.base import Completion, Message, Readout, Request, readout_of
from recbole_exp3rt.model.asked import Pair
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.model.prompted import Content
from recbole_exp3rt.prompts import load_prompt
from recbole_exp3rt.rerank.reranker import Candidates
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.room import Lists, within
from recbole_exp3rt.stages.step import Progress, Step, silent
from recbole_exp3rt.stages.trial import try_first

CUE = "Answer: "
YES, NO = "Yes", "No"
NOTHING = "none"  # what a list without entries shows


class PointwiseReranker(ABC):
    """A reranker that asks a language model Yes or No about each candidate.

    It reads the train part alone. RecBole's Config looks at `type` and `input_type`; RecBole
    trains nothing here.
    """

    type = ModelType.GENERAL
    input_type = InputType.POINTWISE
    prompt: ClassVar[str]  # name of the prompt file
    fields: ClassVar[frozenset[str]]  # its fields beside item_word

    def __init__(
        self,
        config: Any,
        dataset: Any,
        models: LanguageModels | None = None,
        progress: Progress = silent,
    ) -> None:
        """Read the train part `dataset`; ask the model `student` of `models`.

        Raises: UsageError for settings that do not fit, or if there are no ratings.
        """
        read = Reader(config)
        self.config = config
        self.dataset = dataset
        self.name = str(config["model"])
        self.models = models or LanguageModels.from_config(config)
        self.corpus = self._read(dataset)
        self.item_word = read.text("item_word")
        self.max_prompt_tokens = read.whole("max_prompt_tokens", least=64)
        fields = self.fields | {"item_word"}
        self._prompt = load_prompt(self.prompt, read.text_or_none("prompt_dir"), fields)
        self.llm = self.models.get(read.text("student"))
        self.step = Step(self.name, f"Answering Yes or No for {self.name}", self.llm, progress)
        self._known: dict[Pair, float | None] = {}

    @abstractmethod
    def content(self, user: str, item: str) -> Content:
        """What the question about a pair of raw tokens shows."""

    @property
    def readout(self) -> str:
        """How the labels are read: exact, top or parsed."""
        return readout_of(self.llm)

    def messages(self, content: Content) -> tuple[Message, ...]:
        """The prompt that shows `content`. Raises: Unreadable if it fits into no budget."""

        def render(lists: Lists) -> tuple[Message, ...]:
            texts = {name: "\n".join(entries) or NOTHING for name, entries in lists.items()}
            return self._prompt.render(item_word=self.item_word, **content.fields, **texts)

        return within(render, content.lists, self.max_prompt_tokens, self.llm.count_tokens)

    def request(self, pair: Pair) -> Request:
        """The question about a pair: the probabilities of Yes and No, nothing generated."""
        messages = self.messages(self.content(*pair))
        return Request(messages, max_new_tokens=0, readout=Readout(CUE, (YES, NO)))

    def questions(self, pairs: Sequence[Pair]) -> list[Request]:
        """All requests about `pairs`, for a plan; what fits into no prompt has none."""
        return list(self.step.requests({pair: pair for pair in pairs}, self.request).values())

    def log_odds(self, pairs: Sequence[Pair]) -> list[float | None]:
        """log p(Yes) - log p(No) of raw (user, item) tokens, None without an answer: [n_pairs].

        Raises: NothingRated if the first pairs, or all, have no readable answer.
        """

        def ask(some: Sequence[Pair]) -> None:
            new = {pair: pair for pair in some if pair not in self._known}
            requests = self.step.requests(new, self.request)
            self._known.update(dict.fromkeys(new.keys() - requests.keys()))
            self._known.update(self.step.run(requests, _log_odds).records)

        try_first(pairs, ask, self.step.count, f"'{CUE}{YES}' or '{CUE}{NO}'", "pairs was judged")
        return [self._known.get(pair) for pair in pairs]

    def rerank(self, lists: Sequence[Candidates]) -> list[list[float | None]]:
        """The log-odds of each candidate, None without an answer: [lists][candidates]."""
        scores = iter(self.log_odds([(one.user, item) for one in lists for item in one.items]))
        return [[next(scores) for _ in one.items] for one in lists]

    def _read(self, dataset: Any) -> Any:
        read = Reader(self.config)
        described = read.names("description_fields")
        return corpus_of(dataset, described, read.text_or_none("review_file"), texts=False)


def _log_odds(pair: Pair, answer: Completion) -> float:
    """Raises: Unreadable if no label was scored, or the result is not a number."""
    if answer.label_logp is None:
        raise Unreadable(f"neither '{CUE}{YES}' nor '{CUE}{NO}' in the answer")
    yes, no = answer.label_logp
    if not math.isfinite(yes - no):
        raise Unreadable("the model's label probabilities are not numbers")
    return yes - no
