"""Lists in the forms that models write them in; what was thought, and what was not said."""

import random
import time
from contextlib import suppress

import pytest

from recbole_exp3rt.distill.annotate import quality_gate
from recbole_exp3rt.llm.base import Completion, forces_prefill
from recbole_exp3rt.llm.thoughts import part
from recbole_exp3rt.stages import rationale
from recbole_exp3rt.stages.lists import Unreadable, read_answer

# Awkward replies stay in one table; each new surprise joins it.
WHOLE = [
    ("[Like]\n- a\n\n[Dislike]\n- b", (("a",), ("b",))),
    ("Sure! These are:\n\n**Likes:**\n- a\n- **Acting**: b\n\n**Dislikes:**\n1. c\n\nEnjoy!",
     (("a", "Acting: b"), ("c",))),
    ("Like:\n* a\nDislike:\n* b", (("a",), ("b",))),
    ("## Likes\n* a\n\n## Dislikes\n* b\n\nI hope this helps!", (("a",), ("b",))),
    ("### 1. **Likes**\n- a\n### 2. **Dislikes**\n- b", (("a",), ("b",))),
    ("1. Likes:\n   - a\n2. Dislikes:\n   - b", (("a",), ("b",))),
    ("- Likes: a\n- Dislikes: b", (("a",), ("b",))),
    ("Likes: a, b\nDislikes: c", (("a, b",), ("c",))),
    ("Likes - a\nDislikes - b", (("a",), ("b",))),
    ("Likes: music. Dislikes: plot", (("music.",), ("plot",))),
    ("[Like] a [Dislike] b", (("a",), ("b",))),
    ("*Likes*\n- a\n*Dislikes*\n- b", (("a",), ("b",))),
    ("```text\n[Like]\n- a\n[Dislike]\n- b\n```", (("a",), ("b",))),
    ("> [Like]\n> - a\n> [Dislike]\n> - b", (("a",), ("b",))),
    ("LIKES\na\nb\n\nDISLIKES\nc\n\nLet me know if you need more.", (("a", "b"), ("c",))),
    ("What the user liked:\n- a\n\nWhat the user didn't like:\n- b", (("a",), ("b",))),
    ("[Like]\n- a\n\nCons:\n- b", (("a",), ("b",))),
    ("[Like]\n- a\n\nBad points:\n- b", (("a",), ())),
    ("[Like]\n- a\n\n**Summary**\n- all in all b", (("a",), ())),
    ("[Dislike]\n- a\n- Likes: b\n- **Likes**\n- c", ((), ("a", "Likes: b", "Likes", "c"))),
    ("[Dislike]\nThe user liked nothing of it\nLike a dream, it ends\nb",
     ((), ("The user liked nothing of it", "Like a dream, it ends", "b"))),
    ("[Like]\n- a\n- Dislikes: b\n- c", (("a",), ("b", "c"))),
    ("[Like]\n- a long\n  one\n[Dislike]\nNone mentioned.\nThese are all.", (("a long one",), ())),
    ("<think>\n[Like]\n- x\nHm.</think>\n\n[Like]\n- a\n[Dislike]\n- b", (("a",), ("b",))),
    ("[Like]\n- x, or rather\n</think>\n[Like]\n- a\n[Dislike]\n- b", (("a",), ("b",))),
    ("<|channel|>analysis<|message|>Likes: x<|end|><|start|>assistant<|channel|>final<|message|>"
     "Likes:\n- a\nDislikes:\n- b<|return|>", (("a",), ("b",))),
    ("analysisThe user likes: xassistantfinal[Like]\n- a\n[Dislike]\n- b", (("a",), ("b",))),
    # a heading in other words or another language is of no list
    ("[Like]\n- a\n\nWhat didn't convince\n- b", (("a",), ())),
    ("[Like]\n- a\nHowever, there are issues\n- b", (("a",), ())),
    ("[Like]\n- a\nDislikes of this user\n- b", (("a",), ())),
    ("[Like]\na\nDislikes of this user\nb", (("a",), ())),
    ("[Like]\n- a\n- As for dislikes:\n  - b", (("a",), ())),
    ("[Like]\n- a\n- On the negative side:\n- b", (("a",), ())),
    ("1. **Likes**\n - a\n2. **Nicht gemocht**\n - b", (("a",), ())),
    ("- Likes\n  - a\n- Nicht gemocht\n  - b", (("a",), ())),
    ("[Like]\n- a\n\n\u4e0d\u559c\u6b22\uff1a\n- b", (("a",), ())),
    ("[Like]\n- a\n\uff3b\uff24\uff49\uff53\uff4c\uff49\uff4b\uff45\uff3d\n- b", (("a",), ("b",))),
    ("[Like]\n- a\n[Dis\u200blike]\n- b", (("a",), ("b",))),
    ("[Like]\n- a\n👎\n- b", (("a",), ())),
    ("Likes:\n+ a\n- b", (("a",), ())),
    ("Likes:\n✓ a\n✗ b", (("a",), ())),
    ("Pros: a. Cons: b", (("a.",), ("b",))),
    ("Likes: a. Did not like: b", (("a.",), ("b",))),
    ("Likes: a, dislikes b", (("a,",), ())),
    ("Likes: a | Dislikes | b", (("a",), ())),
    ("[Like]\n- a\n- b [Dislike]", (("a",), ())),
    ("[Like]\n- None mentioned. The plot was b.\n[Dislike]\n- b", ((), ("b",))),
    ("Likes: no likes, only dislikes: b", ((), ("b",))),
    ("[Dislike]\n- b\nWhat worked\n- a", ((), ("b",))),
    # and these are not one
    ("[Like]\n- a long\none\n- Not dull\n- No, it isn't: b\n- Plot:\n  - c",
     (("a long", "Not dull", "No, it isn't: b", "Plot:", "c"), ())),
    ("**Likes:**\n1. a\n   - b\n2. c", (("a", "b", "c"), ())),
    ("Likes (2):\n-----\na\nb", (("a", "b"), ())),
]  # fmt: skip
NONE = [
    "",
    "I'm sorry, but I can't help with that.",
    "The user likes the music and dislikes the plot.",
    "Here is what I found:\n- music\n- plot",
    "Likes and dislikes:\n- music\n- plot",
    "[Like]\nI'm sorry, I cannot help with that.",
    "<think>\n[Like]\n- music\n[Dislike]\n- plot",
    "<|channel|>analysis<|message|>[Like]\n- music",
    '{"likes": ["music"], "dislikes": ["plot"]}',
]


