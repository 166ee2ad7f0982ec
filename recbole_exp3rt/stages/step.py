"""One step of the pipeline: its model, the requests, the parsed answers and their counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from recbole_exp3rt.llm.base import LLM, Answer, Completion, Failure, Request
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

    def run(
        self, requests: Mapping[Key, Request], parse: Callable[[Key, Completion], Record]
    ) -> Outcome[Key, Record]:
        """Ask all `requests`; parse and count each answer as it arrives."""
        keys, count = list(requests), self.count
        count.asked += len(keys)
        outcome: Outcome[Key, Record] = Outcome(failures=dict.fromkeys(keys, "not answered"))
        if not keys:
            return outcome
        answers = self.llm.generate([requests[key] for key in keys])
        for position, answer in self.progress(answers, len(keys), self.title):
            key = keys[position]
            if isinstance(answer, Failure):
                count.add_unreadable(answer.reason)
                outcome.failures[key] = answer.reason
                if answer.final:
                    outcome.records[key] = None
                    del outcome.failures[key]
                continue
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
        return outcome
