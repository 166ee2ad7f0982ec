"""What a prediction for a pair is made of, and how it reads in a terminal and in a notebook."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from recbole_exp3rt.display.terminal import plain
from recbole_exp3rt.llm.base import Message
from recbole_exp3rt.records import Description, Profile, RatingPrediction
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.text import marked_if_cut

WIDTH = 88  # columns of a printed explanation
_INDENT = 12
_BAR = 24  # columns of a probability of 1
_UNREADABLE = "the model's answer could not be read"
_NO_RATIONALE = "(no reasoning asked for)"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the model was told about a pair, and what it said. Averages are in rating units.

    `print` shows it in a terminal, a notebook as a small table; `scale` names the levels there.
    """

    user_profile: Profile
    item_profile: Profile
    description: Description
    user_average: float | None
    item_average: float | None
    prompt: tuple[Message, ...]
    prediction: RatingPrediction | None  # None: the answer could not be read
    scale: RatingScale | None = None
    baseline: float | None = None  # Bias's prediction, where it was shown or is the prior

    def __str__(self) -> str:
        """Lines of at most `WIDTH` columns, without anything that a terminal obeys."""
        lines = [plain(self._title), *_wrapped("", self._rationale), ""]
        for subject, facts in self._facts():
            lines.append(plain(subject))
            for name, value in facts:
                lines += _wrapped(name, value)
        if levels := self._levels():
            lines += ["", "Probability of each rating"]
            for level, share in levels:
                bar = "█" * round(share * _BAR)
                lines.append(f"  {level:>{_INDENT - 4}}  {share:5.1%} {bar}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The same for a notebook; texts of others are escaped."""
        rows = []
        for subject, facts in self._facts():
            rows.append(f'<tr><th colspan="2" {_LEFT}>{_html(subject)}</th></tr>')
            rows += [
                f"<tr><td {_LEFT_TOP}>{_html(name)}</td><td {_LEFT}>{_html(value)}</td></tr>"
                for name, value in facts
            ]
        if levels := self._levels():
            rows.append(f'<tr><th colspan="2" {_LEFT}>Probability of each rating</th></tr>')
            rows += [
                f'<tr><td {_LEFT_TOP}>{level}</td><td {_LEFT}><span style="display:inline-block;'
                f"height:0.7em;background:#4c78a8;margin-right:0.5em;width:{12 * share:.2f}em"
                f'"></span>{share:.1%}</td></tr>'
                for level, share in levels
            ]
        return (
            f'<div style="max-width:46em"><p><b>{_html(self._title)}</b></p>'
            f"<p>{_html(self._rationale)}</p><table>{''.join(rows)}</table></div>"
        )

    @property
    def _title(self) -> str:
        user, item = self.user_profile.key, self.item_profile.key
        title = self.description.title
        named = item if title == item else f"{title} ({item})"
        if self.prediction is None:
            return f"{user} and {named}: {_UNREADABLE}"
        said = self.prediction
        span = f"; {self.scale.lowest:g}–{self.scale.highest:g}" if self.scale else ""
        return (
            f"{user} and {named}: predicted {said.expected:.2f} "
            f"(most probable {said.modal:g}{span})"
        )

    @property
    def _rationale(self) -> str:
        if self.prediction is None:
            return ""
        return marked_if_cut(self.prediction.rationale) or _NO_RATIONALE

    def _facts(self) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Subject -> name and value of what the model was told of it."""
        sides = (
            ("User", self.user_profile, self.user_average),
            ("Item", self.item_profile, self.item_average),
        )
        for name, profile, average in sides:
            facts = list(self.description.lines) if name == "Item" else []
            facts += [
                ("likes", "; ".join(profile.likes) or "none"),
                ("dislikes", "; ".join(profile.dislikes) or "none"),
                ("average", f"{average:.2f}" if average is not None else "no rating"),
            ]
            if self.baseline is not None:  # no averages were shown
                del facts[-1]
                facts += [("Bias", f"{self.baseline:.2f}")] if name == "Item" else []
            yield f"{name} {profile.key}", facts

    def _levels(self) -> list[tuple[str, float]]:
        """Each rating with its probability, lowest first."""
        if self.prediction is None:
            return []
        found = self.prediction.probabilities.items()
        if self.scale is None:
            return sorted(found)
        return [(f"{self.scale.level_of(label):g}", share) for label, share in found]


_LEFT = 'style="text-align:left"'
_LEFT_TOP = 'style="text-align:left;vertical-align:top;padding-right:1em"'


def _html(text: str) -> str:
    return html.escape(plain(text)).replace("\n", "<br>")


def _wrapped(name: str, value: str) -> list[str]:
    """A name and its value, whose further lines stand below its first."""
    first = f"  {plain(name)}".ljust(_INDENT) + "  "
    indent = "  " if not name else " " * len(first)
    lines: list[str] = []
    for part in plain(value).splitlines():
        begin = indent if lines or not name else first
        lines += textwrap.wrap(part, WIDTH, initial_indent=begin, subsequent_indent=indent)
    return lines