@pytest.mark.parametrize(("text", "lists"), WHOLE)
def test_lists_are_read_from_the_first_heading_on(text, lists):
    assert read_answer(text, forced=False) == lists


@pytest.mark.parametrize("text", NONE)
def test_what_has_no_heading_or_no_answer_is_unreadable(text):
    with pytest.raises(Unreadable):
        read_answer(text, forced=False)


def test_the_opening_is_read_only_where_it_was_forced():
    assert read_answer(" a\n- b\n\n[Dislike]\n- c", forced=True) == (("a", "b"), ("c",))
    assert read_answer(" a\nb\n\n[Dislike]\n- c", forced=True) == (("a", "b"), ("c",))
    thought = " x</think>\n[Like]\n- a\n[Dislike]\n- b"  # it was forced inside of the thought
    assert read_answer(thought, forced=True) == (("a",), ("b",))
    with pytest.raises(Unreadable, match="refusal"):
        read_answer(" I'm sorry, I cannot do that.", forced=True)
    assert forces_prefill("smollm2@1+float32") and forces_prefill("openai:m@1+exact")
    assert not forces_prefill("openai:m@1+top") and not forces_prefill("openai:m@1+parsed")


def test_answers_that_an_earlier_version_stored_without_their_opening_are_read():
    assert read_answer(" a\n- b\n\n[Dislike]\n- c", forced=False) == (("a", "b"), ("c",))
    assert read_answer(" Sure!\n[Like]\n- a\n[Dislike]\n- c", forced=False) == (("a",), ("c",))
    with pytest.raises(Unreadable):
        read_answer(" I'd rather not.", forced=False)


def test_a_teachers_chat_answer_needs_a_heading_of_its_own():
    bold = Completion("**Likes:**\n- a\n\n**Dislikes:**\n- b")
    assert quality_gate.reject_preferences(bold, forced=False) is None
    assert (
        quality_gate.reject_preferences(Completion("Music.\n- a"), forced=False)
        == quality_gate.NO_LISTS
    )
    cut = Completion("<think>\nThe user likes", finish="length")
    assert quality_gate.reject_preferences(cut, forced=False) == quality_gate.CUT


WORDS = "slow pace,lush music,a lost dog,loud jokes,an open end,likable leads,the 1990s,3D,n'thing"
NAMES = [
    ("[Like]", "[Dislike]"), ("[LIKES]:", "[DISLIKES]:"), ("**Likes:**", "**Dislikes:**"),
    ("**Likes**", "**Dislikes**"), ("## Likes", "## Dislikes"), ("Like:", "Dislike:"),
    ("Likes", "Dislikes"), ("__Like__:", "__Dislike__:"), ("# [Like]", "# [Dislike]"),
    ("**What the user liked**", "**What the user did not like**"), ("Pros:", "Cons:"),
    ("1. Likes:", "2. Dislikes:"), ("- **Likes:**", "- **Dislikes:**"),
    ("👍 Likes:", "👎 Dislikes:"),
]  # fmt: skip
MARKS = ["- ", "* ", "• ", "  - ", "1. ", "2) ", "– ", "-", "+ "]
PLAIN = ["{}", "**{}**", "*{}*", "`{}`", "__{}__"]
BEFORE = [
    "", "Sure! Here you go.\n\n", "Based on the review, I like to say:\n", "I'm happy to help\n",
    "<think>\nLikes: poison\n[Dislike]\n- poison\n</think>\n\n", "[Like]\npoison</think>\n",
]  # fmt: skip
AFTER = ["", "\n\nI hope this helps! Likes may differ.", "\n\nNote: poison.", "\n\nLet me know."]


