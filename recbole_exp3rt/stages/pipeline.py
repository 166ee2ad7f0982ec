"""The only loop: which questions a set of pairs needs, asked in order, each once.

Preferences of the reviews, profiles of the users and items, then the ratings. What the pairs do
not need is never asked; an unreadable answer is counted and left out, never replaced by a number.
What could not be had is asked for again by the next question that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Answer, Completion, Failure, Request, forces_prefill
from recbole_exp3rt.prompts import Prompts
from recbole_exp3rt.records import Preference, Profile, RatingPrediction, Review, Subject
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages import preference, profile, rating
from recbole_exp3rt.stages.choice import Choice, ChoiceSettings, Chooser
from recbole_exp3rt.stages.counts import NothingRated, StepCount, unreadable
from recbole_exp3rt.stages.lists import Unreadable

Key = TypeVar("Key")
Told = TypeVar("Told")
Record = TypeVar("Record")


TRIALS = 5  # pairs that are asked about before the others, until one is rated
ROOM = 32  # tokens that a prompt has at least for what it shows


class Progress(Protocol):
    """Shows one step: wraps answers as they arrive."""

    def __call__(
        self, answers: Iterable[tuple[int, Answer]], total: int, title: str
    ) -> Iterable[tuple[int, Answer]]: ...


def silent(
    answers: Iterable[tuple[int, Answer]], total: int, title: str
) -> Iterable[tuple[int, Answer]]:
    return answers


@dataclass(frozen=True)
class Models:
    """Who does which step."""

    preference: LLM
    profile: LLM
    rating: LLM


@dataclass(frozen=True)
class StageSettings(ChoiceSettings):
    """Knobs of the three steps. Token budgets count the words of a prompt in the step's model."""

    scale: RatingScale
    item_word: str = "item"
    use_reasoning: bool = True
    use_bias: bool = True
    max_prompt_tokens: int = 1200
    max_new_tokens: int = 512
    preference_new_tokens: int = 256
    profile_new_tokens: int = 256
    max_review_tokens: int | None = None  # None: as far as max_prompt_tokens goes

    def limits(self) -> list[str]:
        """What keeps the model from reading everything, in words; a result is read with it."""
        said = []
        if self.item_profile == "helpful":
            said.append(f"item profiles from the {self.helpful_top} most helpful reviews")
        if self.item_profile == "neighbor":
            said.append(f"item profiles from the {self.neighbors} most similar users")
        if self.profile_reviews:
            said.append(f"profiles from the newest {self.profile_reviews} reviews")
        if self.max_review_tokens:
            said.append(f"reviews cut to {self.max_review_tokens} tokens")
        return said


