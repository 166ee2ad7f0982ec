"""What annotating will ask, before anything is asked.

Calls are counted, tokens guessed from the prompts and from how long answers usually are. All of it
is an upper bound: nothing that is in the store is asked for again, rejected answers apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from recbole_exp3rt.distill.annotate.annotator import Annotator
from recbole_exp3rt.llm.base import Request, text_of
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.rating import render_description

# Tokens of usual answers: preferences of a review, a profile (paper: fewer than 150), a rationale
# of about five sentences.
PREFERENCE, PROFILE, RATIONALE = 80, 150, 160


@dataclass(frozen=True, slots=True)
class Calls:
    """Of one step: calls, how many of them are known to be in the store, tokens of the others."""

    step: str
    calls: int
    stored: int
    prompt_tokens: int
    new_tokens: int

    @property
    def to_ask(self) -> int:
        return self.calls - self.stored

    def __str__(self) -> str:
        known = f", {self.stored:,} of them in the store" if self.stored else ""
        return (
            f"{self.step}: {self.calls:,} calls{known}; about {self.prompt_tokens:,} prompt tokens "
            f"and {self.new_tokens:,} new ones"
        )


def plan(annotator: Annotator, teacher: CachedLLM) -> list[Calls]:
    """The steps in their order; what is rejected and drawn again comes on top."""
    steps = [_preferences(annotator, teacher), _profiles(annotator)]
    return [*steps, _rationales(annotator)] if annotator.stages.use_reasoning else steps


def _preferences(annotator: Annotator, teacher: CachedLLM) -> Calls:
    requests: dict[Request, None] = {}
    for review in annotator.reviews:
        try:
            asked = annotator.pipeline.preference_request(review)
        except Unreadable:
            continue
        requests[annotator.preferring.asked(asked)] = None
    stored = teacher.stored(list(requests))
    left = 1 - stored / len(requests) if requests else 0.0
    tokens = sum(teacher.count_tokens(text_of(request.messages)) for request in requests)
    new = round(left * PREFERENCE * len(requests))
    return Calls("preferences", len(requests), stored, round(left * tokens), new)


def _profiles(annotator: Annotator) -> Calls:
    prompts, count = annotator.pipeline.prompts, annotator.profiling.count_tokens
    frames = {"user": count(prompts.user_profile.frame), "item": count(prompts.item_profile.frame)}
    room = annotator.pipeline.settings.max_prompt_tokens
    written = [
        (choice, sum(1 for review in choice.reviews if review.is_written))
        for choice in annotator.choices
    ]
    sizes = [min(frames[c.subject] + PREFERENCE * n, room) for c, n in written if n]
    return Calls("profiles", len(sizes), 0, sum(sizes), PROFILE * len(sizes))


def _rationales(annotator: Annotator) -> Calls:
    pairs = [*annotator.train, *annotator.valid]
    count, corpus = annotator.reasoning.count_tokens, annotator.corpus
    frame = count(annotator.pipeline.prompts.rationale.frame) + 2 * PROFILE
    items = {row.item for row in pairs}
    described = {item: count(render_description(corpus.description(item))) for item in items}
    limit = annotator.stages.max_prompt_tokens
    prompt = sum(min(frame + described[row.item], limit) for row in pairs)
    return Calls("rationales", len(pairs), 0, prompt, RATIONALE * len(pairs))
