"""Whether evidence says what a statement says: entailed, neutral or contradicted.

A grounder takes texts apart and gives verdicts. Here stand its form and the one that asks a
language model: the deciding sentence is quoted first, then a forced cue is followed by yes, no or
unknown, whose probabilities are read (`llm/base.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from recbole_exp3rt.explain import statements
from recbole_exp3rt.explain.statements import Statement
from recbole_exp3rt.llm.base import LLM, Completion, Readout, Request
from recbole_exp3rt.prompts import load_prompt
from recbole_exp3rt.stages.counts import StepCount
from recbole_exp3rt.stages.headings import answer_of
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.step import Progress, Step, silent
from recbole_exp3rt.stages.untrusted import harmless

Verdict = Literal["entailed", "neutral", "contradicted"]
VERDICTS: tuple[Verdict, ...] = ("entailed", "neutral", "contradicted")
USER, ITEM, DESCRIPTION = "user profile", "item profile", "description"
REVIEW, EXPLANATION = "review", "explanation"

PROMPT = "verdict"
FIELDS = frozenset({"item_word", "evidence", "statement"})
LABELS: Mapping[str, Verdict] = {"yes": "entailed", "no": "contradicted", "unknown": "neutral"}
QUOTE, CUE = "Evidence:", "Supported:"
QUOTE_TOKENS = 64
STATEMENT_TOKENS = 512
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence of evidence and where it stands."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement and the evidence that it is checked against."""

    statement: Statement
    evidence: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A verdict, None where the answer could not be read, and the evidence that decided."""

    verdict: Verdict | None
    evidence: str = ""


class Grounder(Protocol):
    """Takes texts apart and checks what they state."""

    @property
    def name(self) -> str:
        """What stands above its tables."""
        ...

    @property
    def counts(self) -> Mapping[str, StepCount]:
        """Step -> how many answers could be read."""
        ...

    def cut(self, texts: Sequence[str]) -> list[tuple[Statement, ...] | None]:
        """The statements of each text; None where the answer could not be read: [n_texts]."""
        ...

    def check(self, claims: Sequence[Claim]) -> list[Found]:
        """A verdict on each claim: [n_claims]."""
        ...


class LLMGrounder:
    """Asks a language model. Equal questions are asked once."""

    def __init__(
        self,
        llm: LLM,
        *,
        item_word: str = "item",
        prompt_dir: str | None = None,
        progress: Progress = silent,
    ) -> None:
        """Raises: UsageError for a prompt that is wrong."""
        self.llm = llm
        self.name = llm.identity
        self.item_word = item_word
        self._prompt_dir = prompt_dir
        self._statements = load_prompt(statements.PROMPT, prompt_dir, statements.FIELDS)
        self._verdict = load_prompt(PROMPT, prompt_dir, FIELDS)
        self._cut = Step("statements", "Taking texts apart", llm, progress)
        self._check = Step("verdicts", "Checking statements", llm, progress)
        self.counts: dict[str, StepCount] = {s.name: s.count for s in (self._cut, self._check)}

    def over(self, llm: LLM) -> LLMGrounder:
        """The same questions to another model."""
        return LLMGrounder(llm, item_word=self.item_word, prompt_dir=self._prompt_dir)

    def cut(self, texts: Sequence[str]) -> list[tuple[Statement, ...] | None]:
        """See Grounder."""
        requests = self.cut_requests(texts)
        found = self._cut.run(requests, lambda _, answer: statements.parse(answer.text)).records
        return [found.get(text) if text in requests else () for text in texts]

    def cut_requests(self, texts: Iterable[str]) -> dict[str, Request]:
        """Text -> what is asked about it; an empty text has no statement."""
        word = self.item_word
        return {
            text: statements.request(
                text, self._statements, item_word=word, max_new_tokens=STATEMENT_TOKENS
            )
            for text in texts
            if text.strip()
        }

    def check(self, claims: Sequence[Claim]) -> list[Found]:
        """See Grounder. Without evidence a claim is neutral, and nothing is asked."""
        requests = self.check_requests(claims)
        found = self._check.run(requests, lambda _, answer: parse(answer)).records
        return [
            found.get(claim) or Found(None) if claim in requests else Found("neutral")
            for claim in claims
        ]

    def check_requests(self, claims: Iterable[Claim]) -> dict[Claim, Request]:
        """Claim -> what is asked about it."""
        return {claim: self._asked(claim) for claim in claims if claim.evidence}

    def _asked(self, claim: Claim) -> Request:
        by_source: dict[str, list[str]] = {}
        for line in claim.evidence:
            by_source.setdefault(line.source, []).append(harmless(line.text))
        shown = [f"[{source}]\n" + "\n".join(texts) for source, texts in by_source.items()]
        messages = self._verdict.render(
            item_word=self.item_word,
            evidence="\n\n".join(shown),
            statement=harmless(claim.statement.text),
        )
        return Request(
            messages,
            max_new_tokens=QUOTE_TOKENS,
            prefill=QUOTE,
            stop=(CUE,),
            readout=Readout(f"\n{CUE} ", tuple(LABELS)),
        )


def parse(answer: Completion) -> Found:
    """The most probable verdict, and the quoted evidence. Raises: Unreadable without a label."""
    if answer.label_logp is None:
        raise Unreadable(f"no '{CUE}' with one of {', '.join(LABELS)}")
    probable = dict(zip(LABELS.values(), answer.label_logp, strict=True))
    best = max(probable, key=lambda verdict: probable[verdict])
    quoted = answer_of(answer.text).strip().removeprefix(QUOTE).strip().strip('"')
    return Found(best, "" if quoted.lower().strip(" .") == "none" else quoted)
