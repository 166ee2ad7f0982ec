"""What a run will cost, before it is paid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """Calls and tokens of a piece of work. `cost` is in USD; None: the model has no known price.

    As a string it is one line for the user. `as_of` is the date of the prices.
    """

    calls: int
    prompt_tokens: int
    new_tokens: int
    cost: float | None
    model: str
    as_of: str = ""

    def __str__(self) -> str:
        """One line: model, calls, tokens, dollars."""
        tokens = f"{self.prompt_tokens:,} prompt and {self.new_tokens:,} new tokens"
        if self.cost is None:
            cost = f"cost unknown: no price of {self.model} (own servers are free; else --prices)"
        elif self.cost == 0:
            cost = "no cost"
        else:
            cost = f"about {dollars(self.cost)} by the prices of {self.as_of}"
        return f"{self.model}: {self.calls:,} calls, about {tokens}, {cost}"


def dollars(cost: float) -> str:
    """USD as text: $1,234.50, and $0.0012 where two decimals would show nothing."""
    return f"${cost:,.2f}" if cost >= 0.995 or cost == 0 else f"${cost:.2g}"
