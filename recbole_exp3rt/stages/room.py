"""Prompts that show lists, such as a user's history: the oldest entries go where there is no room.

Only whole entries go, from the start of a list, so that the newest stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recbole_exp3rt.llm.base import Message, text_of
from recbole_exp3rt.stages.lists import Count, Unreadable

Lists = Mapping[str, Sequence[str]]  # name of a field -> its entries, the least important first


def within(
    render: Callable[[Lists], tuple[Message, ...]], lists: Lists, budget: int, count: Count
) -> tuple[Message, ...]:
    """The messages that `render` makes of `lists`, in at most `budget` tokens, as `count` counts.

    Over the budget, the list with the most tokens loses its first entry, again and again.
    Raises: Unreadable if the messages are over the budget without any entry.
    """
    sizes = {name: [count(entry) for entry in entries] for name, entries in lists.items()}
    start = dict.fromkeys(lists, 0)  # the first entry that is kept
    while True:
        messages = render({name: entries[start[name] :] for name, entries in lists.items()})
        over = count(text_of(messages)) - budget
        if over <= 0:
            return messages
        while over > 0:
            left = {name: sum(size[start[name] :]) for name, size in sizes.items()}
            open_lists = [name for name in lists if start[name] < len(sizes[name])]
            if not open_lists:
                raise Unreadable("the prompt is over max_prompt_tokens, even without its lists")
            longest = max(open_lists, key=lambda name: left[name])
            over -= max(sizes[longest][start[longest]], 1)
            start[longest] += 1
