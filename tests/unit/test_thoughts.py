"""Thinking models: the thought is no part of the answer, and no rating is read out of one."""

import json
import math
from types import SimpleNamespace

import pytest

from recbole_exp3rt.llm.base import Completion, Message, Readout, Request
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.llm.server.chat_route import ChatRoute, message_text
from recbole_exp3rt.llm.server.endpoint import Empty
from recbole_exp3rt.llm.server.written_labels import find_label
from recbole_exp3rt.llm.thoughts import answering, opened_by, part
from recbole_exp3rt.records import Description, Profile
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages import rating, rationale
from recbole_exp3rt.stages.counts import unreadable_reason
from recbole_exp3rt.stages.lists import Unreadable

FIVE = RatingScale.between(1, 5)
READOUT = Readout("\nPredicted User Rating: ", FIVE.labels)
ASK = Request((Message("user", "?"),), 40, prefill="Reasoning:", readout=READOUT)
PAIR = rating.Pair(Profile("user", "u"), Profile("item", "i"), Description("i", ()))
HARMONY = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>"

# text, thought, answer
PARTS = [
    ("It suits.", "", "It suits."),
    ("<think>\nHm.\n</think>\n\nIt suits.", "Hm.", "\n\nIt suits."),
    ("Hm.\n</think>\nIt suits.", "Hm.", "\nIt suits."),
    ("[THINK]Hm.[/THINK]It suits.", "Hm.", "It suits."),
    ("<think>a</think>It <think>b</think>suits.", "a\nb", "It suits."),
    ("<think>Hm.", "Hm.", None),
    ("<think>Hm.</think><think>But", "Hm.But", None),
    (f"{HARMONY}It suits.<|return|>", "Hm.", "It suits."),
    ("<|channel|>analysis<|message|>Hm.", "Hm.", None),
    ("analysisHm.assistantfinalIt suits.", "analysisHm.", "It suits."),
    ("<think></think><answer>It suits.</answer>", "", "It suits."),
    ("An analysis of thinking: 3 < 4.", "", "An analysis of thinking: 3 < 4."),
]


@pytest.mark.parametrize(("text", "thought", "answer"), PARTS)
def test_a_thought_is_parted_from_its_answer(text, thought, answer):
    found = part(text)
    assert found.answer == answer
    assert found.thought == thought


RATED = "Reasoning: fine.\nPredicted User Rating: 4"
SAID = [  # content, reasoning_content, label
    (RATED, None, "4"),
    (f"<think>Predicted User Rating: 1</think>{RATED}", None, "4"),
    (f"Predicted User Rating: 1\n</think>\n{RATED}", None, "4"),
    (RATED, "Predicted User Rating: 1", "4"),
    (f"{HARMONY.replace('Hm.', 'Predicted User Rating: 1')}{RATED}<|return|>", None, "4"),
    ("<think>Predicted User Rating: 1", None, None),
    ("<think>Predicted User Rating: 1</think>", None, None),
    ("", "Predicted User Rating: 1", None),
    (None, "Predicted User Rating: 1", None),
]


def read(content, thought, finish="stop", readout="parsed", request=ASK, key="reasoning_content"):
    server = SimpleNamespace(template={}, refused=set())
    message = {"role": "assistant", "content": content, key: thought}
    body = {"choices": [{"message": message, "finish_reason": finish}], "usage": {}}
    return ChatRoute(server, "m", readout).read(json.loads(json.dumps(body)), request)


@pytest.mark.parametrize(("content", "thought", "label"), SAID)
@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_a_rating_is_never_read_out_of_a_thought(content, thought, label, key):
    said = read(content, thought, finish="length", key=key)
    if label is None:
        assert said.label_logp is None
        with pytest.raises(Unreadable) as error:
            rating.parse(said, PAIR, FIVE)
        told = unreadable_reason("rating", said, str(error.value))
        assert "cut off, raise max_new_tokens" in told and "enable_thinking=False" in told
        return
    prediction = rating.parse(said, PAIR, FIVE)
    assert prediction.modal == 4 and prediction.rationale == "fine."


