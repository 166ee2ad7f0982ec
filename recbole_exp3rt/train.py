"""`python -m recbole_exp3rt.train`: as `exp3rt train`; with `merge` first, as `exp3rt merge`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recbole_exp3rt.cli.main import main as cli
from recbole_exp3rt.distill.train.presets import TrainResult as TrainResult
from recbole_exp3rt.distill.train.presets import TrainSettings as TrainSettings
from recbole_exp3rt.distill.train.presets import make_settings as make_settings
from recbole_exp3rt.distill.train.run import train as train


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return cli(given if given[:1] == ["merge"] else ["train", *given])


if __name__ == "__main__":
    sys.exit(main())
