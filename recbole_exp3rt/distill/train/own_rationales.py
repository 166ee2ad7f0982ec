"""A second round: the final student learns to rate after rationales like those it will write.

A teacher wrote its rationales with the true rating in view; at inference a student reads its own.
So two students are trained first, each on one half of the pairs, and each writes for the other
half: nobody writes about a pair whose rating it has learned. Both write for the validation pairs.
The final adapter learns from these rationales and the true ratings, from the base on.

TRACT's second stage (Chiang et al., ACL 2025, arXiv 2503.04381), whose model writes about its own
training pairs; the halves are ours.
"""

from __future__ import annotations

import gc
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task, digest_of
from recbole_exp3rt.distill.annotate.training_data import DataCard, counts_of, write_training_data
from recbole_exp3rt.distill.train.batch_size import processes
from recbole_exp3rt.distill.train.data import data_card, read
from recbole_exp3rt.distill.train.encode import label_of
from recbole_exp3rt.distill.train.named import NamedStudent
from recbole_exp3rt.distill.train.own_ratings import has_rationale
from recbole_exp3rt.distill.train.presets import TrainSettings
from recbole_exp3rt.distill.train.student import Training, check_output, load_base
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Completion, LLMError, Readout, Request, answer_all
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.names import load_llm
from recbole_exp3rt.llm.stores.opening import open_store
from recbole_exp3rt.scale import RatingScale, expected_rating
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.rating import CUE, REASONING, prediction_of, rating_request

KEY = "own_rationales"  # in the settings of the card: the first round's data, and the gap
EMPTY, CUT = "empty", "cut off at the token limit"
# Settings that a student of the first round has otherwise than the final one.
FIRST = {"own_rationales", "data", "output", "overwrite", "tasks", "adapters"}
FIRST |= {"train_rows", "valid_rows", "store_path"}


@dataclass(frozen=True, slots=True)
class Written:
    """What a student of the first round wrote about a pair.

    `example` is None if the text cannot be learned, for `reason`. The ratings are in rating units:
    as expected after its `own` rationale and after the `teacher`'s, and the `true` one.
    """

    example: Example | None
    text: str
    reason: str
    own: float
    teacher: float
    true: float


@dataclass(frozen=True, slots=True)
class Gap:
    """RMSE after the teacher's rationales and after its own, and how far the two ratings differ.

    All are in rating units; `difference` is a mean of absolute differences.
    """

    pairs: int
    teacher_rmse: float
    own_rmse: float
    difference: float

    @classmethod
    def of(cls, rows: Sequence[Written]) -> Gap:
        """The gap over at least one row."""

        def rmse(errors: Sequence[float]) -> float:
            return math.sqrt(sum(error**2 for error in errors) / len(rows))

        return cls(
            len(rows),
            rmse([row.teacher - row.true for row in rows]),
            rmse([row.own - row.true for row in rows]),
            sum(abs(row.own - row.teacher) for row in rows) / len(rows),
        )

    def rounded(self) -> dict[str, float]:
        """The figures for a card."""
        return {key: round(value, 4) for key, value in asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"RMSE {self.teacher_rmse:.3f} after the teacher's rationales, {self.own_rmse:.3f} "
            f"after its own; {self.difference:.3f} apart in the mean of {self.pairs:,} pairs"
        )


def second_round(settings: TrainSettings, say: Callable[[str], None]) -> Path:
    """Train the two students, let them write; the folder of the final student's training data.

    All stands in `<output>-own`. Finished students and stored answers are used again.
    Raises: UsageError, LLMError with a message of one line.
    """
    check_output(Path(settings.output), settings.overwrite)
    if processes() > 1:
        raise UsageError("own_rationales=True needs one process; leave accelerate launch out")
    examples, source = read(settings), data_card(Path(settings.data))
    scale, new_tokens = _readable(settings, examples, source)
    train, valid = examples["rating"]
    place = _made(Path(settings.output).with_name(f"{Path(settings.output).name}-own"))
    store = open_store(settings.store_path or place / "answers.sqlite")
    revision = load_base(settings).revision
    identities: list[str] = []
    halves = folds(train)
    written: tuple[dict[Example, Written], list[Written]] = ({}, [])
    for k, half in enumerate(halves):
        say(f"Round 1: the student of half {k + 1} learns {len(half):,} pairs")
        student = _student(place / f"half-{k + 1}", (half, valid), settings, source, revision)
        if not student.is_trained:
            student.write()
            Training(student.settings, say).run()
        gc.collect()
        llm = CachedLLM(
            load_llm(
                str(student.folder), device=settings.device, threads=settings.threads, lazy=True
            ),
            store,
        )
        identities.append(llm.identity)
        other = halves[1 - k]
        say(
            f"Round 1: it writes about {len(other):,} pairs of the other half, {len(valid):,} valid"
        )
        found = _write(llm, [*other, *valid], scale, new_tokens)
        written[0].update(zip(other, found, strict=False))
        written[1].extend(found[len(other) :])
        del llm
        gc.collect()
    store.close()
    rows = [written[0][example] for example in train]
    gaps = {"train": Gap.of(rows), "valid": Gap.of(written[1])}
    for part, gap in gaps.items():
        say(f"Round 1, {part}: {gap}")
    parts = tuple(tuple(w.example for w in some if w.example) for some in (rows, written[1]))
    _check(parts, rows, ", ".join(identities))
    folder = place / "data"
    made: dict[Task, Parts] = {**examples, "rating": (parts[0], parts[1])}
    bad = [row for row in (*rows, *written[1]) if row.example is None]
    rejected = Counter(row.reason for row in bad)
    told = {KEY: {"data": digest_of(examples), **{k: gap.rounded() for k, gap in gaps.items()}}}
    card = _card(source, made, {"rating": rejected}, told, identities)
    lines = [{"task": "rating", "reason": row.reason, "answer": row.text} for row in bad]
    write_training_data(folder, made, card, lines)
    say(f"Round 2: {len(parts[0]):,} train and {len(parts[1]):,} valid examples in {folder}")
    return folder


