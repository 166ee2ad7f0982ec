"""The loop of EXP3RT: preferences of reviews, profiles of users and items, then ratings.

A set of (user, item) pairs decides which questions are asked; each question is asked once. An
unreadable answer is counted and left out, never replaced by a number. A failed question is asked
again when its answer is needed again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Request, forces_prefill
from recbole_exp3rt.prompts import Prompts
from recbole_exp3rt.records import Preference, Profile, RatingPrediction, Review, Subject
from recbole_exp3rt.stages import preference, profile, rating
from recbole_exp3rt.stages.choice import Choice, Chooser
from recbole_exp3rt.stages.settings import ROOM
from recbole_exp3rt.stages.settings import StageSettings as StageSettings
from recbole_exp3rt.stages.step import Progress as Progress
from recbole_exp3rt.stages.step import Step
from recbole_exp3rt.stages.step import silent as silent
from recbole_exp3rt.stages.trial import TRIALS as TRIALS
from recbole_exp3rt.stages.trial import try_first

P = TypeVar("P", bound="Pipeline")


@dataclass(frozen=True)
class Models:
    """The language model of each step."""

    preference: LLM
    profile: LLM
    rating: LLM


class Pipeline:
    """Rates (user, item) pairs, given as RecBole's raw ids, from the reviews of a corpus.

    It remembers everything that it has read, unreadable answers included. It does not remember
    failures, nor a result that is incomplete because of a failure.
    """

    def __init__(
        self,
        corpus: Corpus,
        models: Models,
        prompts: Prompts,
        settings: StageSettings,
        progress: Progress = silent,
    ) -> None:
        self.corpus = corpus
        self.models = models
        self.prompts = prompts
        self.settings = settings
        self.progress = progress
        self.chooser = Chooser(corpus, settings)
        self._preference_step = Step("preference", "Reading reviews", models.preference, progress)
        self._profile_step = Step("profile", "Writing profiles", models.profile, progress)
        self._rating_step = Step("rating", "Rating pairs", models.rating, progress)
        steps = (self._preference_step, self._profile_step, self._rating_step)
        self.counts = {step.name: step.count for step in steps}
        self._preferences: dict[Review, Preference | None] = {}
        self._profiles: dict[Choice, Profile] = {}
        self._ratings: dict[tuple[str, str], RatingPrediction | None] = {}
        # What a failure has left out or made incomplete. It is made again when it is needed.
        self._failed_reviews: dict[Review, str] = {}  # review -> reason
        self._failed_profiles: dict[Choice, str] = {}  # missing or incomplete profile -> reason
        self._incomplete_ratings: set[tuple[str, str]] = set()  # made from an incomplete profile
        self._check_budget()

    def going_on(self: P, corpus: Corpus) -> P:
        """The same pipeline over another corpus: what it has read and its counts are shared.

        Ratings are its own, as averages and the choice of reviews follow from the corpus.
        """
        other = copy.copy(self)
        other.corpus, other.chooser = corpus, Chooser(corpus, self.settings)
        other._ratings, other._incomplete_ratings = {}, set()
        return other

    def _check_budget(self) -> None:
        """Raises: UsageError if the instructions of a prompt leave no room for its contents."""
        models, prompts = self.models, self.prompts
        rating_prompt = prompts.rating if self.settings.use_reasoning else prompts.rating_direct
        steps = (
            (models.preference, prompts.preference),
            (models.profile, prompts.user_profile),
            (models.profile, prompts.item_profile),
            (models.rating, rating_prompt),
        )
        least = ROOM + max(llm.count_tokens(prompt.frame) for llm, prompt in steps)
        if self.settings.max_prompt_tokens < least:
            raise UsageError(
                f"max_prompt_tokens={self.settings.max_prompt_tokens} leaves no room beside the "
                f"instructions; give at least {least}"
            )

    # --- step 1: preferences

    def preferences(self, reviews: Sequence[Review]) -> list[Preference | None]:
        """Likes and dislikes of each review; None where there is no readable answer."""
        known, step = self._preferences, self._preference_step
        new = [review for review in dict.fromkeys(reviews) if review not in known]
        with_text = {review: review for review in new if review.is_written}
        requests = step.requests(with_text, self.preference_request)
        known.update({review: None for review in new if review not in requests})
        forced = forces_prefill(step.llm.identity)
        outcome = step.run(
            requests,
            lambda review, answer: preference.parse(answer.text, review, forced=forced),
        )
        known.update(outcome.records)
        self._failed_reviews.update(outcome.failures)
        return [known.get(review) for review in reviews]

    def preference_request(self, review: Review) -> Request:
        """The request of step 1 about a review. Raises: Unreadable if nothing of it fits."""
        config = self.settings
        return preference.request(
            review,
            self.prompts.preference,
            item_word=config.item_word,
            max_prompt_tokens=config.max_prompt_tokens,
            max_new_tokens=config.preference_new_tokens,
            max_review_tokens=config.max_review_tokens,
            count=self.models.preference.count_tokens,
        )

    # --- step 2: profiles

    def profiles(self, subjects: Sequence[tuple[Subject, str]]) -> list[Profile]:
        """Profiles of users and items outside any pair; empty where there is no readable answer."""
        choose = {"user": self.chooser.of_user, "item": self.chooser.of_item}
        return self.profiles_of([choose[subject](key) for subject, key in subjects])

    def profiles_of(self, choices: Sequence[Choice]) -> list[Profile]:
        """A profile for each choice of reviews; equal choices are asked for once."""
        self._make_profiles(choices)
        return [self._profile(choice) for choice in choices]

    def _profile(self, choice: Choice) -> Profile:
        return self._profiles.get(choice) or Profile(choice.subject, choice.key)

    def _make_profiles(self, choices: Sequence[Choice]) -> None:
        """Make the profile of each choice of reviews, from the preferences that are readable.

        If failures are the only reason why a choice has no preferences, it gets no profile: an
        empty profile would mean that nothing is liked.
        """
        step = self._profile_step
        new = [
            choice
            for choice in dict.fromkeys(choices)
            if choice not in self._profiles or choice in self._failed_profiles
        ]
        self.preferences([review for choice in new for review in choice.reviews])
        known = self._preferences
        contents: dict[Choice, tuple[Subject, list[Preference]]] = {}
        failed: dict[Choice, str] = {}
        for choice in new:
            if found := [row for review in choice.reviews if (row := known.get(review))]:
                contents[choice] = (choice.subject, found)
            if missing := [review for review in choice.reviews if review not in known]:
                failed[choice] = self._failed_reviews[missing[0]]

        forced = forces_prefill(step.llm.identity)
        outcome = step.run(
            step.requests(contents, lambda content: self.profile_request(*content)),
            lambda choice, answer: profile.parse(
                answer.text, choice.subject, choice.key, forced=forced
            ),
        )
        failed.update(outcome.failures)
        for choice in new:
            self._failed_profiles.pop(choice, None)
            if made := outcome.records.get(choice):
                self._profiles[choice] = made
            elif choice not in failed:
                self._profiles[choice] = Profile(choice.subject, choice.key)
        self._failed_profiles.update(failed)

    def profile_request(self, subject: Subject, preferences: Sequence[Preference]) -> Request:
        """The request of step 2 about a user or an item. Raises: Unreadable if nothing fits."""
        config, prompts = self.settings, self.prompts
        return profile.request(
            preferences,
            prompts.user_profile if subject == "user" else prompts.item_profile,
            item_word=config.item_word,
            max_prompt_tokens=config.max_prompt_tokens,
            max_new_tokens=config.profile_new_tokens,
            count=self.models.profile.count_tokens,
        )

    @property
    def made_profiles(self) -> dict[Choice, Profile]:
        """All profiles of this run, by the reviews that they are made of."""
        return dict(self._profiles)

    # --- step 3: ratings

    @property
    def predictions(self) -> dict[tuple[str, str], RatingPrediction | None]:
        """The prediction for each (user, item) pair of this run; None: the answer is unreadable."""
        return dict(self._ratings)

    def choices(self, user: str, item: str) -> tuple[Choice, Choice]:
        """The reviews behind the user's and the item's profile in this pair."""
        return self.chooser.of_user(user, item), self.chooser.of_item(item, user)

    def pair(self, user: str, item: str) -> rating.Pair:
        """Profiles, description and averages that the rating prompt shows about a pair.

        The averages of a train pair leave out its own rating, so that they are made like those
        of a test pair. A pair is a train pair if the corpus has its review.
        """
        self._make_profiles(self.choices(user, item))
        return self._pair(user, item)

    def _pair(self, user: str, item: str) -> rating.Pair:
        """`pair` for profiles that are already made."""
        corpus, biased = self.corpus, self.settings.use_bias
        of_user, of_item = self.choices(user, item)
        return rating.Pair(
            user=self._profile(of_user),
            item=self._profile(of_item),
            description=corpus.description(item),
            user_average=corpus.user_average(user, without=item) if biased else None,
            item_average=corpus.item_average(item, without=user) if biased else None,
        )

    def request(self, pair: rating.Pair) -> Request:
        """The request of step 3 about a pair. Raises: Unreadable if it fits into no prompt."""
        config = self.settings
        return rating.request(
            pair,
            self.prompts,
            config.scale,
            item_word=config.item_word,
            use_reasoning=config.use_reasoning,
            max_prompt_tokens=config.max_prompt_tokens,
            max_new_tokens=config.max_new_tokens,
            count=self.models.rating.count_tokens,
        )

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[RatingPrediction | None]:
        """A prediction for each (user, item) pair; None where the answer is unreadable.

        A pair is not rated if one of its profiles is missing because of failures. The first
        TRIALS pairs are asked one by one until one is rated, so that a model that cannot rate
        costs little.

        Raises: NothingRated if none of the first TRIALS pairs, or no pair at all, is rated.
        """
        labels = self.settings.scale.labels
        expected = f"'{rating.CUE}' and one of {labels[0]}–{labels[-1]}"
        try_first(pairs, self._rate, self.counts["rating"], expected)
        return [self._ratings.get(pair) for pair in pairs]

    def _rate(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Ask for the predictions of pairs that are not known."""
        step, known = self._rating_step, self._ratings
        new = [
            pair
            for pair in dict.fromkeys(pairs)
            if pair not in known or pair in self._incomplete_ratings
        ]
        choices = {pair: self.choices(*pair) for pair in new}
        # all user profiles first, then all item profiles
        self._make_profiles([c for side in zip(*choices.values(), strict=True) for c in side])
        contents: dict[tuple[str, str], rating.Pair] = {}
        for pair in new:
            missing = [choice for choice in choices[pair] if choice not in self._profiles]
            if missing:
                reason = self._failed_profiles[missing[0]]
                step.count.asked += 1
                step.count.add_unreadable(f"no profile of the {missing[0].subject}: {reason}")
            else:
                contents[pair] = self._pair(*pair)
        requests = step.requests(contents, self.request)
        known.update({pair: None for pair in contents.keys() - requests.keys()})
        outcome = step.run(
            requests,
            lambda pair, answer: rating.parse(answer, contents[pair], self.settings.scale),
        )
        known.update(outcome.records)
        self._incomplete_ratings.difference_update(new)
        self._incomplete_ratings.update(
            pair for pair in new if self._failed_profiles.keys() & set(choices[pair])
        )
