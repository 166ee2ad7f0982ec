"""`python -m recbole_exp3rt.annotate`: the same as `exp3rt annotate`; `annotate` for Python."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import lazy_loader

from recbole_exp3rt.cli.main import main as cli

# On first use: it needs RecBole and torch.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    "recbole_exp3rt", submod_attrs={"distill.annotate.run": ["annotate"]}
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit code."""
    return cli(["annotate", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
