"""What a run prints of single cases: explanations of pairs, and extractions side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.llm.base import LLM, Failure, LLMError, Request
from recbole_exp3rt.llm.card import says
from recbole_exp3rt.llm.thoughts import part
from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.recommender import Recommender
from recbole_exp3rt.records import Preference
from recbole_exp3rt.stages.counts import NothingRated, StepCount
from recbole_exp3rt.stages.lists import Unreadable, render_lists
from recbole_exp3rt.stages.pipeline import Models, Pipeline
from recbole_exp3rt.text import marked_if_cut

NO_TEXT = "no explanation (the user or the item is not in the train part)"

if TYPE_CHECKING:
    from recbole_exp3rt.data.split import Split

MOST_PRINTED = 10  # explanations; the result file has all
SHOWN_REVIEWS = 5  # of a user or an item, in `exp3rt show`


def show_explanations(
    console: Console,
    rater: Rater,
    split: Split,
    rated: Sequence[tuple[str, str]],
    number: int,
    others: Mapping[str, Sequence[str | None]] | None = None,
) -> None:
    """The first pairs with their predicted and true ratings and the rationale behind them.

    `others`: system -> its explanation of each of these pairs, shown beside that of EXP3RT.
    """
    pairs = list(dict.fromkeys(rated))[: min(number, MOST_PRINTED)]
    if not pairs:
        return
    scale = rater.pipeline.settings.scale
    truth: dict[tuple[str, str], list[str]] = {}  # a pair may have several test rows
    for pair, rating in zip(split.pairs("test"), split.ratings("test").tolist(), strict=True):
        truth.setdefault(pair, []).append(f"{rating:g}")
    console.print(f"\n[bold]Explanations[/bold] (reasoning by {escape(rater.who()['rating'])})")
    beside = {name: texts for name, texts in (others or {}).items() if name != "EXP3RT"}
    for row, ((user, item), prediction) in enumerate(zip(pairs, rater.said(pairs), strict=True)):
        title = rater.pipeline.corpus.description(item).title
        if prediction is None:
            console.print(f"- {escape(user)} / {escape(title)}: no readable answer")
            _say_texts(console, beside, row)
            continue
        own = " and ".join(truth.get((user, item), []))
        true = f", true {own}" if own else ", not in test"
        console.print(
            f"- {escape(user)} / {escape(title)}: predicted {prediction.expected:.2f} "
            f"(most probable {prediction.modal:g}{true}; {scale.lowest}–{scale.highest})"
        )
        console.print(
            f"  {escape(marked_if_cut(prediction.rationale)) or '(no reasoning asked for)'}"
        )
        _say_texts(console, beside, row)
    _say_rest(console, min(number, len(set(rated))))


def show_texts(
    console: Console, pairs: Sequence[tuple[str, str]], texts: Mapping[str, Sequence[str | None]]
) -> None:
    """What each system says of each pair, where EXP3RT's explanation is not told with it."""
    if not texts:
        return
    console.print("\n[bold]Explanations[/bold]")
    for row, (user, item) in enumerate(pairs[:MOST_PRINTED]):
        console.print(f"- {escape(user)} / {escape(item)}")
        _say_texts(console, texts, row)
    _say_rest(console, len(pairs))


def _say_rest(console: Console, number: int) -> None:
    if number > MOST_PRINTED:
        console.print(f"… and {number - MOST_PRINTED:,} more, as cases of the result file")


def _say_texts(console: Console, texts: Mapping[str, Sequence[str | None]], row: int) -> None:
    for name, said in texts.items():
        console.print(f"  {escape(name)}: {escape(said[row] or NO_TEXT)}")


def show_unreadable(console: Console, counts: Mapping[str, StepCount]) -> None:
    """Of each step with answers that could not be read: how many, why, and one of them."""
    for name, count in counts.items():
        if count.readable < count.asked:
            said = f"{count.readable:,} of {count.asked:,} answers were readable"
            console.print(f"{name}: {said} (mostly: {escape(count.main_reason())})")


def show_extractions(
    console: Console, rater: Rater, settings: Settings, rated: Sequence[tuple[str, str]]
) -> None:
    """Where another model extracted the preferences: the student's own of a few reviews beside.

    A student that was trained for other steps alone is not asked.
    """
    student = rater.models.named(settings.student) if rater.models else None
    if settings.preference_model == settings.student or student is None:
        return
    if "preference" not in (says(settings.student, "tasks") or ["preference"]):
        return
    corpus = rater.pipeline.corpus
    users = dict.fromkeys(user for user, _ in rated)
    reviews = [review for user in users for review in corpus.user_reviews(user)[-1:]]
    reviews = reviews[: settings.shown_extractions]
    if not reviews:
        return
    own = Pipeline(
        corpus, Models(student, student, student), rater.pipeline.prompts, settings.stages
    )
    pairs = zip(reviews, rater.pipeline.preferences(reviews), own.preferences(reviews), strict=True)
    console.print("\n[bold]Preferences of single reviews, by both models[/bold]")
    for review, theirs, its in pairs:
        text = " ".join(": ".join(filter(None, [review.title, review.text])).split())
        console.print(f"- “{escape(text[:200])}{'…' if len(text) > 200 else ''}”")
        for name, preference in ((settings.preference_model, theirs), (settings.student, its)):
            console.print(f"    {escape(name)}: {escape(_sides(preference))}")


