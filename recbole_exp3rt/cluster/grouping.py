"""The two group-bys of EXP3RT, one group at a time: what a profile is made of, what a pair shows.

Plain functions of the records of one user or item; no model is asked here. Averages and choices
come from a `Corpus` of the group, so they are those of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pyarrow as pa

from recbole_exp3rt.cluster import rows
from recbole_exp3rt.cluster.asking import Told, Wanted
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.records import Description, Preference, Profile, Review, Subject
from recbole_exp3rt.stages import rating
from recbole_exp3rt.stages.choice import Choice, Chooser
from recbole_exp3rt.stages.settings import StageSettings


@dataclass(frozen=True)
class Known:
    """A review with its preference, in the group of its user or item."""

    review: Review
    preference: Preference | None
    failed: str | None


@dataclass(frozen=True)
class Asked:
    """A pair that is to be rated, with what is known of it so far.

    `failed` says which profile is missing; `item_average` is in rating units.
    """

    user: str
    item: str
    rating: float | None = None
    item_profile: Profile | None = None
    item_average: float | None = None
    description: Description | None = None
    failed: str | None = None


@dataclass(frozen=True)
class Made:
    """A profile in the group of its user or item; None: it could not be made."""

    without: str
    profile: Profile | None
    failed: str | None


def wanted_profiles(
    subject: Subject, settings: StageSettings, only_for_pairs: bool
) -> Callable[[pa.Table], pa.Table]:
    """What the profiles of one user or item are made of; a function of the group's records.

    With leave-one-out a pair of train has a profile of its own. With `only_for_pairs` no profile is
    made that none of the group's pairs shows.
    """

    def of_group(given: pa.Table) -> pa.Table:
        key = given.column("key")[0].as_py()
        found = rows.records(given)
        known = {one.review: one for one in found if isinstance(one, Known)}
        others = {
            one.item if subject == "user" else one.user for one in found if isinstance(one, Asked)
        }
        if not known:
            return rows.table([], rows.GROUPED)
        corpus = Corpus(known)
        chooser = Chooser(corpus, settings)
        own = {other for other in others if _leaves_out(corpus, settings, subject, key, other)}
        withouts = sorted(own)
        if not only_for_pairs or not others or others - own:
            withouts = ["", *withouts]
        made = []
        for without in withouts:
            choose = chooser.of_user if subject == "user" else chooser.of_item
            made.append(_wanted(choose(key, without or None), without, known, corpus))
        return rows.table([rows.grouped(key, one) for one in made], rows.GROUPED)

    return of_group


def _wanted(choice: Choice, without: str, known: dict[Review, Known], corpus: Corpus) -> Wanted:
    of = [known[review] for review in choice.reviews]
    is_user = choice.subject == "user"
    reviews = corpus.user_reviews if is_user else corpus.item_reviews
    average = corpus.user_average if is_user else corpus.item_average
    return Wanted(
        choice,
        without,
        tuple(one.preference for one in of if one.preference),
        next((one.failed for one in of if one.failed), None),
        len(reviews(choice.key)),
        average(choice.key),
    )


def _leaves_out(
    corpus: Corpus, settings: StageSettings, subject: Subject, key: str, other: str
) -> bool:
    pair = (key, other) if subject == "user" else (other, key)
    return settings.profile_leave_one_out and corpus.has(*pair)


def with_items(settings: StageSettings) -> Callable[[pa.Table], pa.Table]:
    """The pairs of one item with its profile, average and description, on their way to users."""

    def of_group(given: pa.Table) -> pa.Table:
        item = given.column("key")[0].as_py()
        group = _Group("item", item, rows.records(given), settings)
        made = []
        for pair in group.pairs:
            profile, failed = group.profile(pair.user)
            average = group.corpus.item_average(item, without=pair.user)
            made.append(
                replace(
                    pair,
                    item_profile=profile,
                    item_average=average if settings.use_bias is True else None,
                    description=group.description,
                    failed=failed,
                )
            )
        return rows.table([rows.grouped(pair.user, pair) for pair in made], rows.GROUPED)

    return of_group


def with_users(settings: StageSettings) -> Callable[[pa.Table], pa.Table]:
    """The pairs of one user with everything that their prompts show, in the order of the items."""

    def of_group(given: pa.Table) -> pa.Table:
        user = given.column("key")[0].as_py()
        group = _Group("user", user, rows.records(given), settings)
        told = []
        for pair in sorted(group.pairs, key=lambda pair: pair.item):
            profile, failed = group.profile(pair.item)
            average = group.corpus.user_average(user, without=pair.item)
            shown = None
            if profile is not None and pair.item_profile is not None:
                shown = rating.Pair(
                    profile,
                    pair.item_profile,
                    pair.description or Description(pair.item),
                    average if settings.use_bias is True else None,
                    pair.item_average,
                )
            failed = failed or pair.failed if shown is None else None
            told.append(Told(user, pair.item, pair.rating, shown, failed))
        return rows.table([rows.grouped(user, one) for one in told], rows.GROUPED)

    return of_group


class _Group:
    """The records of one user or item, when its pairs are put together."""

    def __init__(
        self, subject: Subject, key: str, found: Iterable[object], settings: StageSettings
    ) -> None:
        found = list(found)
        self.subject, self.key, self.settings = subject, key, settings
        self.corpus = Corpus([one for one in found if isinstance(one, Review)])
        self.pairs = [one for one in found if isinstance(one, Asked)]
        self.description = next((one for one in found if isinstance(one, Description)), None)
        self._made = {one.without: one for one in found if isinstance(one, Made)}

    def profile(self, other: str) -> tuple[Profile | None, str | None]:
        """The profile that the pair with `other` shows; or None, and why there is none."""
        leaves = _leaves_out(self.corpus, self.settings, self.subject, self.key, other)
        made = self._made.get(other if leaves else "")
        if made is None:
            return Profile(self.subject, self.key), None  # nobody has reviewed it
        if made.profile is None:
            return None, f"no profile of the {self.subject}: {made.failed}"
        return made.profile, None
