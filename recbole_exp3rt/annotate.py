"""`python -m recbole_exp3rt.annotate`: the same as `exp3rt annotate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recbole_exp3rt.cli.main import main as cli
from recbole_exp3rt.distill.annotate.run import annotate as annotate


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit code."""
    return cli(["annotate", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
