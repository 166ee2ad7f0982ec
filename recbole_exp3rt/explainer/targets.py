"""What an explanation is learned from: the start of a train review, or a summary of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recbole_exp3rt.llm.base import Completion, Request
from recbole_exp3rt.prompts import Prompt
from recbole_exp3rt.records import Review
from recbole_exp3rt.stages.headings import answer_of
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.step import Step
from recbole_exp3rt.stages.trial import try_first
from recbole_exp3rt.stages.untrusted import harmless
from recbole_exp3rt.text import sentences

LEAST_WORDS = 5  # a shorter first sentence, such as "Great!", takes the next one with it
MOST_WORDS = 50
SUMMARY = "explanation_target"  # the prompt of a summary
SUMMARY_FIELDS = frozenset({"item_word", "review"})
Pair = tuple[str, str]


def first_sentences(text: str) -> str:
    """The first sentence with at least LEAST_WORDS words, or as many as are needed, in one line.

    At most MOST_WORDS words; "" for a text without a word.
    """
    taken: list[str] = []
    for sentence in sentences(text):
        taken += sentence.split()
        if len(taken) >= LEAST_WORDS:
            break
    return " ".join(taken[:MOST_WORDS])


def text_of_review(review: Review) -> str:
    """What a target is made of: the text, or the title where there is no text."""
    return review.text if review.text.strip() else review.title


def first_targets(reviews: Sequence[Review]) -> dict[Pair, str]:
    """Pair -> first sentences of its review; none for a review without a text."""
    made = {(r.user, r.item): first_sentences(text_of_review(r)) for r in reviews}
    return {pair: target for pair, target in made.items() if target}


def summary_request(review: Review, prompt: Prompt, item_word: str, max_new_tokens: int) -> Request:
    """Ask a language model why the author of `review` liked or disliked the item."""
    text = ": ".join(filter(None, [review.title.strip(), review.text.strip()]))
    messages = prompt.render(item_word=item_word, review=harmless(text))
    return Request(messages, max_new_tokens=max_new_tokens)


def summary_targets(requests: Mapping[Pair, Request], step: Step) -> dict[Pair, str]:
    """Pair -> the answer in one line; unreadable ones are counted by `step` and left out.

    Raises: NothingRated if none of the first answers is readable.
    """
    targets: dict[Pair, str | None] = {}

    def read(pair: Pair, answer: Completion) -> str:
        text = " ".join(answer_of(answer.text).split())
        if not text:
            raise Unreadable("no text")
        return text

    def ask(pairs: Sequence[Pair]) -> None:
        found = step.run({p: requests[p] for p in pairs if p not in targets}, read).records
        targets.update(found)

    try_first(list(requests), ask, step.count, "a sentence", "reviews was summed up")
    # in the order of the requests: the order of the answers is chance
    return {pair: text for pair in requests if (text := targets.get(pair))}
