"""What a run prints of single cases: explanations of pairs, and extractions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from recbole_exp3rt.rater import Rater
from recbole_exp3rt.settings import Settings
from recbole_exp3rt.stages.run import Models, Pipeline

if TYPE_CHECKING:
    from recbole_exp3rt.data.split import Split


def show_explanations(
    console: Console,
    rater: Rater,
    split: Split,
    rated: Sequence[tuple[str, str]],
    number: int,
) -> None:
    """The first pairs with their predicted and true ratings and the rationale behind them."""
    pairs = list(dict.fromkeys(rated))[:number]
    if not pairs:
        return
    scale = rater.pipeline.settings.scale
    truth = dict(zip(split.pairs("test"), split.ratings("test").tolist(), strict=True))
    console.print(f"\n[bold]Explanations[/bold] (reasoning by {escape(rater.who()['rating'])})")
    for (user, item), prediction in zip(pairs, rater.rate(pairs), strict=True):
        title = rater.pipeline.corpus.description(item).title
        if prediction is None:
            console.print(f"- {escape(user)} / {escape(title)}: no readable answer")
            continue
        true = f", true {truth[user, item]:g}" if (user, item) in truth else ", not in test"
        console.print(
            f"- {escape(user)} / {escape(title)}: predicted {prediction.expected:.2f} "
            f"(most probable {prediction.modal:g}{true}; {scale.lowest}–{scale.highest})"
        )
        console.print(f"  {escape(prediction.rationale) or '(no reasoning asked for)'}")


def show_extractions(
    console: Console, rater: Rater, settings: Settings, rated: Sequence[tuple[str, str]]
) -> None:
    """Where another model extracted the preferences: the student's own of a few reviews beside."""
    student = rater.models.get(settings.student)
    if settings.preference_model == settings.student or student is None:
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
        text = " ".join(f"{review.title}: {review.text}".split())
        console.print(f"- “{escape(text[:200])}{'…' if len(text) > 200 else ''}”")
        for name, preference in ((settings.preference_model, theirs), (settings.student, its)):
            if preference is None:
                said = "not readable"
            else:
                sides = (preference.likes, preference.dislikes)
                likes, dislikes = ("; ".join(side) or "none" for side in sides)
                said = f"likes {likes} — dislikes {dislikes}"
            console.print(f"    {escape(name)}: {escape(said)}")
