"""Step 1: the likes and dislikes of one review (paper, section 3.2, Table 8)."""

from __future__ import annotations

from recbole_exp3rt.llm.base import Request, text_of
from recbole_exp3rt.prompts import Prompt
from recbole_exp3rt.records import Preference, Review
from recbole_exp3rt.stages.lists import OPENING, Count, Unreadable, read_answer, shorten
from recbole_exp3rt.stages.untrusted import harmless


def request(
    review: Review,
    prompt: Prompt,
    *,
    item_word: str,
    max_prompt_tokens: int,
    max_new_tokens: int,
    max_review_tokens: int | None,
    count: Count,
) -> Request:
    """Ask for the preferences of `review`; from a review over the budget inner sentences go.

    All budgets are in tokens, as `count` counts them.
    Raises: Unreadable if not one word of the review fits.
    """
    text = harmless(f"{review.title}\n{review.text}".strip())
    frame = count(text_of(prompt.render(item_word=item_word, review="")))
    room = min(max_prompt_tokens - frame, max_review_tokens or max_prompt_tokens)
    whole, text = text, shorten(text, room, count)
    if whole and not text:
        raise Unreadable("not one word of the review fits into max_prompt_tokens")
    messages = prompt.render(item_word=item_word, review=text)
    return Request(messages, max_new_tokens=max_new_tokens, prefill=OPENING)


def parse(text: str, review: Review, *, forced: bool = True) -> Preference:
    """The preference that an answer lists; for `forced` see `read_answer`.

    Raises: Unreadable.
    """
    likes, dislikes = read_answer(text, forced=forced)
    return Preference(review.user, review.item, likes, dislikes)
