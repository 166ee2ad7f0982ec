"""What is encoded of a review and of a description: one form for all, so vectors are shared."""

from __future__ import annotations

from recbole_exp3rt.records import Description, Review


def review_text(review: Review) -> str:
    """Title and text, each on lines of its own; "" if nothing is written."""
    return "\n".join(part for part in (review.title.strip(), review.text.strip()) if part)


def description_text(description: Description) -> str:
    """The labelled lines; "" if there are none."""
    return "\n".join(f"{label}: {value}" for label, value in description.lines)
