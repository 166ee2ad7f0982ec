"""From train reviews to supervised examples: what a teacher says at each step (paper, section 3).

Preferences of the reviews, profiles of the users and items, rationales of the interactions given
their true ratings. Everything is asked through the flow that inference takes, so an example's
question is what a student will be asked. What this module does not know: files, prices, RecBole.

Train examples come from the corpus alone. Validation examples of the rating task are given pairs,
told with train profiles and averages as at inference; those of the other tasks are train reviews
and subjects that are held out. A pair's averages leave its own rating out; its profiles leave its
own review out if `profile_leave_one_out` says so, while the profiles to learn are the whole ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.distill.annotate import quality_gate
from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task
from recbole_exp3rt.distill.annotate.options import AnnotateSettings
from recbole_exp3rt.distill.annotate.teacher import Judge, JudgedLLM, Rejection
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Completion, LLMError, Message, Request, forces_prefill
from recbole_exp3rt.llm.card import pair_digest
from recbole_exp3rt.prompts import Prompts
from recbole_exp3rt.records import Preference, Review, Subject
from recbole_exp3rt.stages import rating, rationale
from recbole_exp3rt.stages.choice import Choice
from recbole_exp3rt.stages.lists import Unreadable, list_answer
from recbole_exp3rt.stages.pipeline import ROOM, Models, Pipeline, Progress, StageSettings, silent

HELD_OUT = 0.1  # share of train reviews and subjects that are kept for validation
PROFILE: dict[Subject, Task] = {"user": "user_profile", "item": "item_profile"}

Pair = tuple[str, str]


@dataclass
class Tally:
    """What one task asked for and what became of it."""

    asked: int = 0
    kept: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotated:
    """All examples, the interactions behind the train ones, and what was rejected."""

    examples: Mapping[Task, Parts]
    train_pairs: Sequence[str]
    tallies: Mapping[Task, Tally]
    rejected: Sequence[Mapping[str, Any]]
    drawn_again: int  # questions put again because an answer was rejected


class Annotator:
    """Asks `teacher` about the reviews of `corpus`, and about the interactions of `valid`."""

    def __init__(
        self,
        corpus: Corpus,
        valid: Sequence[Review],
        teacher: LLM,
        prompts: Prompts,
        stages: StageSettings,
        settings: AnnotateSettings,
        progress: Progress = silent,
    ) -> None:
        self.corpus = corpus
        self.settings = settings
        self.stages = stages
        self.progress = progress
        self._forced = forces_prefill(teacher.identity)
        self.preferring = self._judged(teacher, self._preference_fault)
        self.profiling = self._judged(teacher, self._profile_fault)
        self.reasoning = self._judged(teacher, self._rationale_fault)
        self._ratings: dict[Request, float] = {}  # what each rationale is of
        models = Models(self.preferring, self.profiling, self.reasoning)
        limits = replace(stages, max_prompt_tokens=self._prompt_room(teacher, prompts))
        self.pipeline = Pipeline(corpus, models, prompts, limits, progress)
        rows = [row for rows in corpus.by_user.values() for row in rows]
        unseen = [row for row in valid if not corpus.has(row.user, row.item)]
        share = None if settings.pairs is None else -(-settings.pairs * len(unseen) // len(rows))
        self.train, self.valid = self._drawn(rows, settings.pairs), self._drawn(unseen, share)
        self._check_ratings()
        self.tallies: dict[Task, Tally] = {}
        self._rejected: list[dict[str, Any]] = []

    # --- what is asked about

    @cached_property
    def whole(self) -> list[Choice]:
        """The profiles to learn: of the users and items of the train interactions, in no pair."""
        chooser = self.pipeline.chooser
        users = sorted({row.user for row in self.train})
        items = sorted({row.item for row in self.train})
        return [*map(chooser.of_user, users), *map(chooser.of_item, items)]

    @cached_property
    def choices(self) -> list[Choice]:
        """All profiles that are needed, each once."""
        pairs = [self.pipeline.choices(row.user, row.item) for row in (*self.train, *self.valid)]
        return list(dict.fromkeys([*self.whole, *(choice for pair in pairs for choice in pair)]))

    @cached_property
    def reviews(self) -> list[Review]:
        """All reviews with a text that are needed, each once."""
        reviews = {(r.user, r.item): r for choice in self.choices for r in choice.reviews}
        return [reviews[key] for key in sorted(reviews) if reviews[key].is_written]

    # --- the three steps

    def run(self) -> Annotated:
        """The three steps, one after the other.

        Raises: LLMError if the teacher stops, or not one answer of a step can be used.
        """
        examples: dict[Task, Parts] = {"preference": self._preferences()}
        self.pipeline.profiles_of(self.choices)
        for subject, task in PROFILE.items():
            examples[task] = self._profiles(subject, task)
        examples["rating"] = self._rated()
        again = sum(m.drawn_again for m in (self.preferring, self.profiling, self.reasoning))
        return Annotated(examples, self._train_pairs(), self.tallies, self._rejected, again)

    @property
    def rejected(self) -> Sequence[Mapping[str, Any]]:
        """The answers that were rejected so far, with reasons."""
        return self._rejected

    def _preferences(self) -> Parts:
        found = self.pipeline.preferences(self.reviews)
        made: dict[Pair, Example] = {}
        for review, preference in zip(self.reviews, found, strict=True):
            where = {"user": review.user, "item": review.item}
            request = self._request("preference", where, self.pipeline.preference_request, review)
            if request and preference:
                answer = list_answer(preference.likes, preference.dislikes)
                made[review.user, review.item] = Example("preference", request.messages, answer)
                self._kept("preference")
            elif request:
                self._missed("preference", where, self.preferring.rejected.get(request))
        self._check("preference")
        return self._parts(made)

    def _profiles(self, subject: Subject, task: Task) -> Parts:
        made: dict[Pair, Example] = {}
        profiles, whole = self.pipeline.made_profiles, set(self.whole)
        for choice in self.choices:
            told = self._told(choice)
            if choice.subject != subject or not told:
                continue
            where: dict[str, str] = {subject: choice.key}
            request = self._request(task, where, self.pipeline.profile_request, subject, told)
            if request and (missed := self.profiling.rejected.get(request)):
                self._missed(task, where, missed)
            elif request:
                self._kept(task)
                if choice in whole:
                    profile = profiles[choice]
                    answer = list_answer(profile.likes, profile.dislikes)
                    made[subject, choice.key] = Example(task, request.messages, answer)
        self._check(task)
        return self._parts(made)

    def _told(self, choice: Choice) -> list[Preference]:
        return [found for found in self.pipeline.preferences(choice.reviews) if found]

    def _rated(self) -> Parts:
        """Examples of the rating task; with reasoning, of the rows whose rationale is good."""
        rows = {(row.user, row.item): row.rating for row in (*self.train, *self.valid)}
        told = {pair: self.pipeline.pair(*pair) for pair in rows}
        reasons = self.stages.use_reasoning
        said = self._rationales(told, rows) if reasons else dict.fromkeys(told, "")
        made: dict[Pair, Example] = {}
        for pair, text in said.items():
            answer = f"{rating.CUE} {self.stages.scale.label_of(rows[pair])}"
            if reasons:
                answer = f"{rating.REASONING} {text}\n{answer}"
            try:
                made[pair] = Example("rating", self._rating_messages(told[pair], answer), answer)
                self._kept("rating")
            except Unreadable as error:
                self._missed("rating", _names(pair), Rejection(str(error), answer))
        self._check("rating")
        train, valid = (
            tuple(made[row.user, row.item] for row in part if (row.user, row.item) in made)
            for part in (self.train, self.valid)
        )
        return train, valid

    def _rationales(
        self, told: Mapping[Pair, rating.Pair], truth: Mapping[Pair, float]
    ) -> dict[Pair, str]:
        """A text for each pair whose rationale is good."""
        requests: dict[Pair, Request] = {}
        for pair, content in told.items():
            request = self._request(
                "rating", _names(pair), self._rationale_request, content, truth[pair]
            )
            if request:
                requests[pair] = request
                self._ratings[request] = truth[pair]
        keys, texts = list(requests), {}
        answers = self.reasoning.generate([requests[key] for key in keys])
        for position, answer in self.progress(answers, len(keys), "Writing rationales"):
            if isinstance(answer, Completion):
                texts[keys[position]] = rationale.parse(answer.text).text
        for key in keys:
            if key not in texts:
                self._missed("rating", _names(key), self.reasoning.rejected.get(requests[key]))
        return {key: texts[key] for key in keys if key in texts}

    # --- how it is asked

    def _rationale_request(self, pair: rating.Pair, rated: float) -> Request:
        config, recommend_from = self.stages, self.settings.recommend_from
        assert recommend_from is not None  # the options see to it
        return rationale.request(
            pair,
            rated,
            self.pipeline.prompts,
            config.scale,
            item_word=config.item_word,
            recommend_from=recommend_from,
            max_prompt_tokens=config.max_prompt_tokens,
            max_new_tokens=self.settings.rationale_new_tokens,
            count=self.reasoning.count_tokens,
        )

    def _preference_fault(self, request: Request, answer: Completion) -> str | None:
        return quality_gate.preference_fault(answer, forced=self._forced)

    def _profile_fault(self, request: Request, answer: Completion) -> str | None:
        told = "\n- " in request.messages[-1].content
        return quality_gate.profile_fault(answer, told, forced=self._forced)

    def _rationale_fault(self, request: Request, answer: Completion) -> str | None:
        config, recommend_from = self.stages, self.settings.recommend_from
        assert recommend_from is not None
        return quality_gate.rationale_fault(
            answer, self._ratings[request], config.scale, recommend_from
        )

    def _rating_messages(self, pair: rating.Pair, answer: str) -> tuple[Message, ...]:
        """What inference asks about a pair, with room left for the answer."""
        config, count = self.stages, self.reasoning.count_tokens
        return rating.request(
            pair,
            self.pipeline.prompts,
            config.scale,
            item_word=config.item_word,
            use_reasoning=config.use_reasoning,
            max_prompt_tokens=config.max_prompt_tokens - count(answer),
            max_new_tokens=config.max_new_tokens,
            count=count,
        ).messages

    def _prompt_room(self, teacher: LLM, prompts: Prompts) -> int:
        """Tokens of a list's prompt, so that prompt and answer are within `max_prompt_tokens`."""
        config = self.stages
        answer = max(config.preference_new_tokens, config.profile_new_tokens)
        names = (prompts.preference, prompts.user_profile, prompts.item_profile, prompts.rationale)
        least = ROOM + answer + max(teacher.count_tokens(prompt.frame) for prompt in names)
        if config.max_prompt_tokens < least:
            raise UsageError(
                f"max_prompt_tokens={config.max_prompt_tokens} does not hold an example of up to "
                f"{answer} new tokens; give at least {least}"
            )
        return config.max_prompt_tokens - answer

    def _judged(self, teacher: LLM, judge: Judge) -> JudgedLLM:
        own = self.settings
        return JudgedLLM(teacher, judge, temperature=own.temperature, retries=own.retries)

    # --- who is drawn, what is counted

    def _check_ratings(self) -> None:
        """Raises: UsageError for a rating that no label stands for."""
        for row in (*self.train, *self.valid):
            try:
                self.stages.scale.label_of(row.rating)
            except ValueError as error:
                raise UsageError(
                    f"{error} (user {row.user}, item {row.item}): check rating_scale"
                ) from None

    def _drawn(self, rows: Iterable[Review], number: int | None) -> list[Review]:
        """As many random rows; of a larger number, the first ones are the same."""
        keyed = {(row.user, row.item): row for row in rows}
        order = sorted(keyed, key=self._lot) if number is not None else sorted(keyed)
        return [keyed[key] for key in sorted(order[:number])]

    def _lot(self, key: Pair) -> str:
        """By the key alone, so that no other row moves it."""
        return hashlib.sha256(f"{self.settings.seed}\t{pair_digest(*key)}".encode()).hexdigest()

    def _parts(self, made: Mapping[Pair, Example]) -> Parts:
        """A share is held out, by key; nothing where there are fewer than two."""
        number = max(1, round(HELD_OUT * len(made))) if len(made) > 1 else 0
        held = set(sorted(made, key=self._lot)[:number])
        train = tuple(made[key] for key in made if key not in held)
        return train, tuple(made[key] for key in made if key in held)

    def _train_pairs(self) -> list[str]:
        """Digests of all train interactions behind train files: shown reviews, moved averages."""
        rows = [*self.train, *self.reviews]
        users, items = ({getattr(row, name) for row in self.train} for name in ("user", "item"))
        rows += [row for user in users for row in self.corpus.user_reviews(user)]
        rows += [row for item in items for row in self.corpus.item_reviews(item)]
        return sorted({pair_digest(row.user, row.item) for row in rows})

    def _request(
        self, task: Task, where: Mapping[str, str], ask: Callable[..., Request], *content: Any
    ) -> Request | None:
        """What was asked; None, and counted, where nothing fitted into the prompt."""
        self.tallies.setdefault(task, Tally()).asked += 1
        try:
            return ask(*content)
        except Unreadable as error:
            self._missed(task, where, Rejection(str(error), ""))
            return None

    def _kept(self, task: Task) -> None:
        self.tallies.setdefault(task, Tally()).kept += 1

    def _missed(self, task: Task, where: Mapping[str, str], why: Rejection | None) -> None:
        found = why or Rejection("unreadable", "")
        rejected = self.tallies.setdefault(task, Tally()).rejected
        rejected[found.reason] = rejected.get(found.reason, 0) + 1
        row = {"task": task, "user": None, "item": None, **where}
        self._rejected.append({**row, "reason": found.reason, "answer": found.answer})

    def _check(self, task: Task) -> None:
        """Raises: LLMError if a task asked and not one answer is good."""
        tally = self.tallies.get(task, Tally())
        if tally.asked and not tally.kept:
            reason = max(tally.rejected, key=lambda r: tally.rejected[r], default="no answer")
            said = next((r["answer"] for r in self._rejected if r["reason"] == reason), "")
            example = f", such as {' '.join(said.split())[:80]!r}" if said else ""
            raise LLMError(
                f"{self.reasoning.identity}: not one of {tally.asked:,} answers about "
                f"{task.replace('_', ' ')} is usable: {reason}{example}; what was answered is kept"
            )


def _names(pair: Pair) -> dict[str, str]:
    return {"user": pair[0], "item": pair[1]}
