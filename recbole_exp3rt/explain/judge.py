"""A language model compares two explanations, in both orders, by one criterion at a time.

A verdict counts only if it is the same in both orders; else it is a tie, for the position decided
it. The model writes its evidence first; then the label 1, 2 or tie is scored. It sees no names of
systems. It does not know what the verdicts add up to (`preferences.py`), nor whether it can be
trusted (`judge_trust.py`).
Sources: Zheng et al., "Judging LLM-as-a-Judge", NeurIPS 2023, arXiv 2306.05685; the paper's
section 4.4 and Appendix C.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from recbole_exp3rt.explain.criteria import CRITERIA
from recbole_exp3rt.explain.explanations import ExplainedPair, Explanations, Lists
from recbole_exp3rt.explain.preferences import Outcome, Verdict, majority
from recbole_exp3rt.llm.base import LLM, Answer, Completion, Failure, Readout, Request
from recbole_exp3rt.prompts import Prompt, load_prompt
from recbole_exp3rt.stages.lists import render_lists
from recbole_exp3rt.stages.step import Progress, silent
from recbole_exp3rt.stages.untrusted import harmless

PROMPT = "judge"
FIELDS = frozenset(
    {"item_word", "item_description", "item_profile", "user_profile", "first", "second"}
    | {"criterion", "definition"}
)
EVIDENCE, CUE = "Evidence:", "Better explanation:"
LABELS = ("1", "2", "tie")  # not A: it is an article too
NOTHING = "(nothing is known)"
STRAIGHT: Mapping[str, Verdict] = {"1": "one", "2": "other", "tie": "tie"}
TURNED: Mapping[str, Verdict] = {"1": "other", "2": "one", "tie": "tie"}
_CUE = re.compile(r"(better\W*explanation|evidence)[^\w:]*:", re.I)


@dataclass(frozen=True, slots=True)
class Duel:
    """Two systems whose explanations of the pair number `pair` are compared by a criterion."""

    criterion: str
    one: str
    other: str
    pair: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said of a duel: with `one` shown first, and with `other` shown first.

    None: that answer could not be read. `same`: the two texts are the same, and nothing was asked.
    """

    duel: Duel
    first: Verdict | None
    second: Verdict | None
    evidence: tuple[str, str] = ("", "")
    reasons: tuple[str, ...] = ()  # why answers could not be read
    same: bool = False

    @property
    def readable(self) -> bool:
        """Whether both answers could be read."""
        return self.first is not None and self.second is not None

    @property
    def flipped(self) -> bool:
        """Whether the other explanation won when the order was turned: the position decided."""
        return {self.first, self.second} == {"one", "other"}

    @property
    def verdict(self) -> Verdict | None:
        """What both orders say, else a tie; None where one of them is unreadable."""
        if not self.readable:
            return None
        return self.first if self.first == self.second else "tie"


@dataclass(frozen=True)
class Judge:
    """A language model that judges. `name` is how the user named it."""

    name: str
    llm: LLM
    prompt: Prompt
    item_word: str = "item"
    evidence_tokens: int = 120

    @classmethod
    def of(
        cls,
        name: str,
        llm: LLM,
        *,
        prompt_dir: str | Path | None = None,
        item_word: str = "item",
        evidence_tokens: int = 120,
    ) -> Judge:
        """With the prompt of this package or of `prompt_dir`. Raises: UsageError for its fields."""
        prompt = load_prompt(PROMPT, prompt_dir, FIELDS)
        return cls(name, llm, prompt, item_word, evidence_tokens)

    @property
    def prompt_digest(self) -> str:
        """SHA-256, in hex, of the prompt and of the definitions."""
        return sha256(repr((self.prompt.sections, dict(CRITERIA))).encode()).hexdigest()

    def request(self, pair: ExplainedPair, duel: Duel, *, turned: bool = False) -> Request:
        """Ask for evidence, then for the better one; `turned`: `other` is shown first."""
        first, second = (duel.other, duel.one) if turned else (duel.one, duel.other)
        messages = self.prompt.render(
            item_word=self.item_word,
            item_description=_description(pair),
            item_profile=_profile(pair.item_profile),
            user_profile=_profile(pair.user_profile),
            first=quiet(pair.texts[first]),
            second=quiet(pair.texts[second]),
            criterion=duel.criterion,
            definition=CRITERIA[duel.criterion],
        )
        return Request(
            messages,
            max_new_tokens=self.evidence_tokens,
            prefill=EVIDENCE,
            stop=(CUE,),
            readout=Readout(f"\n{CUE} ", LABELS),
        )

    def requests(self, explanations: Explanations, duels: Sequence[Duel]) -> list[Request]:
        """Both orders of each duel whose texts differ, for a plan."""
        return [
            self.request(explanations.pairs[duel.pair], duel, turned=turned)
            for duel in duels
            if not _same(explanations, duel)
            for turned in (False, True)
        ]

    def judge(
        self, explanations: Explanations, duels: Sequence[Duel], progress: Progress = silent
    ) -> list[Judgement]:
        """A judgement of each duel, in their order. Raises: LLMError, UsageError."""
        requests = self.requests(explanations, duels)
        answers: list[Answer] = [Failure("not answered")] * len(requests)
        for position, answer in progress(
            self.llm.generate(requests), len(requests), f"Judging by {self.name}"
        ):
            answers[position] = answer
        left = iter(answers)
        return [
            Judgement(duel, "tie", "tie", same=True)
            if _same(explanations, duel)
            else _judgement(duel, next(left), next(left))
            for duel in duels
        ]


