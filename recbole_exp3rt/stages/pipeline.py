"""The loop of EXP3RT: preferences of reviews, profiles of users and items, then ratings.

A set of (user, item) pairs decides which questions are asked; each question is asked once. An
unreadable answer is counted and left out, never replaced by a number. A failed question is asked
again when its answer is needed again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Request, forces_prefill
from recbole_exp3rt.prompts import Prompts
from recbole_exp3rt.records import Preference, Profile, RatingPrediction, Review, Subject
from recbole_exp3rt.stages import preference, profile, rating
from recbole_exp3rt.stages.choice import Choice, Chooser
from recbole_exp3rt.stages.reasoning import most_uncertain
from recbole_exp3rt.stages.settings import ROOM
from recbole_exp3rt.stages.settings import StageSettings as StageSettings
from recbole_exp3rt.stages.step import Progress as Progress
from recbole_exp3rt.stages.step import Step
from recbole_exp3rt.stages.step import silent as silent
from recbole_exp3rt.stages.trial import TRIALS as TRIALS
from recbole_exp3rt.stages.trial import try_first

if TYPE_CHECKING:  # numpy, which only `baseline` and `prior` need
    from recbole_exp3rt.stages.anchoring import Priors
    from recbole_exp3rt.stages.bias import CorpusBias

Pair = tuple[str, str]  # raw tokens of a user and an item
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
        priors: Priors | None = None,
    ) -> None:
        """`priors` are those of another pipeline; without them it takes its own, if it needs any.

        Raises: UsageError if the instructions of a prompt leave no room for its contents.
        """
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
        self._priors = priors
        # by pair and by whether a rationale was asked for; as the model says, without a prior
        self._ratings: dict[tuple[Pair, bool], RatingPrediction | None] = {}
        # What a failure has left out or made incomplete. It is made again when it is needed.
        self._failed_reviews: dict[Review, str] = {}  # review -> reason
        self._failed_profiles: dict[Choice, str] = {}  # missing or incomplete profile -> reason
        self._incomplete_ratings: set[tuple[Pair, bool]] = set()  # made from an incomplete profile
        self._check_budget()

    def going_on(self: P, corpus: Corpus) -> P:
        """The same pipeline over another corpus: what it has read and its counts are shared.

        Ratings are its own, as averages and the choice of reviews follow from the corpus.
        """
        if self.settings.needs_bias:
            self.priors = self.priors  # taken once, for both
        other = copy.copy(self)
        vars(other).pop("bias", None)  # of this corpus
        other.corpus, other.chooser = corpus, Chooser(corpus, self.settings)
        other._ratings, other._incomplete_ratings = {}, set()
        return other

    def _check_budget(self) -> None:
        """Raises: UsageError if the instructions of a prompt leave no room for its contents."""
        models, prompts = self.models, self.prompts
        used = [prompts.rating] if self.settings.explains else []
        if not self.settings.explains or self.settings.scores_first:
            used.append(prompts.rating_direct)
        steps = (
            (models.preference, prompts.preference),
            (models.profile, prompts.user_profile),
            (models.profile, prompts.item_profile),
            *((models.rating, prompt) for prompt in used),
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
        known.update({review: None for review in new if review not in with_text})
        forced = forces_prefill(step.llm.identity)
        outcome = step.ask(
            with_text,
            self.preference_request,
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
        outcome = step.ask(
            contents,
            lambda content: self.profile_request(*content),
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
    def predictions(self) -> dict[Pair, RatingPrediction | None]:
        """The prediction for each (user, item) pair of this run; None: the answer is unreadable.

        Of a pair that was scored with and without a rationale, that with one.
        """
        found: dict[Pair, RatingPrediction | None] = {}
        for reasoning in (False, True):
            pairs = [pair for pair, own in self._ratings if own == reasoning]
            found |= dict(zip(pairs, self._anchored(pairs, reasoning), strict=True))
        return found

    def is_reasoned(self, pair: Pair) -> bool:
        """Whether the pair was rated with a rationale; of a pair not rated yet, whether it may."""
        rated = [reasoning for reasoning in (True, False) if (pair, reasoning) in self._ratings]
        return rated[0] if rated else self.settings.explains

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
        corpus, use_bias = self.corpus, self.settings.use_bias
        biased, shown = use_bias is True, use_bias == "baseline"
        of_user, of_item = self.choices(user, item)
        return rating.Pair(
            user=self._profile(of_user),
            item=self._profile(of_item),
            description=corpus.description(item),
            user_average=corpus.user_average(user, without=item) if biased else None,
            item_average=corpus.item_average(item, without=user) if biased else None,
            baseline=self.anchor(user, item) if shown else None,
        )

    @cached_property
    def bias(self) -> CorpusBias:
        """Bias over the corpus, for `baseline` and `prior`."""
        from recbole_exp3rt.stages.bias import CorpusBias

        return CorpusBias(self.corpus, self.settings.scale, self.priors.reg_weight)

    def anchor(self, user: str, item: str) -> float | None:
        """Bias's prediction for a pair, where it is shown or anchors the rating; else None."""
        needed = self.settings.needs_bias
        return float(self.bias.rate([(user, item)])[0]) if needed else None

    @property
    def priors(self) -> Priors:
        """What anchors the ratings, if `use_bias` is `prior`."""
        from recbole_exp3rt.stages.anchoring import Priors

        if self._priors is None:
            self._priors = Priors(self)
        return self._priors

    @priors.setter
    def priors(self, priors: Priors) -> None:
        self._priors = priors

    def request(self, pair: rating.Pair, reasoning: bool | None = None) -> Request:
        """The request of step 3 about a pair, with or without a rationale; None: `is_reasoned`.

        Raises: Unreadable if it fits into no prompt.
        """
        config = self.settings
        if reasoning is None:
            reasoning = self.is_reasoned((pair.user.key, pair.item.key))
        return rating.request(
            pair,
            self.prompts,
            config.scale,
            item_word=config.item_word,
            use_reasoning=reasoning,
            max_prompt_tokens=config.max_prompt_tokens,
            max_new_tokens=config.max_new_tokens,
            count=self.models.rating.count_tokens,
        )

    def rate(self, pairs: Sequence[Pair]) -> list[RatingPrediction | None]:
        """A prediction for each (user, item) pair; None where the answer is unreadable.

        The setting `rating_reasoning` says which pairs get a rationale. `uncertain:P` scores all
        of them without one, and then asks again about the P % with the highest entropy.

        Raises: NothingRated, see `rated`.
        """
        share = self.settings.rating_share
        if share in (0.0, 1.0):
            return self.rated(pairs, reasoning=share == 1.0)
        direct = self.rated(pairs, reasoning=False)
        chosen = most_uncertain(pairs, direct, share)
        reasoned = dict(zip(chosen, self.rated(chosen, reasoning=True), strict=True))
        return [reasoned.get(pair, said) for pair, said in zip(pairs, direct, strict=True)]

    def rated(self, pairs: Sequence[Pair], *, reasoning: bool) -> list[RatingPrediction | None]:
        """A prediction for each pair, all with a rationale or all without; anchored by the prior.

        A pair is not rated if one of its profiles is missing because of failures. The first
        TRIALS pairs are asked one by one until one is rated, so that a model that cannot rate
        costs little.

        Raises: NothingRated if none of the first TRIALS pairs, or no pair at all, is rated.
        """
        self.unanchored(pairs, reasoning)
        return self._anchored(pairs, reasoning)

    def unanchored(self, pairs: Sequence[Pair], reasoning: bool) -> list[RatingPrediction | None]:
        """As `rated`, without a prior: what the model itself says."""
        labels = self.settings.scale.labels
        expected = f"'{rating.CUE}' and one of {labels[0]}–{labels[-1]}"

        def ask(some: Sequence[Pair]) -> None:
            self._rate(some, reasoning)

        try_first(pairs, ask, self.counts["rating"], expected)
        return [self._ratings.get((pair, reasoning)) for pair in pairs]

    def _anchored(self, pairs: Sequence[Pair], reasoning: bool) -> list[RatingPrediction | None]:
        """What is known of the pairs, anchored if `use_bias` is `prior`."""
        said = [self._ratings.get((pair, reasoning)) for pair in pairs]
        there = [(pair, one) for pair, one in zip(pairs, said, strict=True) if one]
        if self.settings.use_bias != "prior" or not there:
            return said
        prior = self.priors.of(reasoning)
        bias = self.bias.rate([pair for pair, _ in there])
        found = iter(prior.apply([one for _, one in there], bias, self.settings.scale))
        return [next(found) if one else None for one in said]

    def _rate(self, pairs: Sequence[Pair], reasoning: bool) -> None:
        """Ask for the predictions of pairs that are not known."""
        step, known = self._rating_step, self._ratings
        new = [
            pair
            for pair in dict.fromkeys(pairs)
            if (pair, reasoning) not in known or (pair, reasoning) in self._incomplete_ratings
        ]
        self.corpus.prepare(new)
        self.chooser.prepare(new)
        choices = {pair: self.choices(*pair) for pair in new}
        # all user profiles first, then all item profiles
        self._make_profiles([c for side in zip(*choices.values(), strict=True) for c in side])
        contents: dict[Pair, rating.Pair] = {}
        for pair in new:
            missing = [choice for choice in choices[pair] if choice not in self._profiles]
            if missing:
                reason = self._failed_profiles[missing[0]]
                step.count.asked += 1
                step.count.add_unreadable(f"no profile of the {missing[0].subject}: {reason}")
            else:
                contents[pair] = self._pair(*pair)
        outcome = step.ask(
            contents,
            lambda content: self.request(content, reasoning),
            lambda pair, answer: rating.parse(answer, contents[pair], self.settings.scale),
        )
        known.update({(pair, reasoning): found for pair, found in outcome.records.items()})
        self._incomplete_ratings.difference_update((pair, reasoning) for pair in new)
        self._incomplete_ratings.update(
            (pair, reasoning) for pair in new if self._failed_profiles.keys() & set(choices[pair])
        )
