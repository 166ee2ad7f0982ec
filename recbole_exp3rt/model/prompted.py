"""The shared way of a prompted rating model: one question about each pair, from one prompt file.

A subclass names its prompt and says what stands in its fields. Loops, budgets, the store, labels
and parsing are here and below. It reads the train part alone.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from recbole_exp3rt.config.reader import Lookup, Reader, read_scale
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.llm.base import Completion, Message, Request, readout_of
from recbole_exp3rt.model.asked import AskedRater, Pair
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.prompts import Prompt, load_prompt
from recbole_exp3rt.records import RatingPrediction
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.rating import BIAS_HINT, CUE, prediction_of, rating_request
from recbole_exp3rt.stages.room import Lists, within
from recbole_exp3rt.stages.step import Progress, Step, silent
from recbole_exp3rt.stages.trial import try_first
from recbole_exp3rt.stages.written_rating import written_rating

# Fields that every such prompt may have: the answer's form and the words of the data set.
FORM = frozenset({"answer_form", "item_word", "number", "lowest", "highest", "bias_hint"})


@dataclass(frozen=True)
class PromptSettings:
    """What a prompted rating model asks, and how long prompts and answers may be, in tokens."""

    scale: RatingScale
    item_word: str
    use_reasoning: bool
    use_bias: bool
    parsed: bool
    max_prompt_tokens: int
    max_new_tokens: int
    number_tokens: int

    @classmethod
    def from_config(cls, config: Lookup) -> PromptSettings:
        """Read and check the keys. Raises: UsageError with the key, the value and the remedy."""
        read = Reader(config)
        return cls(
            scale=read_scale(config),
            item_word=read.text("item_word"),
            use_reasoning=read.flag("use_reasoning"),
            use_bias=bool(read.use_bias("use_bias", ("averages", "none"))),
            parsed=read.flag("parsed"),
            max_prompt_tokens=read.whole("max_prompt_tokens", least=64),
            max_new_tokens=read.whole("max_new_tokens"),
            number_tokens=read.whole("number_tokens"),
        )


@dataclass(frozen=True)
class Content:
    """What a question shows of a pair: the texts of `fields`, and lists, one entry a line.

    Entries go from the start of a list where the prompt is over its budget.
    """

    prompt: str  # name of the prompt file
    fields: Mapping[str, str]
    lists: Lists = field(default_factory=dict)


class PromptedRater(AskedRater):
    """A rating model that RecBole does not train: it asks a language model about each pair.

    The rating is the expected value over the labels' probabilities; `parsed` reads the number in
    a free answer.
    """

    reads_reviews: ClassVar[bool] = True  # False: titles and ratings alone
    prompts: ClassVar[Mapping[str, frozenset[str]]] = {}  # prompt file -> its fields beside FORM

    def __init__(
        self,
        config: Any,
        dataset: Any,
        models: LanguageModels | None = None,
        progress: Progress = silent,
    ) -> None:
        """Read the train part `dataset`; ask the model `student` of `models`.

        Raises: UsageError for settings that do not fit, or if there are no reviews.
        """
        super().__init__(config, dataset)
        self.settings = PromptSettings.from_config(config)
        read = Reader(config)
        described = read.names("description_fields")
        review_file = read.text_or_none("review_file")
        self.corpus = corpus_of(dataset, described, review_file, texts=self.reads_reviews)
        models = models or LanguageModels.from_config(config)
        own = read.text_or_none("prompt_dir")
        self._prompts = {
            name: load_prompt(name, own, fields | FORM) for name, fields in self.prompts.items()
        }
        form = "answer_reasoning" if self.settings.use_reasoning else "answer_rating"
        self._form = load_prompt(form, own, FORM)
        self.llm = models.get(read.text("student"))
        self.step = Step(config["model"], f"Rating pairs by {config['model']}", self.llm, progress)
        self._known: dict[tuple[str, Pair], RatingPrediction | None] = {}

    def over(self, corpus: Corpus) -> PromptedRater:
        """The same model, prompts and settings on another corpus; calls are counted together."""
        other = copy.copy(self)
        other.corpus, other._known = corpus, {}
        return other

    @abstractmethod
    def content(self, user: str, item: str) -> Content:
        """What the question about a pair of raw tokens shows."""

    def averages(self, user: str, item: str) -> str:
        """The average train ratings of user and item, without the pair's own; "" without bias."""
        if not self.settings.use_bias:
            return ""
        corpus, scale = self.corpus, self.settings.scale
        known = {
            "Average rating by the user": corpus.user_average(user, without=item),
            f"Average rating of the {self.settings.item_word}": corpus.item_average(
                item, without=user
            ),
        }
        lines = [f"{what}: {scale.show_average(r)}" for what, r in known.items() if r is not None]
        return "\n".join(lines)

    @property
    def readout(self) -> str:
        """How the labels are read: exact, top or parsed."""
        return readout_of(self.llm)

    @property
    def readings(self) -> dict[str, Callable[[Sequence[Pair]], list[float | None]]]:
        """Name -> another way to read ratings off the same model; each has a row of its own."""
        if not self.settings.parsed:
            return {}
        return {"parsed": lambda pairs: [p.expected if p else None for p in self.written(pairs)]}

    def messages(self, user: str, item: str) -> tuple[Message, ...]:
        """The prompt about a pair. Raises: Unreadable if it fits into no budget."""
        settings, content = self.settings, self.content(user, item)
        prompt = self._prompts[content.prompt]
        words = self._words()

        def render(lists: Lists) -> tuple[Message, ...]:
            texts = {name: "\n".join(entries) for name, entries in lists.items()}
            return prompt.render(**words, **content.fields, **texts)

        budget = settings.max_prompt_tokens
        return within(render, content.lists, budget, self.llm.count_tokens)

    def _words(self) -> dict[str, str]:
        settings, scale = self.settings, self.settings.scale
        words = {
            "item_word": settings.item_word,
            "number": "integer" if scale.step == 1 else f"number in steps of {scale.step:g}",
            "lowest": scale.labels[0],
            "highest": scale.labels[-1],
            "bias_hint": BIAS_HINT if settings.use_bias else "",
        }
        return {**words, "answer_form": _text(self._form, words)}

    def request(self, pair: Pair) -> Request:
        """The request about a pair: reasoning if it is set, then every label's probability."""
        settings = self.settings
        tokens = settings.max_new_tokens if settings.use_reasoning else 0
        return rating_request(self.messages(*pair), settings.scale, tokens)

    def written_request(self, pair: Pair) -> Request:
        """The request about a pair whose answer is free text."""
        settings = self.settings
        tokens = settings.max_new_tokens if settings.use_reasoning else settings.number_tokens
        return Request(self.messages(*pair), max_new_tokens=tokens)

    def questions(self, pairs: Sequence[Pair]) -> list[Request]:
        """All requests about `pairs`, for a plan; what fits into no prompt has none."""
        asked = list(self.step.requests({pair: pair for pair in pairs}, self.request).values())
        if self.settings.parsed:
            asked += map(self.written_request, dict.fromkeys(pairs))
        return asked

    def rated(self, pairs: Sequence[Pair]) -> list[RatingPrediction | None]:
        """A prediction for each pair; None where no answer could be read.

        Raises: NothingRated if the first pairs, or all, are unreadable.
        """

        def read(pair: Pair, answer: Completion) -> RatingPrediction:
            return prediction_of(answer, *pair, self.settings.scale)

        return self._ask("exact", pairs, self.request, read)

    def written(self, pairs: Sequence[Pair]) -> list[RatingPrediction | None]:
        """As `rated`, by the number in a free answer."""

        def read(pair: Pair, answer: Completion) -> RatingPrediction:
            rating = written_rating(answer.text, self.settings.scale)
            return RatingPrediction(*pair, rationale="", expected=rating, modal=rating)

        return self._ask("written", pairs, self.written_request, read)

    def _ask(
        self,
        way: str,
        pairs: Sequence[Pair],
        request: Callable[[Pair], Request],
        read: Callable[[Pair, Completion], RatingPrediction],
    ) -> list[RatingPrediction | None]:
        def ask(some: Sequence[Pair]) -> None:
            new = {pair: pair for pair in some if (way, pair) not in self._known}
            requests = self.step.requests(new, request)
            self._known.update({(way, pair): None for pair in new.keys() - requests.keys()})
            records = self.step.run(requests, read).records
            self._known.update({(way, pair): found for pair, found in records.items()})

        try_first(pairs, ask, self.step.count, f"'{CUE}' and a rating")
        return [self._known.get((way, pair)) for pair in pairs]

    def rate(self, pairs: Sequence[Pair]) -> list[float | None]:
        """See AskedRater."""
        return [p.expected if p else None for p in self.rated(pairs)]

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptedRater:
        """Itself: RecBole copies models to count flops."""
        return self


def _text(prompt: Prompt, words: Mapping[str, str]) -> str:
    return "\n".join(message.content for message in prompt.render(**words))