class Pipeline:
    """Rates pairs of raw tokens out of a corpus. Remembers what it has read during a run.

    Unreadable answers are remembered too, failures are not, nor what was made in spite of them.
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
        self.counts = {"preference": StepCount(), "profile": StepCount(), "rating": StepCount()}
        self._preferences: dict[Review, Preference | None] = {}
        self.chooser = Chooser(corpus, settings)
        self._profiles: dict[Choice, Profile] = {}
        self._ratings: dict[tuple[str, str], RatingPrediction | None] = {}
        # what a failure stands behind, with its reason: it is made again when it is needed
        self._failed: dict[Review, str] = {}  # preferences
        self._lacking: dict[Choice, str] = {}  # profiles
        self._in_spite: set[tuple[str, str]] = set()  # ratings out of such profiles
        self._check_budget()

    def _check_budget(self) -> None:
        """Raises: UsageError if a prompt's own words leave no room for what it is to show."""
        models, prompts = self.models, self.prompts
        rated = prompts.rating if self.settings.use_reasoning else prompts.rating_direct
        steps = (
            (models.preference, prompts.preference),
            (models.profile, prompts.user_profile),
            (models.profile, prompts.item_profile),
            (models.rating, rated),
        )
        least = ROOM + max(llm.count_tokens(prompt.frame) for llm, prompt in steps)
        if self.settings.max_prompt_tokens < least:
            raise UsageError(
                f"max_prompt_tokens={self.settings.max_prompt_tokens} leaves no room beside the "
                f"instructions; give at least {least}"
            )

    def preferences(self, reviews: Sequence[Review]) -> list[Preference | None]:
        """Likes and dislikes of each review; None where no answer was had or could be read."""
        known = self._preferences
        new = [review for review in dict.fromkeys(reviews) if review not in known]
        texts = {review: review for review in new if review.is_written}
        asked = self._asked("preference", texts, self.preference_request)
        known.update({review: None for review in new if review not in asked})
        forced = forces_prefill(self.models.preference.identity)
        read, failed = self._step(
            "preference",
            "Reading reviews",
            self.models.preference,
            asked,
            lambda review, answer: preference.parse(answer.text, review, forced=forced),
        )
        known.update(read)
        self._failed.update(failed)
        return [known.get(review) for review in reviews]

    def profiles(self, wanted: Sequence[tuple[Subject, str]]) -> list[Profile]:
        """Profiles of users and items in no pair; empty where nothing readable was written."""
        of = {"user": self.chooser.of_user, "item": self.chooser.of_item}
        return self.written([of[subject](key) for subject, key in wanted])

    def written(self, choices: Sequence[Choice]) -> list[Profile]:
        """A profile for each choice of reviews; equal choices are asked for once."""
        self._write(choices)
        return [self._profile(choice) for choice in choices]

    def _profile(self, choice: Choice) -> Profile:
        return self._profiles.get(choice) or Profile(choice.subject, choice.key)

    def _write(self, choices: Sequence[Choice]) -> None:
        """Make a profile of each choice of reviews.

        It is made of the preferences that could be had. Where there are none for failures alone,
        there is no profile: an empty one would say that nothing is liked.
        """
        known = self._preferences
        new = [
            choice
            for choice in dict.fromkeys(choices)
            if choice not in self._profiles or choice in self._lacking
        ]
        self.preferences([review for choice in new for review in choice.reviews])
        told: dict[Choice, tuple[Subject, list[Preference]]] = {}
        lacking: dict[Choice, str] = {}
        for choice in new:
            if rows := [found for review in choice.reviews if (found := known.get(review))]:
                told[choice] = (choice.subject, rows)
            if missing := [review for review in choice.reviews if review not in known]:
                lacking[choice] = self._failed[missing[0]]

        forced = forces_prefill(self.models.profile.identity)
        made, failed = self._step(
            "profile",
            "Writing profiles",
            self.models.profile,
            self._asked("profile", told, lambda content: self.profile_request(*content)),
            lambda choice, answer: profile.parse(
                answer.text, choice.subject, choice.key, forced=forced
            ),
        )
        lacking.update(failed)
        for choice in new:
            self._lacking.pop(choice, None)
            if written := made.get(choice):
                self._profiles[choice] = written
            elif choice not in lacking:
                self._profiles[choice] = Profile(choice.subject, choice.key)
        self._lacking.update(lacking)

    @property
    def made_profiles(self) -> dict[Choice, Profile]:
        """The profiles of this run, by the reviews they are chosen from."""
        return dict(self._profiles)

    @property
    def predictions(self) -> dict[tuple[str, str], RatingPrediction | None]:
        """What was said about each pair of this run; None: unreadable."""
        return dict(self._ratings)

    def choices(self, user: str, item: str) -> tuple[Choice, Choice]:
        """The reviews that the user's and the item's profile are made of in this pair."""
        return self.chooser.of_user(user, item), self.chooser.of_item(item, user)

    def pair(self, user: str, item: str) -> rating.Pair:
        """What the model is told about a pair.

        The averages of a train pair leave its own rating out, as those of a test pair do; a
        pair is a train pair if the corpus has its review.
        """
        self._write(self.choices(user, item))
        return self._pair(user, item)

    def _pair(self, user: str, item: str) -> rating.Pair:
        """The same of profiles that are written."""
        corpus, biased = self.corpus, self.settings.use_bias
        of_user, of_item = self.choices(user, item)
        return rating.Pair(
            user=self._profile(of_user),
            item=self._profile(of_item),
            description=corpus.description(item),
            user_average=corpus.user_average(user, without=item) if biased else None,
            item_average=corpus.item_average(item, without=user) if biased else None,
        )

    def preference_request(self, review: Review) -> Request:
        """What step 1 asks about a review. Raises: Unreadable if nothing of it fits."""
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

    def profile_request(self, subject: Subject, preferences: Sequence[Preference]) -> Request:
        """What step 2 asks about a user or an item. Raises: Unreadable if nothing fits."""
        config, prompts = self.settings, self.prompts
        return profile.request(
            preferences,
            prompts.user_profile if subject == "user" else prompts.item_profile,
            item_word=config.item_word,
            max_prompt_tokens=config.max_prompt_tokens,
            max_new_tokens=config.profile_new_tokens,
            count=self.models.profile.count_tokens,
        )

    def request(self, pair: rating.Pair) -> Request:
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
        """A prediction for each (user, item); None where the answer could not be read.

        A pair without a profile, for failures alone, is not rated.
        Until a first pair is rated, single pairs are asked about before the rest is paid.
        Raises: NothingRated if not a single answer could be read since the pipeline was made, or
        none of the first TRIALS.
        """
        tried = list(dict.fromkeys(pairs))
        if len(tried) > TRIALS and not self.counts["rating"].readable:
            for pair in tried[:TRIALS]:
                self._rate([pair])
                if self.counts["rating"].readable:
                    break
            else:
                raise self._nothing(TRIALS, f"the other {len(tried) - TRIALS:,} are not asked")
        said = self._rate(pairs)
        if pairs and not self.counts["rating"].readable:
            raise self._nothing(len(tried), "")
        return said

    def _nothing(self, pairs: int, so: str) -> NothingRated:
        scale = self.settings.scale
        wanted = f"'{rating.CUE}' and one of {scale.labels[0]}–{scale.labels[-1]}"
        rest = f"; {so}" if so else ""
        return NothingRated(
            f"not one of {pairs} pairs was rated: {self.counts['rating'].mostly()} "
            f"(expected: {wanted}){rest}"
        )

    def _rate(self, pairs: Sequence[tuple[str, str]]) -> list[RatingPrediction | None]:
        """A prediction for each pair, None where there is none."""
        count, said = self.counts["rating"], self._ratings
        new = [key for key in dict.fromkeys(pairs) if key not in said or key in self._in_spite]
        choices = {key: self.choices(*key) for key in new}
        self._write([choice for side in zip(*choices.values(), strict=True) for choice in side])
        told: dict[tuple[str, str], rating.Pair] = {}
        for key in new:
            lacks = [choice for choice in choices[key] if choice not in self._profiles]
            if lacks:
                count.asked += 1
                count.missed(f"no profile of the {lacks[0].subject}: {self._lacking[lacks[0]]}")
            else:
                told[key] = self._pair(*key)
        asked = self._asked("rating", told, self.request)
        said.update({key: None for key in told.keys() - asked.keys()})
        made, _ = self._step(
            "rating",
            "Rating pairs",
            self.models.rating,
            asked,
            lambda key, answer: rating.parse(answer, told[key], self.settings.scale),
        )
        said.update(made)
        self._in_spite.difference_update(new)
        self._in_spite.update(key for key in new if self._lacking.keys() & set(choices[key]))
        return [said.get(pair) for pair in pairs]

    def _asked(
        self, step: str, told: Mapping[Key, Told], ask: Callable[[Told], Request]
    ) -> dict[Key, Request]:
        """A request for each; what does not fit into any prompt is counted as unreadable."""
        asked: dict[Key, Request] = {}
        for key, content in told.items():
            try:
                asked[key] = ask(content)
            except Unreadable as error:
                self.counts[step].asked += 1
                self.counts[step].missed(str(error))
        return asked

    def _step(
        self,
        name: str,
        title: str,
        llm: LLM,
        requests: dict[Key, Request],
        parse: Callable[[Key, Completion], Record],
    ) -> tuple[dict[Key, Record | None], dict[Key, str]]:
        """Ask all `requests`, read each answer, count what came back.

        What was read, None where nothing readable can be had; and the reasons of those that were
        not answered.
        """
        keys = list(requests)
        count = self.counts[name]
        count.asked += len(keys)
        read: dict[Key, Record | None] = {}
        failed = dict.fromkeys(keys, "not answered")
        if not keys:
            return read, failed
        answers = llm.generate([requests[key] for key in keys])
        for position, answer in self.progress(answers, len(keys), title):
            key = keys[position]
            if isinstance(answer, Failure):
                count.missed(answer.reason)
                failed[key] = answer.reason
                if answer.final:
                    read[key] = None
                    del failed[key]
                continue
            del failed[key]
            read[key] = None
            count.prompt_tokens += answer.prompt_tokens
            count.new_tokens += answer.new_tokens
            count.missing_labels += answer.missing_labels
            try:
                read[key] = parse(key, answer)
                count.readable += 1
            except Unreadable as error:
                count.missed(unreadable(name, answer, str(error)), answer.text)
        return read, failed