def show_pair(
    console: Console, recommender: Recommender, user: str, item: str, reviews: int = SHOWN_REVIEWS
) -> None:
    """Everything that the language model saw and said for one pair, readable or not.

    Of each profile's reviews the newest are printed, at most so many `reviews`; 0: all.
    """
    pipeline = recommender.rater.pipeline
    nothing = ""
    try:
        explained = recommender.explain(user, item)
    except NothingRated as error:  # remembered: it is told below, and nothing is asked again
        nothing = str(error)
        explained = recommender.explained(user, item, None)
    who, scale = recommender.rater.who(), pipeline.settings.scale
    profiles = (explained.user_profile, explained.item_profile)
    for choice, profile in zip(pipeline.choices(user, item), profiles, strict=True):
        subject, key, read = choice.subject, choice.key, len(choice.reviews)
        shown = choice.reviews[-reviews:]
        newest = f"; the newest {len(shown)} of them" if len(shown) < read else ""
        console.print(f"\n[bold]Reviews of {subject} {escape(key)}[/bold] ({read} read{newest})")
        for review, found in zip(shown, pipeline.preferences(shown), strict=True):
            text = " ".join(": ".join(filter(None, [review.title, review.text])).split())
            console.print(f"- {escape(review.user)} / {escape(review.item)}, {review.rating:g}:")
            console.print(f"  “{escape(text)}”")
            console.print(f"  {escape(_sides(found))}")
            if found is None and review.is_written:
                ask = partial(pipeline.preference_request, review)
                _say_answer(console, pipeline.models.preference, ask)
        if len(shown) < read:
            console.print(f"… and {read - len(shown)} older ones; --reviews=0 prints all")
        console.print(
            f"\n[bold]Profile of {subject} {escape(key)}[/bold] by {escape(who['profiles'])}"
        )
        console.print(escape(render_lists(profile.likes, profile.dislikes)))
    console.print(f"\n[bold]Prompt[/bold] to {escape(who['rating'])}")
    for message in explained.prompt:
        console.print(f"--- {message.role}\n{escape(message.content)}")
    console.print("\n[bold]Answer[/bold]")
    asked = partial(pipeline.request, pipeline.pair(user, item))
    _say_answer(console, pipeline.models.rating, asked)
    prediction = explained.prediction
    if prediction is None:
        console.print(f"not readable{': ' if nothing else ''}{escape(nothing)}")
        return
    rationale = escape(marked_if_cut(prediction.rationale)) or "(none asked for)"
    console.print(f"\n[bold]Rationale[/bold]\n{rationale}")
    console.print("\n[bold]Probability of each rating[/bold]")
    for label, level in zip(scale.labels, scale.levels, strict=True):
        probability = prediction.probabilities[label]
        console.print(f"{level:>4}  {probability:6.3f}  {'█' * round(40 * probability)}")
    if explained.baseline is not None:
        used = pipeline.settings.use_bias
        prior = pipeline.priors.found.get(pipeline.is_reasoned((user, item)))
        console.print(
            f"\nBias predicts {explained.baseline:.2f} ({used}{f': {prior}' if prior else ''})"
        )
    console.print(
        f"\nexpected {prediction.expected:.2f}, most probable {prediction.modal:g} "
        f"({scale.lowest}–{scale.highest}); {prediction.prompt_tokens} prompt tokens, "
        f"{prediction.new_tokens} new ones"
    )


def _say_answer(console: Console, llm: LLM, ask: Callable[[], Request]) -> None:
    """What the model said, word for word; it comes out of the store."""
    try:
        ((_, answer),) = llm.generate([ask()])
    except (Unreadable, LLMError) as error:
        console.print(escape(f"no answer: {error}"))
        return
    if isinstance(answer, Failure):
        console.print(escape(f"no answer: {answer.reason}"))
        return
    parted = part(answer.text)
    if parted.thought:
        console.print(f"--- thought, no part of the answer\n{escape(parted.thought)}")
    said = parted.answer if parted.answer is not None else ""
    console.print(f"--- as it was written ({answer.finish})\n{escape(said) or '(nothing)'}")


def _sides(found: Preference | None) -> str:
    if found is None:
        return "not readable"
    likes, dislikes = ("; ".join(side) or "none" for side in (found.likes, found.dislikes))
    return f"likes {likes} — dislikes {dislikes}"
