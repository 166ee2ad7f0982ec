"""Options that every source has: which rows are wanted, and a run that writes nothing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from recbole_exp3rt.errors import UsageError

if TYPE_CHECKING:
    from dataset_converters.subsets import Subset

ROWS = ("since", "until", "sample_users", "seed", "subset")


def add_rows(parser: argparse.ArgumentParser) -> Any:
    """Add the options that choose rows; return their group."""
    rows = parser.add_argument_group("which rows")
    for option, what in (("since", "from this day on"), ("until", "up to this day, included")):
        rows.add_argument(
            f"--{option}", metavar="DATE", help=f"rows {what}: YYYY-MM-DD, YYYY-MM or YYYY, in UTC"
        )
    rows.add_argument(
        "--sample_users", type=whole, metavar="N", help="at most N users of the k-core, drawn"
    )
    rows.add_argument("--seed", type=whole, metavar="N", help="of that draw (default 2024)")
    rows.add_argument(
        "--subset",
        choices=["balanced"],
        help="balanced: the paper's subset for rankings, ratings from 6 up of 1–10",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="read and count everything, write nothing"
    )
    return rows


def subset_of(options: argparse.Namespace) -> Subset:
    """The rows that the options name. Raises: UsageError for an option without its other one."""
    from dataset_converters.subsets import SEED, Subset

    if options.seed is not None and options.sample_users is None:
        raise UsageError("seed belongs to --sample_users; add it")
    if options.subset and options.split:
        raise UsageError("split=topk-halves is made of the balanced subset; leave out --subset")
    return Subset(
        since=options.since,
        until=options.until,
        sample_users=options.sample_users,
        seed=SEED if options.seed is None else options.seed,
        subset=options.subset,
        kept_from=options.kept_from if options.subset else None,
    )


def told_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options that `dataset.json` names: those that decide what is written."""
    aside = {"source", "output_path", "overwrite", "rejects", "memory_limit", "threads", "dry_run"}
    return {
        key: value
        for key, value in sorted(vars(options).items())
        if key not in aside and value is not None and value != ()
    }


def whole(text: str) -> int:
    """A number such as 0 or 5."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, such as 0 or 5")
    return int(text)
