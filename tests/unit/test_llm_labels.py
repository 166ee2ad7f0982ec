"""Label tokens in context, on a tokenizer small enough to see through."""

import re

import pytest

from recbole_exp3rt.llm.base import LLMError, Message, Readout, Request
from recbole_exp3rt.llm.label_tokens import label_tokens
from recbole_exp3rt.llm.local.batching import Task, common_prefix, plan

END = -1


def tokenizer(pattern):
    """Texts to numbers by the pieces that `pattern` finds; anything else is one character."""
    pieces: dict[str, int] = {}

    def encode(text):
        found = re.findall(f"{pattern}|.", text, flags=re.DOTALL)
        return [pieces.setdefault(piece, len(pieces)) for piece in found]

    def tokens(*texts):
        return tuple(pieces[text] for text in texts)

    return encode, tokens


@pytest.mark.parametrize(
    ("pattern", "cue", "labels", "context", "wanted"),
    [
        ("Rating:", "Rating: ", "0 1 2", ["Rating:", " "], [["0"], ["1"], ["2"]]),
        # the blank belongs to the digit: it is label, not context
        (r"Rating:|\s\d", "Rating: ", "0 1 2", ["Rating:"], [[" 0"], [" 1"], [" 2"]]),
        # 1 begins like 10: both end in the end of turn
        ("Rating: ", "Rating: ", "1 2 10", ["Rating: "], [["1", END], ["2", END], ["1", "0", END]]),
        # 10 is a token of its own: nothing to tell apart
        (r"Rating: |10", "Rating: ", "1 10", ["Rating: "], [["1"], ["10"]]),
        # a start that all labels share still counts into their probability
        ("Rating: ", "Rating: ", "71 72", ["Rating: "], [["7", "1"], ["7", "2"]]),
    ],
)
def test_labels_are_what_follows_the_context(pattern, cue, labels, context, wanted):
    encode, tokens = tokenizer(pattern)
    found = label_tokens(encode, "", Readout(cue, tuple(labels.split())), END)
    assert found.context == tokens(*context)
    assert found.labels == tuple(
        tuple(END if piece is END else tokens(piece)[0] for piece in label) for label in wanted
    )


def test_a_tail_that_was_cut_is_encoded_with_the_cue():
    encode, tokens = tokenizer("fine")
    found = label_tokens(encode, "fi", Readout("ne: ", ("1", "2")), END)
    assert found.context == tokens("fine", ":", " ")


@pytest.mark.parametrize("labels", [("1", "1"), ("1", "")])
def test_labels_that_cannot_be_told_apart_are_an_error(labels):
    encode, _ = tokenizer("Rating:")
    with pytest.raises(LLMError, match="label"):
        label_tokens(encode, "", Readout("Rating: ", labels), END)


def task(position, prompt, new=10):
    request = Request((Message("user", "?"),), max_new_tokens=new)
    return Task(position, request, tuple(prompt))


def test_requests_that_begin_alike_stand_together():
    system = list(range(10))
    users = {name: [*system, *[name] * 40] for name in (100, 200)}
    tasks = [task(k, [*users[100 + 100 * (k % 2)], k, k]) for k in range(20)]
    batches = list(plan(tasks, max_rows=16, tokens=10_000))
    assert sorted(len(batch.tasks) for batch in batches) == [10, 10]
    assert {batch.shared for batch in batches} == {50}


def test_a_batch_keeps_to_its_rows_and_tokens_and_none_is_lost():
    tasks = [task(k, range(1000 * k, 1000 * k + 5 + 7 * k)) for k in range(40)]
    batches = list(plan(tasks, max_rows=6, tokens=700))
    assert sorted(task.position for batch in batches for task in batch.tasks) == list(range(40))
    assert all(len(b.tasks) <= 6 and (len(b.tasks) == 1 or b.cost <= 700) for b in batches)
    assert len(batches) < 20


def test_equal_prompts_keep_a_token_each_to_read():
    assert common_prefix([(1, 2, 3), (1, 2, 3)]) == 2
    assert common_prefix([(1, 2), (1, 2, 3)]) == 1
