"""Metering and the budget: an LLM around an LLM that counts what answers cost.

`CachedLLM(MeteredLLM(llm, prices, ledger, budget), store)`: only answers that are not in the store
are paid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Answer, Completion, LLMError, Request, readout_of
from recbole_exp3rt.llm.cost.estimate import dollars
from recbole_exp3rt.llm.cost.ledger import Ledger, Spent
from recbole_exp3rt.llm.cost.prices import FREE, Prices
from recbole_exp3rt.llm.server.written_labels import ROOM

MESSAGE_TOKENS = 8  # tokens that a chat template puts around a message, at most


class BudgetReached(LLMError):
    """The next request could cross the budget. All answers so far are kept."""


class MeteredLLM:
    """An LLM that writes the cost of each answer to `ledger`, and stops before `budget` is crossed.

    `budget` (USD) covers all that the ledger holds, from this run and earlier ones, so a run that
    is started again gets no second budget. Requests are sent in groups whose highest possible
    cost (all prompt tokens, all new tokens) fits into what is left. So one process never crosses
    the budget. Of several processes with one ledger, each may cross it by what it has in progress.

    `spent` is what this object has spent. `estimated` counts answers whose tokens the server did
    not report.

    Raises: UsageError if there is a budget and no price of the model is known.
    """

    def __init__(
        self, llm: LLM, prices: Prices, ledger: Ledger, budget: float | None = None
    ) -> None:
        self.llm = llm
        self.ledger = ledger
        self.budget = budget
        self.spent = Spent()
        self.estimated = 0
        self.paid_as = str(getattr(llm, "paid_as", llm.identity))
        self.price = prices.price(self.paid_as)
        if budget is not None and self.price is None:
            model = self.paid_as.partition("@")[0]
            raise UsageError(
                f"budget={budget:g} cannot be kept, as no price of {model} is known: add "
                f"{model.partition(':')[2]} to a price file (prices: FILE), or leave the budget out"
            )

    @property
    def identity(self) -> str:
        """The identity of the model inside."""
        return self.llm.identity

    @property
    def readout(self) -> str:
        """How the model inside reads labels."""
        return readout_of(self.llm)

    @property
    def memory(self) -> Any:
        """The memory plan of the model inside; None if it has none."""
        return getattr(self.llm, "memory", None)

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` in the model inside."""
        return self.llm.count_tokens(text)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers as they arrive; the cost of each is in the ledger before it is yielded.

        Raises: BudgetReached before a request is sent that could cross the budget; UsageError if
        the ledger cannot be written, or does not show what is left of the budget.
        """
        if requests:
            self.ledger.check()
        start = 0
        while start < len(requests):
            group = requests[start : start + self._affordable(requests, start)]
            for position, answer in self.llm.generate(group):
                self._charge(group[position], answer)
                yield start + position, answer
            start += len(group)

    def bound(self, request: Request) -> float:
        """The highest possible cost of an answer, in USD, by the model's own count of tokens."""
        assert self.price is not None
        room = ROOM if request.readout else 0
        return self.price.of(self._prompt_tokens(request), request.max_new_tokens + room)

    def _prompt_tokens(self, request: Request) -> int:
        """Tokens of the prompt, rounded up by those of the chat template."""
        content = sum(MESSAGE_TOKENS + self.llm.count_tokens(m.content) for m in request.messages)
        return MESSAGE_TOKENS + content + self.llm.count_tokens(request.prefill)

    def _affordable(self, requests: Sequence[Request], start: int) -> int:
        """How many of the requests from `start` on fit into the budget. Raises: BudgetReached."""
        rest = len(requests) - start
        if self.budget is None or self.price == FREE:
            return rest
        spent = self.ledger.total.cost
        if self.ledger.garbage:
            raise UsageError(
                f"budget={self.budget:g} cannot be kept, as ledger {self.ledger.path} does not "
                f"tell what was spent ({self.ledger.garbage}): correct or remove that line"
            )
        left, count, cost = self.budget - spent, 0, 0.0
        for request in requests[start:]:
            cost += self.bound(request)
            if cost > left:
                break
            count += 1
        # A batch may take a day: a small rest of the budget is not worth one.
        least = self.budget * float(getattr(self.llm, "least_share", 0.0))
        if count == 0 or (count < rest and left < least):
            raise BudgetReached(
                f"the budget of {dollars(self.budget)} is reached: {dollars(spent)} are spent "
                f"({self.ledger.path}), and {rest:,} questions to {self.identity} are open; what "
                "was answered is kept, the same command with a larger --budget goes on"
            )
        return count

    def _charge(self, request: Request, answer: Answer) -> None:
        """Write the cost of an answer to the ledger."""
        prompt, new = answer.prompt_tokens, answer.new_tokens
        if isinstance(answer, Completion):
            # a server that reports no tokens, or no number of them, is paid all the same
            self.estimated += int(not prompt or not (new or not answer.text))
            prompt = prompt or self._prompt_tokens(request)
            new = new or self.llm.count_tokens(answer.text)
        elif not (prompt or new):
            return  # its cost is unknown
        cost = self.price.of(prompt, new) if self.price else None
        self.ledger.add(self.identity, prompt, new, cost)
        self.spent += Spent(1, prompt, new, cost or 0.0, int(cost is None))
