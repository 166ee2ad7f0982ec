"""Makes supervised examples from train reviews, with a teacher's answers (paper, section 3).

The teacher writes preferences of reviews, profiles of users and items, and rationales of
interactions, for which it sees the true ratings. Its questions go through the pipeline of
inference, so that an example has the prompt that the student will get.

Train examples come from the corpus only. Validation examples of the rating task are the given
validation interactions, shown with train profiles and averages as at inference; those of the
other tasks are a part of the train reviews, users and items. A pair's averages leave out its own
rating. Its profiles leave out its own review if `profile_leave_one_out` is set; the profiles that
a student learns to write are made of all reviews.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.distill.annotate import quality_gate
from recbole_exp3rt.distill.annotate.annotated import Annotated, TaskCount
from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task
from recbole_exp3rt.distill.annotate.options import AnnotateSettings
from recbole_exp3rt.distill.annotate.teacher import Judge, JudgedLLM, Rejection
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Completion, LLMError, Message, Request, forces_prefill
from recbole_exp3rt.llm.card import pair_digest
from recbole_exp3rt.prompts import Prompts
from recbole_exp3rt.records import Preference, Review, Subject
from recbole_exp3rt.stages import rating, rationale
from recbole_exp3rt.stages.anchoring import HeldOut, Priors
from recbole_exp3rt.stages.choice import Choice
from recbole_exp3rt.stages.lists import Unreadable, list_answer
from recbole_exp3rt.stages.pipeline import Models, Pipeline
from recbole_exp3rt.stages.settings import ROOM, StageSettings
from recbole_exp3rt.stages.step import Progress, silent

HELD_OUT = 0.1  # share of the reviews, users and items that become validation examples
PROFILE: dict[Subject, Task] = {"user": "user_profile", "item": "item_profile"}

Pair = tuple[str, str]


class Annotator:
    """Asks `teacher` about the reviews of `corpus` and the interactions of `valid`.

    Raises: UsageError if a rating is outside the scale, or the prompts leave no room for answers.
    """

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
        self.preference_teacher = self._judged(teacher, self._judge_preferences)
        self.profile_teacher = self._judged(teacher, self._judge_profile)
        self.rationale_teacher = self._judged(teacher, self._judge_rationale)
        self._ratings: dict[Request, float] = {}  # request of a rationale -> the rating to explain
        models = Models(self.preference_teacher, self.profile_teacher, self.rationale_teacher)
        limited = replace(stages, max_prompt_tokens=self._prompt_room(teacher, prompts))
        self.pipeline = Pipeline(corpus, models, prompts, limited, progress)
        if stages.needs_bias:
            self.pipeline.priors = _priors(self.pipeline, valid)
        rows = [row for rows in corpus.by_user.values() for row in rows]
        unseen = [row for row in valid if not corpus.has(row.user, row.item)]
        share = None if settings.pairs is None else -(-settings.pairs * len(unseen) // len(rows))
        self.train = self._sample(rows, settings.pairs)
        self.valid = self._sample(unseen, share)
        self._check_ratings()
        self.task_counts: dict[Task, TaskCount] = {}
        self._rejected: list[dict[str, Any]] = []

    # --- the reviews and profiles that are needed

    @cached_property
    def target_profiles(self) -> list[Choice]:
        """The profiles to learn: of the users and items of the train pairs, outside any pair."""
        chooser = self.pipeline.chooser
        users = sorted({row.user for row in self.train})
        items = sorted({row.item for row in self.train})
        return [*map(chooser.of_user, users), *map(chooser.of_item, items)]

    @cached_property
    def choices(self) -> list[Choice]:
        """All profiles that examples are made of, each once."""
        rows = [(row.user, row.item) for row in (*self.train, *self.valid)]
        self.pipeline.chooser.prepare(rows)
        pairs = [self.pipeline.choices(*row) for row in rows]
        return list(
            dict.fromkeys([*self.target_profiles, *(choice for pair in pairs for choice in pair)])
        )

    @cached_property
    def reviews(self) -> list[Review]:
        """All reviews with a text behind these profiles, each once."""
        reviews = {(r.user, r.item): r for choice in self.choices for r in choice.reviews}
        return [reviews[key] for key in sorted(reviews) if reviews[key].is_written]

    # --- the three steps

    def run(self) -> Annotated:
        """Ask about all three steps.

        Raises: LLMError if the teacher fails, or all answers about a task are rejected.
        """
        examples: dict[Task, Parts] = {"preference": self._preferences()}
        self.pipeline.profiles_of(self.choices)
        for subject, task in PROFILE.items():
            examples[task] = self._profiles(subject, task)
        examples["rating"] = self._rating_examples()
        teachers = (self.preference_teacher, self.profile_teacher, self.rationale_teacher)
        resampled = sum(teacher.resampled for teacher in teachers)
        prior = {"sigma": round(self.pipeline.priors.sigma, 4)} if self._has_prior else {}
        return Annotated(
            examples, self._train_pairs(), self.task_counts, self._rejected, resampled, prior
        )

    @property
    def _has_prior(self) -> bool:
        return self.stages.use_bias == "prior"

    @property
    def rejected(self) -> Sequence[Mapping[str, Any]]:
        """The rejected answers so far: task, user, item, reason and answer of each."""
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
                self._count_kept("preference")
            elif request:
                self._count_rejected(
                    "preference", where, self.preference_teacher.rejected.get(request)
                )
        self._check("preference")
        return self._parts(made)

    def _profiles(self, subject: Subject, task: Task) -> Parts:
        made: dict[Pair, Example] = {}
        profiles, targets = self.pipeline.made_profiles, set(self.target_profiles)
        for choice in self.choices:
            preferences = self._readable_preferences(choice)
            if choice.subject != subject or not preferences:
                continue
            where: dict[str, str] = {subject: choice.key}
            request = self._request(
                task, where, self.pipeline.profile_request, subject, preferences
            )
            if request and (rejection := self.profile_teacher.rejected.get(request)):
                self._count_rejected(task, where, rejection)
            elif request:
                self._count_kept(task)
                if choice in targets:
                    profile = profiles[choice]
                    answer = list_answer(profile.likes, profile.dislikes)
                    made[subject, choice.key] = Example(task, request.messages, answer)
        self._check(task)
        return self._parts(made)

    def _readable_preferences(self, choice: Choice) -> list[Preference]:
        return [found for found in self.pipeline.preferences(choice.reviews) if found]

    def _rating_examples(self) -> Parts:
        """Examples of the rating task; with reasoning, only of pairs with a good rationale."""
        rows = {(row.user, row.item): row.rating for row in (*self.train, *self.valid)}
        contents = {pair: self.pipeline.pair(*pair) for pair in rows}
        use_reasoning = self.stages.use_reasoning
        texts = self._rationales(contents, rows) if use_reasoning else dict.fromkeys(contents, "")
        bias = self._bias(list(texts))
        made: dict[Pair, Example] = {}
        for pair, text in texts.items():
            answer = f"{rating.CUE} {self.stages.scale.label_of(rows[pair])}"
            if use_reasoning:
                answer = f"{rating.REASONING} {text}\n{answer}"
            try:
                messages = self._rating_messages(contents[pair], answer)
                made[pair] = Example("rating", messages, answer, bias=bias.get(pair))
                self._count_kept("rating")
            except Unreadable as error:
                self._count_rejected("rating", _names(pair), Rejection(str(error), answer))
        self._check("rating")
        train, valid = (
            tuple(made[row.user, row.item] for row in part if (row.user, row.item) in made)
            for part in (self.train, self.valid)
        )
        return train, valid

    def _bias(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        """The means of the priors of pairs, each without its own rating; {} without priors."""
        if not self._has_prior or not pairs:
            return {}
        means = self.pipeline.bias.rate(pairs)
        return {pair: round(float(mean), 4) for pair, mean in zip(pairs, means, strict=True)}

    def _rationales(
        self, contents: Mapping[Pair, rating.Pair], ratings: Mapping[Pair, float]
    ) -> dict[Pair, str]:
        """The text of each pair with a good rationale."""
        requests: dict[Pair, Request] = {}
        for pair, content in contents.items():
            request = self._request(
                "rating", _names(pair), self._rationale_request, content, ratings[pair]
            )
            if request:
                requests[pair] = request
                self._ratings[request] = ratings[pair]
        keys, texts = list(requests), {}
        answers = self.rationale_teacher.generate([requests[key] for key in keys])
        for position, answer in self.progress(answers, len(keys), "Writing rationales"):
            if isinstance(answer, Completion):
                texts[keys[position]] = rationale.parse(answer.text).text
        for key in keys:
            if key not in texts:
                self._count_rejected(
                    "rating", _names(key), self.rationale_teacher.rejected.get(requests[key])
                )
        return {key: texts[key] for key in keys if key in texts}

    # --- requests, and the judgement of their answers

    def _rationale_request(self, pair: rating.Pair, rating_: float) -> Request:
        config, recommend_from = self.stages, self.settings.recommend_from
        assert recommend_from is not None  # AnnotateSettings has checked it
        return rationale.request(
            pair,
            rating_,
            self.pipeline.prompts,
            config.scale,
            item_word=config.item_word,
            recommend_from=recommend_from,
            max_prompt_tokens=config.max_prompt_tokens,
            max_new_tokens=self.settings.rationale_new_tokens,
            count=self.rationale_teacher.count_tokens,
        )

    def _judge_preferences(self, request: Request, answer: Completion) -> str | None:
        return quality_gate.reject_preferences(answer, forced=self._forced)

    def _judge_profile(self, request: Request, answer: Completion) -> str | None:
        has_preferences = "\n- " in request.messages[-1].content
        return quality_gate.reject_profile(answer, has_preferences, forced=self._forced)

    def _judge_rationale(self, request: Request, answer: Completion) -> str | None:
        config, recommend_from = self.stages, self.settings.recommend_from
        assert recommend_from is not None
        return quality_gate.reject_rationale(
            answer, self._ratings[request], config.scale, recommend_from
        )

    def _rating_messages(self, pair: rating.Pair, answer: str) -> tuple[Message, ...]:
        """The prompt of inference about a pair, short enough for prompt and answer together."""
        config, count = self.stages, self.rationale_teacher.count_tokens
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
        """Token limit of a prompt, so that prompt and answer are within `max_prompt_tokens`.

        Raises: UsageError if the instructions alone need more.
        """
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

    # --- sampling and counting

    def _check_ratings(self) -> None:
        """Raises: UsageError for a rating outside the scale."""
        for row in (*self.train, *self.valid):
            try:
                self.stages.scale.label_of(row.rating)
            except ValueError as error:
                raise UsageError(
                    f"{error} (user {row.user}, item {row.item}): check rating_scale"
                ) from None

    def _sample(self, rows: Iterable[Review], number: int | None) -> list[Review]:
        """`number` random rows (None: all). A larger number adds rows to those of a smaller one."""
        keyed = {(row.user, row.item): row for row in rows}
        order = sorted(keyed, key=self._random_key) if number is not None else sorted(keyed)
        return [keyed[key] for key in sorted(order[:number])]

    def _random_key(self, key: Pair) -> str:
        """A random sort key that depends only on the pair and the seed, not on other rows."""
        return hashlib.sha256(f"{self.settings.seed}\t{pair_digest(*key)}".encode()).hexdigest()

    def _parts(self, made: Mapping[Pair, Example]) -> Parts:
        """(train, valid): a random HELD_OUT of the examples is valid; of a single one, none is."""
        number = max(1, round(HELD_OUT * len(made))) if len(made) > 1 else 0
        held = set(sorted(made, key=self._random_key)[:number])
        train = tuple(made[key] for key in made if key not in held)
        return train, tuple(made[key] for key in made if key in held)

    def _train_pairs(self) -> list[str]:
        """Digests of all train interactions whose review or rating is behind a train example."""
        rows = [*self.train, *self.reviews]
        users, items = ({getattr(row, name) for row in self.train} for name in ("user", "item"))
        rows += [row for user in users for row in self.corpus.user_reviews(user)]
        rows += [row for item in items for row in self.corpus.item_reviews(item)]
        return sorted({pair_digest(row.user, row.item) for row in rows})

    def _request(
        self, task: Task, where: Mapping[str, str], ask: Callable[..., Request], *content: Any
    ) -> Request | None:
        """The request; None if the content fits into no prompt, which counts as rejected."""
        self.task_counts.setdefault(task, TaskCount()).asked += 1
        try:
            return ask(*content)
        except Unreadable as error:
            self._count_rejected(task, where, Rejection(str(error), ""))
            return None

    def _count_kept(self, task: Task) -> None:
        self.task_counts.setdefault(task, TaskCount()).kept += 1

    def _count_rejected(
        self, task: Task, where: Mapping[str, str], rejection: Rejection | None
    ) -> None:
        found = rejection or Rejection("unreadable", "")
        rejected = self.task_counts.setdefault(task, TaskCount()).rejected
        rejected[found.reason] = rejected.get(found.reason, 0) + 1
        row = {"task": task, "user": None, "item": None, **where}
        self._rejected.append({**row, "reason": found.reason, "answer": found.answer})

    def _check(self, task: Task) -> None:
        """Raises: LLMError if questions of this task were asked and no answer is good."""
        count = self.task_counts.get(task, TaskCount())
        if count.asked and not count.kept:
            reason = max(count.rejected, key=lambda r: count.rejected[r], default="no answer")
            answer = next((r["answer"] for r in self._rejected if r["reason"] == reason), "")
            example = f", such as {' '.join(answer.split())[:80]!r}" if answer else ""
            raise LLMError(
                f"{self.rationale_teacher.identity}: not one of {count.asked:,} answers about "
                f"{task.replace('_', ' ')} is usable: {reason}{example}; the answers are stored"
            )


def _priors(pipeline: Pipeline, valid: Sequence[Review]) -> Priors:
    """What Bias is taken from: the validation rows of inference."""
    pairs = [(row.user, row.item) for row in valid]
    ratings = np.array([row.rating for row in valid], dtype=np.float64)
    return Priors(pipeline, HeldOut(pipeline.corpus, pairs, ratings, ()))


def _names(pair: Pair) -> dict[str, str]:
    return {"user": pair[0], "item": pair[1]}