def folds(examples: Sequence[Example]) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Two halves of the examples, by their prompts alone; equal prompts are in one half.

    Raises: UsageError if there are no two prompts.
    """
    keys = [hashlib.sha256(repr(example.messages).encode()).hexdigest() for example in examples]
    half = {key: k % 2 for k, key in enumerate(sorted(set(keys)))}
    if len(half) < 2:
        raise UsageError("own_rationales=True needs at least two pairs to learn; annotate more")
    first, second = (
        tuple(e for e, key in zip(examples, keys, strict=True) if half[key] == k) for k in (0, 1)
    )
    return first, second


def _readable(
    settings: TrainSettings, examples: Mapping[Task, Parts], card: Mapping[str, Any]
) -> tuple[RatingScale, int]:
    """The scale, and the most new tokens of a rationale.

    Raises: UsageError if the training data has no rationales, or its card not these settings.
    """
    told = card.get("settings") or {}
    rows = [example for part in examples.get("rating", ((), ())) for example in part]
    if not rows or not all(map(has_rationale, rows)):
        raise UsageError(
            f"own_rationales=True: data {settings.data} has no rationales of a teacher; annotate "
            "with use_reasoning=True"
        )
    if not told.get("scale") or not told.get("max_new_tokens"):
        raise UsageError(
            f"own_rationales=True: {Path(settings.data) / 'card.json'} names no scale and "
            "max_new_tokens; annotate again"
        )
    scale = RatingScale.between(*told["scale"])
    for example in rows:
        if (label := label_of(example.answer)) not in scale.labels:
            raise UsageError(
                f"data {settings.data}: rating {label!r} is not one of {', '.join(scale.labels)}; "
                "annotate again"
            )
    return scale, int(told["max_new_tokens"])


def _student(
    place: Path,
    parts: Parts,
    settings: TrainSettings,
    source: Mapping[str, Any],
    revision: str,
) -> NamedStudent:
    """The student of one half: it learns the rating alone, with the settings of the final one."""
    given = {k: v for k, v in asdict(settings).items() if k not in FIRST}
    examples: dict[Task, Parts] = {"rating": parts}
    card = _card(source, examples, {}, {}, None)
    return NamedStudent(place, examples, card, {**given, "tasks": ["rating"]}, revision)


def _write(
    llm: LLM, examples: Sequence[Example], scale: RatingScale, new_tokens: int
) -> list[Written]:
    """What the student says about each pair, asked as at inference, and after the teacher's text.

    Raises: LLMError if it does not answer.
    """
    asked = [rating_request(example.messages, scale, new_tokens) for example in examples]
    readout = Readout(f"\n{CUE} ", scale.labels)
    for example in examples:
        before = example.answer[: example.answer.rindex(CUE)].rstrip()
        asked.append(Request(example.messages, 0, prefill=before, readout=readout))
    answers = answer_all(llm, asked)
    found = []
    for example, own, teacher in zip(
        examples, answers[: len(examples)], answers[len(examples) :], strict=True
    ):
        label = label_of(example.answer)
        for answer in (own, teacher):
            if not isinstance(answer, Completion):
                raise LLMError(f"{llm.identity}: {answer.reason}")
        assert isinstance(own, Completion) and isinstance(teacher, Completion) and label
        if teacher.label_logp is None:
            raise LLMError(f"{llm.identity}: no label was scored")
        try:
            said = prediction_of(own, "", "", scale)
        except Unreadable as error:
            raise LLMError(f"{llm.identity}: {error}") from error
        reason = EMPTY if not said.rationale else CUT if own.finish == "length" else ""
        answer_ = f"{REASONING} {said.rationale}\n{CUE} {label}"
        logp = dict(zip(scale.labels, teacher.label_logp, strict=True))
        found.append(
            Written(
                None if reason else replace(example, answer=answer_),
                own.text,
                reason,
                said.expected,
                expected_rating(logp, scale),
                scale.level_of(label),
            )
        )
    return found


def _check(parts: Sequence[Sequence[Any]], rows: Sequence[Written], who: str) -> None:
    """Raises: LLMError if no rationale can be learned."""
    if all(parts):
        return
    reason = next((row.reason for row in rows if row.reason), EMPTY)
    raise LLMError(
        f"own_rationales=True: no rationale of {who} can be learned: {reason}; train for more "
        "epochs, or with more pairs"
    )


def _card(
    source: Mapping[str, Any],
    examples: Mapping[Task, Parts],
    rejected: Mapping[Task, Mapping[str, int]],
    told: Mapping[str, Any],
    writers: Sequence[str] | None,
) -> DataCard:
    """The card of the first round's data, as it is for these examples; `writers` of rationales."""
    teacher = dict(source.get("teacher") or {})
    note = str(source.get("note") or "")
    if writers is not None:
        teacher["rationales"] = ", ".join(writers)
        note = (
            "rationales by two students, each of which has not learned the ratings of the pairs it "
            "wrote about; a valid pair has one of each"
        )
    return DataCard(
        dataset=str(source.get("dataset")),
        split=source.get("split"),
        teacher=teacher,
        prompts=str(source.get("prompts")),
        settings={**(source.get("settings") or {}), **told},
        train_pairs=list(source.get("train_pairs") or []),
        counts=counts_of(examples, rejected),
        synthetic=bool(source.get("synthetic")),
        note=note,
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
