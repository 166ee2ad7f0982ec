"""What a student is trained on is what it reads and writes at inference, token by token."""

import sys
from pathlib import Path

import pytest
import students
import torch
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
import llama3

from recbole_exp3rt.distill.train.encode import IGNORED, check_labels, encode
from recbole_exp3rt.distill.train.packing import before_ends
from recbole_exp3rt.llm.base import LLMError, Message, Readout, Request
from recbole_exp3rt.llm.label_tokens import kept_tokens, label_tokens
from recbole_exp3rt.llm.local.batching import Task
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.llm.local.generation import Generation
from recbole_exp3rt.llm.local.smollm2 import smollm2_folder
from recbole_exp3rt.stages.lists import OPENING

LABELS = tuple("0123456789")
DIRECT = "Predicted User Rating: 7"
REASONED = "Reasoning: The rain suits. Nothing else does.\nPredicted User Rating: 7"


@pytest.fixture(scope="module", params=["smollm2", "llama3"])
def chat(request):
    if request.param == "llama3":
        return Chat(llama3.tokenizer(), None, "llama3")
    return Chat(AutoTokenizer.from_pretrained(smollm2_folder()), None, "smollm2")


def inference(chat, request, written):
    """Tokens that the model has read where it rates, after it wrote `written`; label -> tokens."""
    generation = Generation(Task(0, request, chat.prompt(request)), chat)
    for token in written:
        if not generation.finish:
            generation.add(token)
    kept, tail = kept_tokens(generation.decode, generation.tokens, generation.text.rstrip())
    found = label_tokens(chat.encode, tail, request.readout, chat.end_of_turn)
    read = (*generation.task.prompt, *generation.tokens[:kept], *found.context)
    return read, dict(zip(request.readout.labels, found.labels, strict=True))


@pytest.mark.parametrize("answer", [REASONED, "Reasoning: None.\nPredicted User Rating: 0"])
def test_a_rationale_and_its_rating_are_read_as_at_inference(chat, answer):
    messages = students.rating_messages(1)
    made = encode(chat, messages, answer, 1200)
    request = Request(
        messages,
        max_new_tokens=200,
        prefill="Reasoning:",
        stop=("Predicted User Rating:",),
        readout=Readout("\nPredicted User Rating: ", LABELS),
    )
    prompt = chat.prompt(request)
    assert made.ids[: len(prompt)] == prompt
    # the student writes what it was taught, and is then asked for the labels
    read, labels = inference(chat, request, made.ids[len(prompt) :])
    assert made.ids == (*read, *labels[answer[-1]], chat.end_of_turn)
    assert made.labels[len(read) :] == made.ids[len(read) :]  # label and end are in the loss


def test_a_rating_alone_is_read_as_at_inference(chat):
    messages = students.rating_messages(1)
    made = encode(chat, messages, DIRECT, 1200)
    request = Request(
        messages, max_new_tokens=0, readout=Readout("Predicted User Rating: ", LABELS)
    )
    read, labels = inference(chat, request, ())
    assert made.ids == (*read, *labels["7"], chat.end_of_turn)


@pytest.mark.parametrize(
    "answer",
    [
        "[Like]\n- rain\n- slow music\n\n[Dislike]\nNone.",
        "[Like]\nNone.\n\n[Dislike]\n- noise",  # inference has opened a bullet by then
    ],
)
def test_lists_go_on_where_the_opening_ends(chat, answer):
    messages = (Message("user", "What does the user like?"),)
    made = encode(chat, messages, answer, 1200)
    prompt = chat.prompt(Request(messages, prefill=OPENING))
    assert made.ids[: len(prompt)] == prompt
    said = chat.decode(made.ids[len(prompt) : -1])
    assert OPENING + said == answer.replace("[Like]\nNone", "[Like]\n- None")


@pytest.mark.parametrize("answer", [REASONED, DIRECT, students.LISTS])
def test_loss_is_on_the_answer_alone(chat, answer):
    made = encode(chat, students.rating_messages(1), answer, 1200)
    said = [token for token in made.labels if token != IGNORED]
    assert said[-1] == chat.end_of_turn
    assert chat.decode(said[:-1]) == answer
    if chat.tokenizer.bos_token == "<|begin_of_text|>":
        assert made.ids.count(chat.tokenizer.bos_token_id) == 1


def test_what_is_too_long_loses_bullets_then_inner_sentences_never_its_end(chat):
    plot = " ".join(f"Then scene {n} comes, with rain." for n in range(60))
    messages = students.rating_messages(1, plot=plot, bullets=20)
    whole = encode(chat, messages, REASONED, 4000)
    made = encode(chat, messages, REASONED, 400)
    assert not whole.shortened and made.shortened
    assert len(made.ids) <= 400 < len(whole.ids)
    said = chat.decode(made.ids[:-1])
    assert said.endswith(REASONED)
    assert "- taste 1 and 0\n" in said and "taste 1 and 9" not in said
    assert "Then scene 0" in said and "scene 59" in said and "[…]" in said
    assert made.labels[-2:] == made.ids[-2:]


def test_the_oldest_of_several_preferences_goes_first(chat):
    blocks = "\n---\n".join(f"[Like]\n- number {n}\n\n[Dislike]\nNone." for n in range(30))
    asked = (Message("user", f"Sum up:\n<Preferences>\n{blocks}\n</Preferences>"),)
    made = encode(chat, asked, students.LISTS, 250)
    said = chat.decode(made.ids)
    assert "<Preferences>\n[Like]\n- number" in said and "number 29" in said
    assert "number 0\n" not in said and said.count("---") > 3


def test_an_answer_that_cannot_fit_is_left_out(chat):
    assert encode(chat, (Message("user", "?"),), "word " * 200, 100) is None


def test_labels_that_are_the_same_tokens_are_refused(chat):
    assert check_labels(chat, [REASONED, DIRECT, students.LISTS]) == ("7",)
    assert check_labels(chat, [DIRECT, "Predicted User Rating: 10"]) == ("10", "7")

    class Blind(Chat):  # a tokenizer without digits
        def encode(self, text):
            return super().encode("".join("?" if c.isdigit() else c for c in text))

    blind = Blind(chat.tokenizer, None, "blind")
    with pytest.raises(LLMError, match="'3' and '7' are the same tokens"):
        check_labels(blind, [DIRECT, "Predicted User Rating: 3"])


@pytest.mark.parametrize("label", ["7", "4.5", "-10.5"])
def test_all_tokens_of_a_label_are_its_rating_and_none_before_it(chat, label):
    made = encode(chat, students.rating_messages(1), REASONED[:-1] + label, 1200)
    assert chat.decode(made.ids[-1 - made.rated : -1]).strip() == label
    ids = torch.tensor([made.labels, made.labels])
    rating = torch.isin(ids, ids[0, -1 - made.rated : -1])
    for most in (made.rated, made.rated + 3):
        found = before_ends(rating, ids == chat.end_of_turn, most)
        assert found.sum(dim=1).tolist() == [made.rated] * 2
        assert found[:, -1 - made.rated : -1].all()
