"""`python -m recbole_exp3rt.annotate`: the same as `exp3rt annotate`; `annotate` for Python."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from recbole_exp3rt.cli.main import main as cli


def __getattr__(name: str) -> Any:
    """`annotate` on first use: it needs RecBole and torch."""
    if name == "annotate":
        from recbole_exp3rt.distill.annotate.run import annotate

        return annotate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit code."""
    return cli(["annotate", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
