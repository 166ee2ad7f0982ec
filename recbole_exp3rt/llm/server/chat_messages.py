"""Messages for a server that applies the chat template itself.

A server reads the special tokens of a template wherever they stand, also inside of a review. What
looks like one, in any known template, gets a blank behind its first character, as `Chat` does for
the tokens it knows of; so nothing in a message can end its turn or begin another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from recbole_exp3rt.llm.base import Message
from recbole_exp3rt.text import without_surrogates

# <|im_end|>, <｜User｜>, <s>, </s>, <start_of_turn>, <file_sep>, <<SYS>>, [INST], [/TOOL_RESULTS],
# [|endofturn|], [gMASK], <[BOS_never_used]>.
# Prompts' own tags begin with a capital and their brackets hold no word in capitals: they stay.
_SPECIAL = re.compile(
    r"<(?=\||｜|\[|/?[a-z][a-z0-9_]*[^\S\n]*/?>|</?SYS>)|\[(?=\||/?[a-z]?[A-Z][A-Z_]{2,}\])"
    r"|(?<=\w)(?=[|｜]>)"
)


def guarded(content: str) -> str:
    """`content` in which nothing is a special token of a chat template."""
    return _SPECIAL.sub(lambda found: f"{found.group()} ", content)


def plain_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages as a server takes them."""
    return [
        {"role": message.role, "content": guarded(without_surrogates(message.content))}
        for message in messages
    ]
