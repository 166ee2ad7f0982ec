"""Step 2: profiles out of preferences (paper, section 3.3, Tables 9 and 10)."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_exp3rt.llm.base import Request, text_of
from recbole_exp3rt.prompts import Prompt
from recbole_exp3rt.records import Preference, Profile, Subject
from recbole_exp3rt.stages.lists import OPENING, Count, keep_within, parse_lists, render_lists

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
    """Ask for the profile of one user or item; the oldest preferences go where room is short."""
    frame = count(text_of(prompt.render(item_word=item_word, preferences="")))
    blocks = [render_lists(p.likes, p.dislikes) for p in preferences]
    kept = keep_within(blocks, lambda block: count(SEPARATOR + block), max_prompt_tokens - frame)
    messages = prompt.render(item_word=item_word, preferences=SEPARATOR.join(kept))
    return Request(messages, max_new_tokens=max_new_tokens, prefill=OPENING)


def parse(text: str, subject: Subject, key: str) -> Profile:
    """The answer goes on where its opening ends. Raises: Unreadable."""
    likes, dislikes = parse_lists(OPENING + text)
    return Profile(subject, key, likes, dislikes)
