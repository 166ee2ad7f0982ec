"""Step 2: a profile from preferences (paper, section 3.3, Tables 9 and 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recbole_exp3rt.llm.base import Request, text_of
from recbole_exp3rt.prompts import Prompt
from recbole_exp3rt.records import Preference, Profile, Subject
from recbole_exp3rt.stages.lists import (
    OPENING,
    Count,
    Unreadable,
    keep_within,
    read_answer,
    render_lists,
)

SEPARATOR = "\n---\n"


def request(
    preferences: Sequence[Preference],
    prompt: Prompt,
    *,
    item_word: str,
    max_prompt_tokens: int,
    max_new_tokens: int,
    count: Count,
) -> Request:
    """Ask for the profile of one user or item, from preferences in order of time.

    Over the budget, the oldest preferences go first; the newest one then loses its last bullets.
    All budgets are in tokens, as `count` counts them.
    Raises: Unreadable if not one bullet fits.
    """
    room = max_prompt_tokens - count(text_of(prompt.render(item_word=item_word, preferences="")))

    def cost(p: Preference) -> int:
        return count(SEPARATOR + render_lists(p.likes, p.dislikes))

    kept = keep_within(preferences, cost, room)
    if len(kept) == 1:
        while cost(kept[0]) > room:
            kept = [_without_last(kept[0])]
    blocks = SEPARATOR.join(render_lists(p.likes, p.dislikes) for p in kept)
    messages = prompt.render(item_word=item_word, preferences=blocks)
    return Request(messages, max_new_tokens=max_new_tokens, prefill=OPENING)


def _without_last(p: Preference) -> Preference:
    if len(p.likes) + len(p.dislikes) <= 1:
        raise Unreadable("not one bullet of the preferences fits into max_prompt_tokens")
    if len(p.dislikes) >= len(p.likes):
        return replace(p, dislikes=p.dislikes[:-1])
    return replace(p, likes=p.likes[:-1])


def parse(text: str, subject: Subject, key: str, *, forced: bool = True) -> Profile:
    """The profile that an answer lists; for `forced` see `read_answer`.

    Raises: Unreadable.
    """
    likes, dislikes = read_answer(text, forced=forced)
    return Profile(subject, key, likes, dislikes)
