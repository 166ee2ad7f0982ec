"""What a thinking model thought, apart from what it answered. Pure.

A thought is marked in the text in one of the ways that models have: `<think>…</think>` and its
kin (Qwen, DeepSeek-R1, GLM, Magistral, Kimi, Seed), or the channels of gpt-oss. A template that
opens the thought in the prompt leaves only its end in the text. What a server tells apart, as
`reasoning_content`, is kept in the same form (`with_thought`), so one text holds all that was said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OPEN, CLOSE = "<think>", "</think>"

_NAMES = r"(?:think(?:ing)?|thoughts?|reasoning|reflection|seed:think)"
_MARK = re.compile(
    rf"(?P<open><{_NAMES}>|\[THINK\]|◁think▷|<\|(?:begin_of_thought|START_THINKING)\|>)"
    rf"|</{_NAMES}>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought|END_THINKING)\|>",
    re.IGNORECASE,
)
# gpt-oss: <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…
_CHANNEL = re.compile(r"<\|channel\|>")
_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*<\|message\|>")
_SIGNS = re.compile(
    r"<\|start\|>assistant|<\|channel\|>\s*\w+[^<]*<\|message\|>|<\|(?:end|return|call)\|>"
)
_CHANNEL_END = re.compile(r"<\|(?:return|end|start|call|channel)\|>")
# The same where a server has left the special tokens out: "analysisWe need …assistantfinalIt …"
_BARE = re.compile(r"\s*analysis(?=[A-Z\"'])")
_BARE_FINAL = re.compile(r"assistant\s*final(?=\W|[A-Z])")
_WRAPS = r"(?:<{0}answer>|<\|{1}_(?:of_solution|RESPONSE)\|>)"
_WRAP = re.compile(
    rf"(?<!\s)\s*(?:{_WRAPS.format('', '(?:begin|START)')}\s*"
    rf"|{_WRAPS.format('/', '(?:end|END)')}\s*$)",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Parted:
    """A text in two: `answer` is None if the thought did not end. `start` is where the last of
    the answer begins in the text, behind every thought."""

    thought: str
    answer: str | None
    start: int


def part(text: str) -> Parted:
    """What was thought and what was answered; a text without marks is an answer."""
    if _CHANNEL.search(text) or _BARE.match(text):
        return _of_channels(text)
    thoughts: list[str] = []
    answers: list[str] = []
    inside, start = False, 0
    for mark in _MARK.finditer(text):
        piece, opens = text[start : mark.start()], mark["open"] is not None
        if inside:
            thoughts.append(piece)
            inside = opens
        elif opens:
            answers.append(piece)
            inside = True
        else:  # it was opened in the prompt: all before its end is the thought
            thoughts += [*answers, piece]
            answers = []
        start = mark.end()
    if inside:
        return Parted("".join([*thoughts, text[start:]]).strip(), None, len(text))
    if not start:
        return Parted("", text, 0)
    answer = "".join([*answers, text[start:]])
    return Parted("\n".join(thoughts).strip(), _WRAP.sub("", answer), start)


def _of_channels(text: str) -> Parted:
    finals = list((_FINAL if _CHANNEL.search(text) else _BARE_FINAL).finditer(text))
    if not finals:
        return Parted(_SIGNS.sub("", text).strip(), None, len(text))
    start = finals[-1].end()
    end = _CHANNEL_END.search(text, start)
    thought = _SIGNS.sub("", text[: finals[-1].start()]).strip()
    return Parted(thought, text[start : end.start() if end else len(text)], start)


def answering(prompt: str) -> str:
    """What follows a rendered prompt so that an answer is what comes next, where it is forced.

    The end of a thought that the prompt opens; the final channel of gpt-oss; else nothing.
    """
    if prompt.endswith("<|start|>assistant"):
        return "<|channel|>final<|message|>"
    opened = opened_by(prompt)
    return f"\n{opened[0]}/{opened[1:]}\n\n" if opened[:1] in ("<", "[") else ""


def opened_by(prompt: str) -> str:
    """The mark of the thought that a rendered prompt ends in; nothing if it ends in none."""
    last = next(reversed([*_MARK.finditer(prompt, max(0, len(prompt) - 40))]), None)
    ends = last is not None and last["open"] and not prompt[last.end() :].strip()
    return last.group() if last and ends else ""


def thinking(enabled: bool | None) -> str:
    """What a setting of `enable_thinking` adds to a model's identity: nothing where it is unset."""
    return "" if enabled is None else "+thinking" if enabled else "+unthinking"


def with_thought(thought: str, answer: str) -> str:
    """One text of both; without an answer the thought is left open."""
    if not thought.strip():
        return answer
    return f"{OPEN}\n{thought}\n{CLOSE}\n\n{answer}" if answer.strip() else f"{OPEN}\n{thought}"
