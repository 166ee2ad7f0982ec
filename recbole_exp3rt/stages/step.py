"""One step of the pipeline: its model, the requests, the parsed answers and their counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Protocol, TypeVar

from recbole_exp3rt.llm.base import LLM, Answer, Completion, Failure, Request, window_of
from recbole_exp3rt.stages.counts import StepCount, unreadable_reason
from recbole_exp3rt.stages.lists import Unreadable

Key = TypeVar("Key")
Content = TypeVar("Content")
Record = TypeVar("Record")


class Progress(Protocol):
    """Shows the progress of one step: takes the answers as they arrive and passes them on."""

    def __call__(
        self, answers: Iterable[tuple[int, Answer]], total: int, title: str
    ) -> Iterable[tuple[int, Answer]]:
        """Yield every (position, answer) of `answers`; `total` are expected."""
        ...


def silent(
    answers: Iterable[tuple[int, Answer]], total: int, title: str
) -> Iterable[tuple[int, Answer]]:
    """A `Progress` that shows nothing."""
    return answers


@dataclass
class Outcome(Generic[Key, Record]):
    """What a step knows after it has asked its model.

    `records`: the parsed answers; None where an answer is unreadable or a failure is final.
    `failures`: key -> reason of each question without an answer, which may be asked again.
    """

    records: dict[Key, Record | None] = field(default_factory=dict)
    failures: dict[Key, str] = field(default_factory=dict)


class Step:
    """Asks `llm` the questions of one step and counts what comes back.

    `name` is the step in the counts, `title` its line in the progress display.
    """

    def __init__(self, name: str, title: str, llm: LLM, progress: Progress) -> None:
        self.name = name
        self.title = title
        self.llm = llm
        self.progress = progress
        self.count = StepCount()

    def requests(
        self, contents: Mapping[Key, Content], build: Callable[[Content], Request]
    ) -> dict[Key, Request]:
        """A request for each content. A content that fits into no prompt counts as unreadable."""
        requests: dict[Key, Request] = {}
        for key, content in contents.items():
            try:
                requests[key] = build(content)
            except Unreadable as error:
                self.count.asked += 1
                self.count.add_unreadable(str(error))
        return requests

    def ask(
        self,
        contents: Mapping[Key, Content],
        build: Callable[[Content], Request],
        parse: Callable[[Key, Completion], Record],
    ) -> Outcome[Key, Record]:
        """As `run` with the `requests` of `contents`; a content that fits into no prompt is None.

        Requests are prepared some at a time (`window_of`), so the first one does not wait for the
        last one.
        """
        size = window_of(self.llm) or len(contents)
        if len(contents) <= size:
            requests = self.requests(contents, build)
            asked = self.run(requests, parse)
            asked.records.update({key: None for key in contents if key not in requests})
            return asked
        outcome: Outcome[Key, Record] = Outcome()
        keys, left = list[Key](), iter(contents.items())

        def answers() -> Iterator[tuple[int, Answer]]:
            while some := dict(islice(left, size)):
                requests, start = self.requests(some, build), len(keys)
                outcome.records.update({key: None for key in some if key not in requests})
                self._begin(outcome, requests)
                keys.extend(requests)
                if requests:
                    for position, answer in self.llm.generate(list(requests.values())):
                        yield start + position, answer

        for position, answer in self.progress(answers(), len(contents), self.title):
            self._take(outcome, keys[position], answer, parse)
        return outcome

    def run(
        self, requests: Mapping[Key, Request], parse: Callable[[Key, Completion], Record]
    ) -> Outcome[Key, Record]:
        """Ask all `requests`; parse and count each answer as it arrives."""
        keys = list(requests)
        outcome: Outcome[Key, Record] = Outcome()
        self._begin(outcome, keys)
        if not keys:
            return outcome
        answers = self.llm.generate([requests[key] for key in keys])
        for position, answer in self.progress(answers, len(keys), self.title):
            self._take(outcome, keys[position], answer, parse)
        return outcome

    def _begin(self, outcome: Outcome[Key, Record], keys: Collection[Key]) -> None:
        self.count.asked += len(keys)
        outcome.failures.update(dict.fromkeys(keys, "not answered"))

    def _take(
        self,
        outcome: Outcome[Key, Record],
        key: Key,
        answer: Answer,
        parse: Callable[[Key, Completion], Record],
    ) -> None:
        """Parse and count an answer."""
        count = self.count
        if isinstance(answer, Failure):
            count.add_unreadable(answer.reason)
            outcome.failures[key] = answer.reason
            if answer.final:
                outcome.records[key] = None
                del outcome.failures[key]
            return
        del outcome.failures[key]
        outcome.records[key] = None
        count.prompt_tokens += answer.prompt_tokens
        count.new_tokens += answer.new_tokens
        count.missing_labels += answer.missing_labels
        try:
            outcome.records[key] = parse(key, answer)
            count.readable += 1
        except Unreadable as error:
            reason = unreadable_reason(self.name, answer, str(error))
            count.add_unreadable(reason, answer.text)
