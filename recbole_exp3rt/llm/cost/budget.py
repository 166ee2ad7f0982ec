"""Metering and the budget: an LLM around an LLM that counts what answers cost.

`CachedLLM(MeteredLLM(llm, prices, ledger, budget), store)`: only answers that are not in the store
are paid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Answer, Completion, LLMError, Request, readout_of
from recbole_exp3rt.llm.cost.estimate import dollars
from recbole_exp3rt.llm.cost.ledger import Charge, Ledger, Spent
from recbole_exp3rt.llm.cost.prices import FREE, Prices
from recbole_exp3rt.llm.grouped import Grouped
from recbole_exp3rt.llm.server.written_labels import ROOM

if TYPE_CHECKING:
    from recbole_exp3rt.llm.cost.shared_ledger import Reservation, SharedLedger

MESSAGE_TOKENS = 8  # tokens that a chat template puts around a message, at most


class BudgetReached(LLMError):
    """The next request could cross the budget. All answers so far are kept."""


class MeteredLLM:
    """An LLM that writes the cost of each answer to `ledger`, and stops before `budget` is crossed.

    `budget` (USD) covers all that the ledger holds, from this run and earlier ones, so a run that
    is started again gets no second budget. Requests are sent in groups whose highest possible
    cost (all prompt tokens, all new tokens) fits into what is left. So one process never crosses
    the budget. Of several processes with one ledger in a file, each may cross it by what it has in
    progress; with one in a shared database they reserve what they send, and all together never do.

    `spent` is what this object has spent. `estimated` counts answers whose tokens the server did
    not report.

    Raises: UsageError if there is a budget and no price of the model is known.
    """

    def __init__(
        self,
        llm: LLM,
        prices: Prices,
        ledger: Ledger | SharedLedger,
        budget: float | None = None,
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
            count, held = self._affordable(requests, start)
            with held as reservation:
                for position, answer in self._paid(requests[start : start + count], reservation):
                    yield start + position, answer
            start += count

    def _paid(
        self, requests: Sequence[Request], reservation: Reservation | None
    ) -> Iterator[tuple[int, Answer]]:
        """Answers, once their costs are in the ledger."""

        def note(some: list[tuple[Charge | None, int, Answer]]) -> None:
            charges = [charge for charge, _, _ in some if charge is not None]
            if reservation is not None:
                reservation.ledger.add_all(charges, reservation)
            else:
                self.ledger.add_all(charges)

        with Grouped(note, beside=self.ledger.flushes) as noted:
            try:
                for position, answer in self.llm.generate(requests):
                    charge = self._charge(requests[position], answer, reservation is not None)
                    for _, place, kept in noted.add((charge, position, answer)):
                        yield place, kept
            except LLMError:  # first all that was answered
                for _, place, kept in noted.rest():
                    yield place, kept
                raise
            for _, place, kept in noted.rest():
                yield place, kept

    def bound(self, request: Request) -> float:
        """The highest possible cost of an answer, in USD, by the model's own count of tokens."""
        assert self.price is not None
        room = ROOM if request.readout else 0
        return self.price.of(self._prompt_tokens(request), request.max_new_tokens + room)

    def _prompt_tokens(self, request: Request) -> int:
        """Tokens of the prompt, rounded up by those of the chat template."""
        content = sum(MESSAGE_TOKENS + self.llm.count_tokens(m.content) for m in request.messages)
        return MESSAGE_TOKENS + content + self.llm.count_tokens(request.prefill)

    def _affordable(
        self, requests: Sequence[Request], start: int
    ) -> tuple[int, AbstractContextManager[Reservation | None]]:
        """How many of the requests from `start` on fit into the budget, and what holds it for them.

        Raises: BudgetReached.
        """
        rest = len(requests) - start
        if self.budget is None or self.price == FREE:
            return rest, nullcontext()
        # A batch may take a day: a small rest of the budget is not worth one.
        least = self.budget * float(getattr(self.llm, "least_share", 0.0))
        if not isinstance(self.ledger, Ledger):
            bounds, most = [], 0.0
            for request in requests[start:]:
                bounds.append(self.bound(request))
                if (most := most + bounds[-1]) > self.budget:
                    break
            held = self.ledger.reserve(self.budget, bounds, at_once=least > 0)
            if held.count == 0 or (held.count < rest and self.budget - held.spent < least):
                if held.count:
                    self.ledger.free(held)
                raise self._reached(held.spent, rest)
            return held.count, held
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
        if count == 0 or (count < rest and left < least):
            raise self._reached(spent, rest)
        return count, nullcontext()

    def _reached(self, spent: float, rest: int) -> BudgetReached:
        assert self.budget is not None
        return BudgetReached(
            f"the budget of {dollars(self.budget)} is reached: {dollars(spent)} are spent "
            f"({self.ledger.name}), and {rest:,} questions to {self.identity} are open; what "
            "was answered is kept, the same command with a larger --budget goes on"
        )

    def _charge(self, request: Request, answer: Answer, reserved: bool) -> Charge | None:
        """What an answer costs; None: that is unknown."""
        prompt, new = answer.prompt_tokens, answer.new_tokens
        if isinstance(answer, Completion):
            # a server that reports no tokens, or no number of them, is paid all the same
            self.estimated += int(not prompt or not (new or not answer.text))
            prompt = prompt or self._prompt_tokens(request)
            new = new or self.llm.count_tokens(answer.text)
        elif not (prompt or new):
            return None
        cost = self.price.of(prompt, new) if self.price else None
        self.spent += Spent(1, prompt, new, cost or 0.0, int(cost is None))
        bound = self.bound(request) if reserved else 0.0
        return Charge(self.identity, prompt, new, cost, bound)
