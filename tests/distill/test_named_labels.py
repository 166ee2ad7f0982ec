"""Labels that an example names: their place comes from the encoder, for any tokenizer."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from recbole_exp3rt.distill.annotate.examples import (
    Example,
    digest_of,
    read_examples,
    write_examples,
)
from recbole_exp3rt.distill.train.encode import IGNORED, check_named_labels, encode
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError, Message, Readout, Request
from recbole_exp3rt.llm.label_tokens import label_tokens
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.llm.local.smollm2 import smollm2_folder

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
READOUT = Readout("Answer: ", ("Yes", "No"))


def two_pieces():
    """Bytes, and ` Ye` as the only longer token: ` Yes` is ` Ye` and `s`, ` No` three bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: k for k, token in enumerate([*alphabet, "ĠY", "ĠYe"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "Y"), ("ĠY", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "</s>")])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


@pytest.fixture(scope="module", params=["smollm2", "two pieces"])
def chat(request):
    if request.param == "smollm2":
        return Chat(AutoTokenizer.from_pretrained(smollm2_folder()), None, "smollm2")
    return Chat(two_pieces(), None, "two pieces")


def question(*titles):
    listed = "\n".join(f"- {title}" for title in titles)
    return (Message("user", f"Liked:\n{listed}\n\nNext:\nYes\n\nWill the user like No?"),)


def test_yes_is_two_pieces_here():
    chat = Chat(two_pieces(), None, "two pieces")
    found = label_tokens(chat.encode, "", READOUT, chat.end_of_turn)
    assert [chat.decode([t]) for t in found.labels[0]] == [" Ye", "s"]
    assert chat.decode(found.labels[1]) == " No"


@pytest.mark.parametrize("label", ["Yes", "No"])
@pytest.mark.parametrize("titles", [("Yes Man", "No Country for Old Men"), ("No", "Yes", "No")])
def test_the_label_stands_where_inference_scores_it_whatever_the_titles_say(chat, titles, label):
    made = encode(chat, question(*titles), f"Answer: {label}", 1000, label)
    prompt = chat.prompt(Request(question(*titles), max_new_tokens=0))
    found = label_tokens(chat.encode, "", READOUT, chat.end_of_turn)
    ids = dict(zip(READOUT.labels, found.labels, strict=True))[label]
    assert made.ids == (*prompt, *found.context, *ids, chat.end_of_turn)
    assert chat.decode(made.ids[-1 - made.rated : -1]).strip() == label
    assert made.labels[: len(prompt)] == (IGNORED,) * len(prompt)
    assert made.labels[len(prompt) :] == made.ids[len(prompt) :]


def test_a_long_history_loses_its_first_entries_and_never_the_label(chat):
    titles = [f"Film {k}, a story" for k in range(40)]
    whole = encode(chat, question(*titles), "Answer: No", 10_000, "No")
    made = encode(chat, question(*titles), "Answer: No", len(whole.ids) // 2, "No")
    said = chat.decode(made.ids)
    assert made.shortened and len(made.ids) <= len(whole.ids) // 2
    assert "Film 0," not in said and "- Film 39," in said and "like No?" in said
    assert made.ids[-1 - made.rated :] == whole.ids[-1 - whole.rated :]


def test_labels_that_the_tokenizer_cannot_tell_apart_are_refused(chat):
    check_named_labels(chat, [("Answer: Yes", "Yes"), ("Answer: No", "No")])

    class Blind(Chat):  # a tokenizer without letters
        def encode(self, text):
            return super().encode("".join("?" if c.isalpha() else c for c in text))

    blind = Blind(chat.tokenizer, None, "blind")
    named = [("Answer: Yes", "Yes"), ("Answer: Now", "Now")]
    with pytest.raises(LLMError, match="'Now' and 'Yes' are the same tokens"):
        check_named_labels(blind, named)


def test_a_named_label_is_written_and_read_and_changes_the_digest(tmp_path):
    def data(label):
        rows = (Example("binary", question("Rain"), "Answer: Yes", label),)
        return {"binary": (rows, rows)}

    write_examples(tmp_path, data("Yes"))
    assert read_examples(tmp_path) == data("Yes")
    assert len({digest_of(data(label)) for label in ("Yes", "s", None)}) == 3
    file = tmp_path / "binary.train.jsonl"
    file.write_text(file.read_text().replace('"label": "Yes"', '"label": "No"'))
    with pytest.raises(UsageError, match="line 1: the label is not the end of the answer"):
        read_examples(tmp_path)


def test_the_digest_of_examples_without_named_labels_is_as_it_was():
    rows = (Example("rating", (Message("user", "?"),), "Predicted User Rating: 7"),)
    digest = "79161169fabb6ce0b7a1f37a33975a75241f284fdd9bd8e97cfbae2a82277b69"
    assert digest_of({"rating": (rows, rows)}) == digest
