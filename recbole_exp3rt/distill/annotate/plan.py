"""The plan of an annotation: calls and tokens of each step, before anything is asked.

Calls are counted; tokens are estimated from the prompts and the usual length of answers. Stored
answers of the later steps are not known yet, so the plan is an upper bound, except for questions
that are asked again because an answer was rejected.
"""

from __future__ import annotations

from dataclasses import dataclass

from recbole_exp3rt.distill.annotate.annotator import Annotator
from recbole_exp3rt.llm.base import Request, text_of
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.rating import render_description

# Usual tokens of an answer: preferences of a review, a profile (paper: fewer than 150), a rationale
# of about five sentences.
PREFERENCE, PROFILE, RATIONALE = 80, 150, 160


@dataclass(frozen=True, slots=True)
class Calls:
    """One step of the plan: calls, stored answers among them, and tokens of the other calls.

    Printed, it is one line for the user.
    """

    step: str
    calls: int
    stored: int
    prompt_tokens: int
    new_tokens: int

    @property
    def to_ask(self) -> int:
        """Calls without a stored answer."""
        return self.calls - self.stored

    def __str__(self) -> str:
        known = f", {self.stored:,} of them in the store" if self.stored else ""
        return (
            f"{self.step}: {self.calls:,} calls{known}; about {self.prompt_tokens:,} prompt tokens "
            f"and {self.new_tokens:,} new ones"
        )


def plan(annotator: Annotator, teacher: CachedLLM) -> list[Calls]:
    """The calls of each step, in order; without questions that are asked again."""
    steps = [_preferences(annotator, teacher), _profiles(annotator)]
    return [*steps, _rationales(annotator)] if annotator.stages.use_reasoning else steps


def _preferences(annotator: Annotator, teacher: CachedLLM) -> Calls:
    requests: dict[Request, None] = {}
    for review in annotator.reviews:
        try:
            request = annotator.pipeline.preference_request(review)
        except Unreadable:
            continue
        requests[annotator.preference_teacher.sampled(request)] = None
    stored = teacher.stored(list(requests))
    new_share = 1 - stored / len(requests) if requests else 0.0
    tokens = sum(teacher.count_tokens(text_of(request.messages)) for request in requests)
    new = round(new_share * PREFERENCE * len(requests))
    return Calls("preferences", len(requests), stored, round(new_share * tokens), new)


def _profiles(annotator: Annotator) -> Calls:
    prompts, count = annotator.pipeline.prompts, annotator.profile_teacher.count_tokens
    frames = {"user": count(prompts.user_profile.frame), "item": count(prompts.item_profile.frame)}
    room = annotator.pipeline.settings.max_prompt_tokens
    with_text = [
        (choice, sum(1 for review in choice.reviews if review.is_written))
        for choice in annotator.choices
    ]
    sizes = [min(frames[c.subject] + PREFERENCE * n, room) for c, n in with_text if n]
    return Calls("profiles", len(sizes), 0, sum(sizes), PROFILE * len(sizes))


def _rationales(annotator: Annotator) -> Calls:
    pairs = [*annotator.train, *annotator.valid]
    count, corpus = annotator.rationale_teacher.count_tokens, annotator.corpus
    frame = count(annotator.pipeline.prompts.rationale.frame) + 2 * PROFILE
    items = {row.item for row in pairs}
    described = {item: count(render_description(corpus.description(item))) for item in items}
    limit = annotator.stages.max_prompt_tokens
    prompt = sum(min(frame + described[row.item], limit) for row in pairs)
    return Calls("rationales", len(pairs), 0, prompt, RATIONALE * len(pairs))
