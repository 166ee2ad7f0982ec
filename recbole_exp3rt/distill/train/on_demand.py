"""A student that a system trains for itself, the first time that it is needed.

No torch is imported before it trains.
"""

from __future__ import annotations

from collections.abc import Callable

from recbole_exp3rt.distill.train.named import NamedStudent
from recbole_exp3rt.distill.train.run import train


class OnDemand(NamedStudent):
    """A student that is trained if it is not there."""

    def train(self, say: Callable[[str], None]) -> None:
        """Train it if it is not finished; a training that was stopped goes on.

        Raises: UsageError, LLMError with a message of one line; checkpoints are kept.
        """
        if self.is_trained:
            return
        self.write()
        train(self.settings, say)
