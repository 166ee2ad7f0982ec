"""Mutated rows through every converter: kept, dropped, crashes.

    python benchmarks/fuzz_converters.py [--rows 10000] [--seed 1] [--forms 2014 imdb …]

Each form gets batches of 500 rows, about half of them mutated (`tests/mutated.py`). A batch fails
if the conversion raises, ends with an error, loses a row without a count or changes an id.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from mutated import FORMS, convert  # noqa: E402

BATCH = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    options = parser.parse_args()
    failures = 0
    for form in options.forms:
        kept = dropped = failed = 0
        for seed in range(options.seed, options.seed + options.rows // BATCH):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    one_kept, one_dropped = convert(form, seed, BATCH, Path(folder))
                    assert one_kept + one_dropped == BATCH, f"{one_kept} + {one_dropped}"
                except Exception:
                    failed += 1
                    print(f"{form} seed {seed}: {traceback.format_exc()[-600:]}", file=sys.stderr)
                    continue
            kept, dropped = kept + one_kept, dropped + one_dropped
        print(
            f"{form}: {kept + dropped:,} rows, {kept:,} kept, {dropped:,} dropped, {failed} failed"
        )
        failures += failed
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