def test_nothing_said_and_not_cut_is_asked_again():
    for content, thought in (("", None), ("", "Hm."), ("<think>Hm.</think>", None)):
        with pytest.raises(Empty, match=r"is empty$"):
            read(content, thought)
    with pytest.raises(Empty, match="cut off, raise max_new_tokens"):
        read("", None, finish="length")


def test_a_thought_in_parts_is_told_apart():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
             {"type": "text", "text": "It suits."}]  # fmt: skip
    assert part(message_text({"content": parts})).answer.strip() == "It suits."


def test_a_stored_rating_that_was_scored_inside_of_a_thought_is_unreadable():
    logp = tuple(map(math.log, (0.1, 0.1, 0.1, 0.1, 0.6)))
    with pytest.raises(Unreadable, match="thought"):
        rating.parse(Completion("<think>Hm.", label_logp=logp), PAIR, FIVE)
    found = rating.parse(Completion(" Hm.</think>\nIt suits.", label_logp=logp), PAIR, FIVE)
    assert found.rationale == "It suits."
    assert find_label("<think>7</think>\n\n**3**", READOUT, alone=True).label == "3"
    assert find_label("<think>\n3", READOUT, alone=True) is None


def test_a_teachers_thought_is_no_rationale():
    said = "<think>Recommended: no</think>It suits.\nRecommended: yes"
    assert rationale.parse(said) == rationale.Rationale("It suits.", True)
    with pytest.raises(Unreadable, match="thought"):
        rationale.parse("<think>It suits.\nRecommended: yes")


class Tokenizer:
    """Characters as tokens, and a template that opens a thought unless it is told not to."""

    chat_template = "there is one"
    eos_token_id = 0

    def __init__(self, end):
        self.added_tokens_decoder = {}
        self.end = end

    def __call__(self, text, add_special_tokens):
        return SimpleNamespace(input_ids=[ord(c) for c in text])

    def convert_ids_to_tokens(self, ids):
        return [chr(i) for i in ids]

    def apply_chat_template(self, messages, tokenize, add_generation_prompt, enable_thinking=True):
        text = "".join(f"<{m['role']}>{m['content']}" for m in messages)
        return text + (self.end if enable_thinking else "<assistant>")


def test_what_is_forced_stands_behind_a_thought_that_the_template_opens():
    chat = Chat(Tokenizer("<assistant><think>\n"), None, "r1")
    asked = (Message("user", "?"),)

    def prompt(**options):
        return "".join(map(chr, chat.prompt(Request(asked, **options))))

    assert prompt(prefill="[Like]").endswith("<think>\n\n</think>\n\n[Like]")
    assert prompt(max_new_tokens=0).endswith("</think>\n\n")
    assert prompt().endswith("<think>\n") and chat.opened == "<think>"
    chat = Chat(Tokenizer("<assistant><think>\n"), None, "r1", enable_thinking=False)
    assert prompt(prefill="[Like]") == "<user>?<assistant>[Like]" and not chat.opened
    assert answering("<|start|>assistant") == "<|channel|>final<|message|>"
    assert answering("<|im_start|>assistant\n") == opened_by("say <think>, then wait") == ""


def test_thinking_is_switched_off_only_where_it_is_asked_for():
    server = SimpleNamespace(template={}, refused=set())
    route = ChatRoute(server, "m", "parsed")
    assert "chat_template_kwargs" not in route.question(ASK)
    server.template = {"chat_template_kwargs": {"enable_thinking": False}}
    assert route.question(ASK)["chat_template_kwargs"] == {"enable_thinking": False}
    assert route.learns("Unrecognized argument: chat_template_kwargs", route.question(ASK))
    assert "chat_template_kwargs" not in route.question(ASK)