def duels_of(
    explanations: Explanations, criteria: Sequence[str], *, all_pairs: bool = False
) -> list[Duel]:
    """The first system against each other one, or each against each, on all pairs."""
    names = explanations.systems
    against = [
        (one, other)
        for number, one in enumerate(names)
        if all_pairs or number == 0
        for other in names[number + 1 :]
    ]
    return [
        Duel(criterion, one, other, pair)
        for one, other in against
        for criterion in criteria
        for pair in range(len(explanations.pairs))
    ]


def outcomes_of(
    explanations: Explanations, judgements: Mapping[str, Sequence[Judgement]]
) -> list[Outcome]:
    """The majority of the judges on each duel; one that none could judge is left out.

    judgements: judge -> [n_duels], in the same order for all.
    """
    found = []
    for row in zip(*judgements.values(), strict=True):
        verdict = majority(one.verdict for one in row if one.verdict)
        duel = row[0].duel
        if verdict:
            user = explanations.pairs[duel.pair].user
            found.append(Outcome(duel.criterion, duel.one, duel.other, duel.pair, user, verdict))
    return found


def quiet(text: str) -> str:
    """A text of others in one line, without marks, roles, or what would be read as an answer."""
    line = harmless(" ".join(harmless(text).split()))
    folded = unicodedata.normalize("NFKC", line)
    plain = "".join(c for c in folded if unicodedata.category(c) != "Cf")
    return _CUE.sub(r"\1 -", plain) if _CUE.search(plain) else line


def _description(pair: ExplainedPair) -> str:
    lines = [f"{quiet(label)}: {quiet(value)}" for label, value in pair.description]
    return "\n".join(lines) or quiet(pair.title)


def _profile(profile: Lists) -> str:
    sides = [tuple(quiet(text) for text in profile.get(side, ())) for side in ("likes", "dislikes")]
    return render_lists(*sides) if any(sides) else NOTHING


def _same(explanations: Explanations, duel: Duel) -> bool:
    texts = explanations.pairs[duel.pair].texts
    return texts[duel.one].split() == texts[duel.other].split()


def _judgement(duel: Duel, straight: Answer, turned: Answer) -> Judgement:
    (first, why), (second, why_turned) = _read(straight), _read(turned)
    texts = [one.text if isinstance(one, Completion) else "" for one in (straight, turned)]
    return Judgement(
        duel,
        STRAIGHT.get(first),
        TURNED.get(second),
        (_evidence(texts[0]), _evidence(texts[1])),
        tuple(filter(None, (why, why_turned))),
    )


def _read(answer: Answer) -> tuple[str, str]:
    """The label of an answer, and why there is none; two equally likely labels are a tie."""
    if isinstance(answer, Failure):
        return "", answer.reason
    logp = answer.label_logp
    if logp is None or len(logp) != len(LABELS):
        return "", "no verdict in the answer"
    best = [label for label, value in zip(LABELS, logp, strict=True) if value == max(logp)]
    return (best[0] if len(best) == 1 else "tie"), ""


def _evidence(text: str) -> str:
    return " ".join(text.removeprefix(EVIDENCE).split())
