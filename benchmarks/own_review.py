"""What a train pair's profiles give away when they hold its own review.

    python benchmarks/own_review.py [--out docs/results] [--work saved/distillation]

A student learns from train pairs and is asked about test pairs, whose reviews no profile holds. The
sample's oracle (synthetic) rates all train pairs twice, with profiles that hold the pair's own
review and with `profile_leave_one_out`, and the test pairs once. The difference of the first two is
what a student would learn to read off a review that it will not have. Averages leave the pair's own
rating out both times.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from distillation import configuration, rate, rater_of
from numpy.typing import NDArray

from recbole_exp3rt.data.slices import user_slices
from recbole_exp3rt.data.split import Part, load_split

WAYS: tuple[tuple[str, Part, bool], ...] = (
    ("train pairs, own review in the profiles", "train", False),
    ("train pairs, own review left out", "train", True),
    ("test pairs", "test", True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("saved/distillation"))
    known = parser.parse_args()
    split = load_split(configuration(known.work, "oracle"))
    lines = [
        "# A train pair's own review in its profiles",
        "",
        "`python benchmarks/own_review.py`: the sample's oracle, which is synthetic, rates with "
        "profiles of train reviews. RMSE; warm users have more than 3 train ratings. The "
        "difference of the first two rows is what a student would learn to read off a review "
        "that it will not have. Test pairs are others, each user's latest, and their users are "
        "known by one review more than those of a train pair without its own.",
        "",
        "| what is rated | all | warm | cold |",
        "|---|---|---|---|",
    ]
    for name, part, left_out in WAYS:
        rater = rater_of(known.work, "oracle", split, profile_leave_one_out=left_out)
        errors = rate(rater.pipeline, split, part)[0] - split.ratings(part)
        masks: dict[str, NDArray[np.bool_]] = {"all": np.ones(len(errors), dtype=bool)}
        masks |= user_slices(split.users("train"), split.users(part))
        cells = [
            f"{np.sqrt(np.mean(errors[masks[s]] ** 2)):.3f} (n={masks[s].sum():,})"
            for s in ("all", "warm", "cold")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    print("\n".join(lines))
    known.out.mkdir(parents=True, exist_ok=True)
    (known.out / "own-review.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
