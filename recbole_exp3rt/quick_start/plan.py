"""The plan of a run, before anything is asked: calls, tokens, dollars, minutes.

The steps run as they will, but on the answers of the store alone: what has no answer there is
what is to be asked. Tokens of a question that is not known yet, as it holds answers that are not
there, are guessed from the instructions and the usual length of answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from recbole_exp3rt.llm.base import Answer, Failure, Request, text_of
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.estimate import Estimate
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.names import is_served
from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.quick_start.rates import Rates
from recbole_exp3rt.records import Review
from recbole_exp3rt.stages.choice import Choice
from recbole_exp3rt.stages.pipeline import Models, Pipeline

Pairs = Sequence[tuple[str, str]]
COUNTED = 1_000  # prompts of a model whose tokens are counted; of more, the length is enough
MANY = 100  # preferences to ask for each pair that are worth a word
LIMIT = 10  # reviews of a profile, in that word
# Tokens of usual answers: preferences of a review, a profile (paper: fewer than 150), reasoning
# of about five sentences.
USUAL = {"preferences": 80, "profiles": 150, "rating": 160}


@dataclass(frozen=True)
class StepPlan:
    """Of one step: the model, how many answers the store has, and the open calls.

    `estimate` holds their number, tokens and dollars; `seconds` is None where no rate of the model
    was measured on this machine.
    """

    step: str
    identity: str
    stored: int
    estimate: Estimate
    served: bool
    seconds: float | None = None

    @property
    def to_ask(self) -> int:
        """Calls without an answer in the store."""
        return self.estimate.calls

    def __str__(self) -> str:
        known = f"{self.step}: {self.stored:,} answers are in the store"
        return f"{known}; to ask: {self.estimate}" if self.to_ask else known


@dataclass(frozen=True)
class Plan:
    """The plan of all steps; `bound` says why it may be more than what will be asked.

    `reasons` say why it is much, and what would be less.
    """

    steps: tuple[StepPlan, ...]
    bound: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def open_calls(self) -> int:
        """Calls without an answer in the store."""
        return sum(step.to_ask for step in self.steps)

    @property
    def is_paid(self) -> bool:
        """Whether a model on a server is to be asked."""
        return any(step.served and step.to_ask for step in self.steps)

    @property
    def seconds(self) -> float | None:
        """Time of all open calls on this machine; None where a rate is missing."""
        open_steps = [step.seconds for step in self.steps if step.to_ask]
        return None if None in open_steps else sum(filter(None, open_steps))

    def lines(self) -> list[str]:
        """The plan in words."""
        seconds = self.seconds
        if not self.open_calls:
            time = "nothing is to be asked"
        elif seconds is None:
            time = "time: not known, no rate of these models was measured on this machine yet"
        else:
            time = f"time: {about(seconds)} on this machine"
        bound = f" ({self.bound})" if self.bound else ""
        lines = (*self.steps, *self.reasons, time)
        return [f"Plan{bound}:", *(f"  {line}" for line in lines)]


def about(seconds: float) -> str:
    """A time in words."""
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:,.0f} minutes"


class StoredOnly:
    """Answers out of the store of a model; what is not there is a failure, and is noted."""

    def __init__(self, llm: CachedLLM) -> None:
        self.llm = llm
        self._asked: set[str] = set()
        self._missing: set[str] = set()
        self._characters = self._counted = 0  # of prompts that are missing; of those counted
        self._tokens = 0  # of those counted
        self.new_tokens = 0  # of usual answers of the rating step to what is missing

    @property
    def asked(self) -> int:
        """Number of questions; one that is asked again counts once."""
        return len(self._asked)

    @property
    def missing(self) -> int:
        """Number of questions without an answer."""
        return len(self._missing)

    @property
    def prompt_tokens(self) -> float:
        """Tokens of the prompts that are missing; after the first COUNTED, by their length."""
        return self._tokens * self._characters / max(self._counted, 1)

    def _note(self, key: str, request: Request) -> None:
        """Note a question without an answer."""
        if key in self._missing:
            return
        text = text_of(request.messages)
        if len(self._missing) < COUNTED:
            self._tokens += self.count_tokens(text)
            self._counted += len(text)
        self._missing.add(key)
        self._characters += len(text)
        self.new_tokens += min(USUAL["rating"], request.max_new_tokens)

    @property
    def identity(self) -> str:
        """The identity of the model."""
        return self.llm.identity

    @property
    def readout(self) -> str:
        """How the model's labels are read."""
        return self.llm.readout

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` in the model."""
        return self.llm.count_tokens(text)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """The stored answers; a `Failure` for any other request."""
        keys = [request.key(self.identity) for request in requests]
        known = self.llm.store.get_many(list(dict.fromkeys(keys)))
        self._asked.update(keys)
        for key, request in zip(keys, requests, strict=True):
            if key not in known:
                self._note(key, request)
        for position, key in enumerate(keys):
            yield position, known.get(key, Failure("not in the store"))


class _Rehearsal(Pipeline):
    """A pipeline whose failures are questions that are still to be asked."""

    @property
    def unread(self) -> set[Review]:
        """The reviews whose preferences are not there."""
        return set(self._failed_reviews)

    @property
    def lacking(self) -> list[Choice]:
        """The choices of reviews whose profiles are not there."""
        return list(self._failed_profiles)

    def rehearse(self, pairs: Pairs, reasoning: bool) -> tuple[int, int]:
        """Ask the store for all that `pairs` need: profiles and ratings that are not there."""
        self._rate(pairs, reasoning)
        keys = [(pair, reasoning) for pair in pairs]
        return len(self._failed_profiles), sum(
            key not in self._ratings or key in self._incomplete_ratings for key in keys
        )


def plan_pairs(
    rater: Rater,
    names: Sequence[str],
    asked: Mapping[bool, Pairs],
    prices: Prices,
    rates: Rates,
    beside: Sequence[tuple[Rater, Mapping[bool, Pairs]]] = (),
) -> Plan:
    """The plan of rating pairs of raw tokens: `asked` has those with a rationale at True.

    `beside`: more pairs, by raters over wider corpora.

    A question that several of them have counts once. `names` are the models of the settings for
    preferences, profiles and rating: prices go by them.
    """
    own = rater.pipeline
    models = (own.models.preference, own.models.profile, own.models.rating)
    stand_ins = [StoredOnly(model) for model in models if isinstance(model, CachedLLM)]
    pipeline = _Rehearsal(own.corpus, Models(*stand_ins), own.prompts, own.settings)
    if own.settings.needs_bias:
        pipeline.priors = own.priors
    profiles, ratings = 0, {False: 0, True: 0}
    for reasoning, pairs in asked.items():
        profiles, ratings[reasoning] = pipeline.rehearse(list(dict.fromkeys(pairs)), reasoning)
    for other, more in beside:
        wider = pipeline.going_on(other.pipeline.corpus)
        for reasoning, pairs in more.items():
            profiles, unrated = wider.rehearse(list(dict.fromkeys(pairs)), reasoning)
            ratings[reasoning] += unrated
    to_ask = (stand_ins[0].missing, profiles, sum(ratings.values()))
    guess = _usual_prompts(own, pipeline)
    settings = own.settings
    new = {
        "preferences": min(USUAL["preferences"], settings.preference_new_tokens) * to_ask[0],
        "profiles": min(USUAL["profiles"], settings.profile_new_tokens) * profiles,
        "rating": min(USUAL["rating"], settings.max_new_tokens) * ratings[True],
    }
    steps = []
    for step, model, count, name in zip(USUAL, stand_ins, to_ask, names, strict=True):
        prompt = round(model.prompt_tokens + guess[step] * max(0, count - model.missing))
        estimate = prices.estimate(count, prompt, new[step], name)
        stored = model.asked - model.missing
        steps.append(StepPlan(step, model.identity, stored, estimate, is_served(name)))
    pairs = list(dict.fromkeys(pair for some in asked.values() for pair in some))
    return timed(Plan(tuple(steps), reasons=_reasons(pipeline, pairs)), rates)


def _reasons(pipeline: _Rehearsal, pairs: Pairs) -> tuple[str, ...]:
    """Why pairs need so many preferences, and what a limit would save; nothing if they are few."""
    unread = pipeline.unread
    if len(unread) < MANY * len(pairs) or pipeline.settings.profile_reviews:
        return ()
    choices = list(dict.fromkeys(c for pair in pairs for c in pipeline.choices(*pair)))
    sizes = {"user": list[int](), "item": list[int]()}
    for choice in choices:
        sizes[choice.subject].append(len(choice.reviews))
    told = [f"{len(own):,} {side}s have {sum(own):,} reviews" for side, own in sizes.items()]
    limited = {review for choice in choices for review in choice.reviews[-LIMIT:]}
    return (
        f"why so many preferences: the {' and the '.join(told)}; the largest profile is made of "
        f"{max(max(own, default=0) for own in sizes.values()):,}",
        f"less: profile_reviews={LIMIT} would ask about {len(unread & limited):,} of the "
        f"{len(unread):,} reviews (the newest of each; profile_rule: helpful or similar)",
    )


def plan_questions(
    name: str, llm: CachedLLM, requests: Sequence[Request], prices: Prices, student: str
) -> StepPlan:
    """The plan of a system whose questions are known: `requests`, each asked once.

    `student` is the model's name in the settings: prices go by it.
    """
    asked = list({request.key(llm.identity): request for request in requests}.values())
    stand_in = StoredOnly(llm)
    list(stand_in.generate(asked))
    return plan_asked(name, stand_in, prices, student)


def plan_asked(name: str, asked: StoredOnly, prices: Prices, student: str) -> StepPlan:
    """The plan of what a stand-in was asked; `name`, `prices` and `student` as above."""
    prompt, new = round(asked.prompt_tokens), asked.new_tokens
    estimate = prices.estimate(asked.missing, prompt, new, student)
    stored = asked.asked - asked.missing
    return StepPlan(name, asked.identity, stored, estimate, is_served(student))


def timed(plan: Plan, rates: Rates) -> Plan:
    """`plan` with the seconds of each step by the rates of this machine."""
    steps = []
    for step in plan.steps:
        rate = rates.seconds(step.step, step.identity)
        seconds = None if rate is None else rate * step.to_ask
        steps.append(replace(step, seconds=seconds))
    return replace(plan, steps=tuple(steps))


def _usual_prompts(own: Pipeline, rehearsed: _Rehearsal) -> dict[str, float]:
    """Step -> prompt tokens of a question that holds answers which are not there yet."""
    settings, prompts = own.settings, own.prompts
    rating = prompts.rating if settings.explains else prompts.rating_direct
    sizes = [len(choice.reviews) for choice in rehearsed.lacking]
    reviews = sum(sizes) / max(len(sizes), 1)
    profile = own.models.profile.count_tokens(prompts.user_profile.frame)
    return {
        "preferences": 0.0,  # all of them are known
        "profiles": min(settings.max_prompt_tokens, profile + USUAL["preferences"] * reviews),
        "rating": min(
            settings.max_prompt_tokens,
            own.models.rating.count_tokens(rating.frame) + 2 * USUAL["profiles"],
        ),
    }