def shape(random_: random.Random) -> tuple[str, list[str], list[str]]:
    """An answer in one of the forms, and what it lists."""
    names, mark = random_.choice(NAMES), random_.choice(MARKS)
    words = random_.sample(WORDS.split(","), random_.randint(0, 6))
    likes, dislikes = words[: len(words) // 2], words[len(words) // 2 :]
    gap, plain = random_.choice(["\n", "\n\n"]), random_.choice(PLAIN)
    parts = []
    for name, side in zip(names, (likes, dislikes), strict=True):
        none = random_.choice(["None.", f"{mark}None", "None mentioned.", "N/A"])
        listed = "\n".join(mark + plain.format(word) for word in side) or none
        parts.append(f"{name}{gap}{listed}")
    if random_.random() < 0.3:
        parts.reverse()
    body = random_.choice(["\n", "\n\n", "\n\n---\n\n"]).join(parts)
    if random_.random() < 0.2:
        body = f"```\n{body}\n```"
    return random_.choice(BEFORE) + body + random_.choice(AFTER), likes, dislikes


def test_of_2000_shapes_each_gives_exactly_its_lists():
    drawn = random.Random(2026)
    for _ in range(2000):
        text, likes, dislikes = shape(drawn)
        assert read_answer(text, forced=False) == (tuple(likes), tuple(dislikes)), text


def test_of_2000_broken_shapes_none_makes_a_dislike_a_like():
    drawn = random.Random(7)
    readable = 0
    for _ in range(2000):
        text, likes, dislikes = shape(drawn)
        lines = text.split("\n")
        for _ in range(drawn.randint(1, 3)):  # what is said under a heading stays under it
            kind, at = drawn.randrange(4), drawn.randrange(len(lines))
            if kind == 0:
                lines.insert(at, drawn.choice(["", "```", "***", "So:", "- ", "> ", "|"]))
            elif kind == 1:
                lines[at] = f"  {lines[at]}  "
            elif kind == 2:
                lines[at] = lines[at].upper()
            elif any(word.lower() in lines[at].lower() for word in [*likes, *dislikes]):
                lines[at] += drawn.choice([" likes: it", " (likes)", ".", " [sic]", " - like that"])
        broken = "\n".join(lines)
        try:
            found, _ = read_answer(broken, forced=False)
        except Unreadable:
            continue
        readable += 1
        said = " ".join(found).lower()
        assert not any(word.lower() in said for word in dislikes), broken
    assert readable > 1000


OTHER_NAMES = [
    "What didn't work", "The bad", "Dislkes", "Not so good", "Step 2: Dislikes", "V. Dislikes",
    "Gefällt nicht", "Je n'aime pas", "Не нравится", "嫌い", "{{Dislike}}", "<Dislikes>",
    "Turning to what they disliked in it", "2. **Minus**", "* Issues and problems:", "❌ Bad", "👎",
]  # fmt: skip


def test_of_2000_answers_none_takes_a_list_under_an_unknown_heading_for_likes():
    drawn = random.Random(13)
    for _ in range(2000):
        liked, disliked = drawn.choice(NAMES)[0], drawn.choice(OTHER_NAMES)
        words = drawn.sample(WORDS.split(","), 4)
        mark, gap = drawn.choice(["- ", "  - ", "* "]), drawn.choice(["\n", "\n\n"])
        lists = ["\n".join(mark + word for word in side) for side in (words[:2], words[2:])]
        name = drawn.choice([disliked, f"**{disliked}**", f"{disliked}:", f"## {disliked}"])
        if mark.startswith(" ") and drawn.random() < 0.5:
            name = f"- {disliked}"
        text = f"{liked}{gap}{lists[0]}{gap}{name}{gap}{lists[1]}"
        likes, dislikes = read_answer(text, forced=False)
        assert likes == tuple(words[:2]), text
        assert set(dislikes) <= set(words[2:]), text


@pytest.mark.parametrize(
    ("read", "piece"),
    [
        (lambda text: read_answer(text, forced=True), "["),
        (lambda text: read_answer(f"[Like]\n{text}", forced=False), " "),
        (lambda text: part(f"x</think>a{text}b"), " "),
        (rationale.parse, "*"),
    ],
)
def test_a_long_answer_is_read_in_linear_time(read, piece):
    start = time.process_time()
    with suppress(Unreadable):
        read(piece * 80_000)
    assert time.process_time() - start < 2
