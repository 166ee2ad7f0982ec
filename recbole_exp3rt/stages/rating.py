"""Step 3: reasoning and rating of a user-item pair (paper, sections 3.4, 3.5.2 and 3.5.3)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from recbole_exp3rt.llm.base import Completion, Message, Readout, Request, text_of
from recbole_exp3rt.prompts import Prompts
from recbole_exp3rt.records import Description, Profile, RatingPrediction
from recbole_exp3rt.scale import (
    RatingScale,
    expected_rating,
    label_probabilities,
    modal_rating,
)
from recbole_exp3rt.stages.headings import answer_of
from recbole_exp3rt.stages.lists import Count, Unreadable, render_lists, shorten
from recbole_exp3rt.stages.untrusted import harmless

REASONING = "Reasoning:"
CUE = "Predicted User Rating:"
_LABEL = re.compile(r"^\W*reasoning\W*:[\s*_]*", re.I)
BIAS_HINT = " Take the average ratings into account."
BASELINE_HINT = (
    " The baseline rating is what past ratings suggest; move away from it where the texts say so."
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Everything that the prompt shows about a user and an item. Averages are in rating units.

    `baseline` is the rating that Bias predicts, in rating units.
    """

    user: Profile
    item: Profile
    description: Description
    user_average: float | None = None
    item_average: float | None = None
    baseline: float | None = None


def render_profile(profile: Profile, average: float | None, scale: RatingScale) -> str:
    """A profile as the rating prompt shows it, with the average rating if it is not None."""
    text = render_lists(profile.likes, profile.dislikes)
    if average is None:
        return text
    return f"{text}\n\n[{profile.subject.title()} Average Rating]\n{scale.show_average(average)}"


def render_description(description: Description) -> str:
    """An item description as prompts show it: one `label: value` on each line."""
    return "\n".join(f"{label}: {harmless(value)}" for label, value in description.lines)


def messages(
    pair: Pair, prompts: Prompts, scale: RatingScale, *, item_word: str, use_reasoning: bool
) -> tuple[Message, ...]:
    """The messages of the rating prompt, or of the direct one without reasoning."""
    prompt = prompts.rating if use_reasoning else prompts.rating_direct
    biased = pair.user_average is not None or pair.item_average is not None
    hint = BASELINE_HINT if pair.baseline is not None else BIAS_HINT if biased else ""
    of_item = render_profile(pair.item, pair.item_average, scale)
    if pair.baseline is not None:
        of_item += f"\n\n[Baseline Rating]\n{scale.show_average(pair.baseline)}"
    return prompt.render(
        item_word=item_word,
        number="integer" if scale.step == 1 else f"number in steps of {scale.step:g}",
        lowest=scale.labels[0],
        highest=scale.labels[-1],
        bias_hint=hint,
        user_profile=render_profile(pair.user, pair.user_average, scale),
        item_description=render_description(pair.description),
        item_profile=of_item,
    )


def request(
    pair: Pair,
    prompts: Prompts,
    scale: RatingScale,
    *,
    item_word: str,
    use_reasoning: bool,
    max_prompt_tokens: int,
    max_new_tokens: int,
    count: Count,
) -> Request:
    """Ask for reasoning and then, after the forced cue, for the probability of every label.

    Without reasoning no token is generated: the answer begins with the cue. Over the budget,
    bullets and sentences go, see `trimmed`. All budgets are in tokens, as `count` counts them.
    Raises: Unreadable if the instructions alone are over the budget.
    """

    def rendered(candidate: Pair) -> tuple[Message, ...]:
        return messages(candidate, prompts, scale, item_word=item_word, use_reasoning=use_reasoning)

    asked = rendered(pair)
    while (over := count(text_of(asked)) - max_prompt_tokens) > 0:
        pair = trimmed(pair, over, count)
        asked = rendered(pair)
    return rating_request(asked, scale, max_new_tokens if use_reasoning else 0)


def rating_request(asked: tuple[Message, ...], scale: RatingScale, max_new_tokens: int) -> Request:
    """Ask for the probability of every label after the forced cue.

    Before it come at most `max_new_tokens` tokens of reasoning; with 0, none.
    """
    if not max_new_tokens:
        return Request(asked, max_new_tokens=0, readout=Readout(f"{CUE} ", scale.labels))
    return Request(
        asked,
        max_new_tokens=max_new_tokens,
        prefill=REASONING,
        stop=(CUE,),
        readout=Readout(f"\n{CUE} ", scale.labels),
    )


def trimmed(pair: Pair, over: int, count: Count) -> Pair:
    """`pair` without the last bullet of its longest list.

    If no list has more than one bullet, the longest line of the description is shortened by
    `over` tokens. The last bullet goes because profiles name the most important points first.
    Raises: Unreadable if nothing is left to remove.
    """
    longest = max(
        len(side)
        for profile in (pair.user, pair.item)
        for side in (profile.likes, profile.dislikes)
    )
    if longest > 1:
        user = _without_last(pair.user, longest)
        item = pair.item if user is not pair.user else _without_last(pair.item, longest)
        return replace(pair, user=user, item=item)
    lines = list(pair.description.lines)
    sizes = [count(value) for _, value in lines]
    if not sizes or max(sizes) == 0:
        raise Unreadable("the rating prompt is over max_prompt_tokens, even without its contents")
    k = sizes.index(max(sizes))
    label, value = lines[k]
    shorter = shorten(value, max(sizes[k] - over, 0), count)
    lines[k] = (label, shorter if count(shorter) < sizes[k] else "")
    return replace(pair, description=replace(pair.description, lines=tuple(lines)))


def _without_last(profile: Profile, size: int) -> Profile:
    """The profile without the last bullet of a list of `size` bullets, if it has such a list."""
    if len(profile.dislikes) == size:
        return replace(profile, dislikes=profile.dislikes[:-1])
    if len(profile.likes) == size:
        return replace(profile, likes=profile.likes[:-1])
    return profile


def parse(completion: Completion, pair: Pair, scale: RatingScale) -> RatingPrediction:
    """The prediction in an answer about a pair. Raises: Unreadable, see `prediction_of`."""
    return prediction_of(completion, pair.user.key, pair.item.key, scale)


def prediction_of(
    completion: Completion, user: str, item: str, scale: RatingScale
) -> RatingPrediction:
    """The prediction in an answer: expected rating over all labels (equation 2) and rationale.

    Raises: Unreadable if no label was scored, or a log-probability is not a number.
    """
    answer = answer_of(completion.text)
    if completion.label_logp is None:
        raise Unreadable(
            f"no '{CUE} ' with one of {scale.labels[0]}–{scale.labels[-1]} in the answer"
        )
    if not math.isfinite(max(completion.label_logp)) or any(map(math.isnan, completion.label_logp)):
        raise Unreadable("the model's label probabilities are not numbers")
    logp = dict(zip(scale.labels, completion.label_logp, strict=True))
    rationale = re.sub(r"\s+", " ", answer).strip()
    return RatingPrediction(
        user=user,
        item=item,
        rationale=_LABEL.sub("", rationale).strip(),
        expected=expected_rating(logp, scale),
        modal=modal_rating(logp, scale),
        probabilities=label_probabilities(logp, scale),
        prompt_tokens=completion.prompt_tokens,
        new_tokens=completion.new_tokens,
    )
