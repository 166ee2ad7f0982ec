"""What answers cost: prices, an estimate before, a ledger of what was spent, and a budget.

`CachedLLM(MeteredLLM(llm, prices, ledger, budget), store)`: only what is really asked is paid. What
is not known here: how a model is asked, or that its answers are stored.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Answer, Completion, LLMError, Request, readout_of
from recbole_exp3rt.llm.server.written_labels import ROOM
from recbole_exp3rt.paths import properties_dir
from recbole_exp3rt.text import whole

MILLION = 1_000_000
BATCH = "batch:"
SERVED = ("openai:", BATCH)  # how models that cost money are named
START = b'{"when": "'  # of a line in a ledger
MESSAGE = 8  # tokens that a chat template puts around a message, at most


class BudgetReached(LLMError):
    """The next question could cost more than is left. What was answered is kept."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    prompt: float
    new: float

    def of(self, prompt_tokens: float, new_tokens: float) -> float:
        """USD for so many tokens."""
        return (self.prompt * prompt_tokens + self.new * new_tokens) / MILLION


FREE = Price(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a piece of work may take. `cost` in USD; None: no price of the model is known."""

    calls: int
    prompt_tokens: int
    new_tokens: int
    cost: float | None
    model: str
    as_of: str = ""

    def __str__(self) -> str:
        tokens = f"{self.prompt_tokens:,} prompt and {self.new_tokens:,} new tokens"
        if self.cost is None:
            cost = f"cost unknown: the price file (--prices) has none of {self.model}"
        elif self.cost == 0:
            cost = "no cost"
        else:
            cost = f"about {dollars(self.cost)} by the prices of {self.as_of}"
        return f"{self.model}: {self.calls:,} calls, about {tokens}, {cost}"


@dataclass(frozen=True)
class Prices:
    """The price file: `as_of` and, by a pattern of model names, (price, batch discount)."""

    as_of: str
    models: Mapping[str, tuple[Price, float]]

    @classmethod
    def load(cls, path: str | Path | None = None) -> Prices:
        """Read a price file; None: the one that comes along.

        Raises: UsageError with the file, the model, the value.
        """
        file = Path(path) if path is not None else properties_dir() / "prices.yaml"
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"prices: {file} cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"prices: {file} is no YAML: {' '.join(str(error).split())}") from None
        models = content.get("models") if isinstance(content, dict) else None
        if not isinstance(models, dict):
            raise UsageError(f"prices: {file} has no `models:` with a price for each")
        read = {str(name): _price(file, str(name), entry) for name, entry in models.items()}
        return cls(str(content.get("as_of", "an unknown date")), read)

    def price(self, model: str) -> Price | None:
        """The price of `model`, a name in the settings or an identity; None if it is not known.

        Only `openai:MODEL` and `batch:MODEL` cost anything.
        """
        if not model.startswith(SERVED):
            return FREE
        prefix, _, rest = model.partition(":")
        name = rest.partition("@")[0]  # an identity goes on with its revision
        fitting = [pattern for pattern in self.models if fnmatchcase(name, pattern)]
        if not fitting:
            return None
        price, discount = self.models[name if name in fitting else max(fitting, key=len)]
        kept = 1.0 - discount if f"{prefix}:" == BATCH else 1.0
        return Price(price.prompt * kept, price.new * kept)

    def estimate(self, calls: int, prompt_tokens: int, new_tokens: int, model: str) -> Estimate:
        """What `calls` questions with so many tokens in all would cost with `model`."""
        price = self.price(model)
        cost = price.of(prompt_tokens, new_tokens) if price else None
        return Estimate(calls, prompt_tokens, new_tokens, cost, model, self.as_of)


def _price(file: Path, name: str, entry: Any) -> tuple[Price, float]:
    values = dict(entry) if isinstance(entry, dict) else {"": entry}
    values.setdefault("batch_discount", 0.0)
    good = values.keys() == {"prompt", "new", "batch_discount"} and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v < 1e300
        for v in values.values()
    )
    if not good or values["batch_discount"] > 1:
        raise UsageError(
            f"prices: {file}: {name}: {entry!r} is not {{prompt: USD, new: USD}} per million "
            "tokens, with a batch_discount between 0 and 1 if there is one"
        )
    return Price(float(values["prompt"]), float(values["new"])), float(values["batch_discount"])


@dataclass(frozen=True, slots=True)
class Spent:
    """`cost` in USD; `unpriced` calls had no known price and are not in it."""

    calls: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.new_tokens + other.new_tokens,
            self.cost + other.cost,
            self.unpriced + other.unpriced,
        )

    def __str__(self) -> str:
        unpriced = f" ({self.unpriced:,} calls without a known price)" if self.unpriced else ""
        tokens = f"{self.prompt_tokens:,} prompt and {self.new_tokens:,} new tokens"
        return f"{self.calls:,} calls, {tokens}, {dollars(self.cost)}{unpriced}"


class Ledger:
    """What was spent, a JSON line for each answer; lines are only ever added.

    A line is one write, so several processes may share a file and each counts what the others
    add, and a killed process leaves whole lines; one that a full disk or a power cut tore is passed
    over. A line that holds no costs is passed over too; `garbage` names the first, as no budget
    can be kept then. Not in it: questions that were in flight when a process was killed, answers
    that broke on their way and were asked for again, and the few tokens that tell what a server
    serves. A file that cannot be written can be read.

    Raises: UsageError if the file cannot be read, or holds something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._read_to = 0
        self._lines = 0
        self._by_model: dict[str, Spent] = {}
        self.garbage = ""  # the first line that holds no costs, in words
        self._catch_up()

    def check(self) -> None:
        """Find out whether answers can be noted, before one is paid. Raises: UsageError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab"):
                pass
        except OSError as error:
            raise self._unusable(error) from error

    def add(self, model: str, prompt_tokens: int, new_tokens: int, cost: float | None) -> None:
        """Note one answered question. Raises: UsageError if it cannot be written."""
        line = {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "model": whole(model),
            "calls": 1,
            "prompt_tokens": prompt_tokens,
            "new_tokens": new_tokens,
            "cost": None if cost is None else round(cost, 9),
        }
        try:
            self._append(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise self._unusable(error) from error

    def by_model(self) -> dict[str, Spent]:
        """Identity -> what was spent on it, by all processes so far."""
        self._catch_up()
        return dict(self._by_model)

    @property
    def total(self) -> Spent:
        return sum(self.by_model().values(), Spent())

    def __str__(self) -> str:
        lines = [f"{model}: {spent}" for model, spent in sorted(self.by_model().items())]
        missed = [f"not counted: {self.garbage}"] if self.garbage else []
        return "\n".join([*lines, f"in all: {self.total}", *missed])

    def _append(self, line: bytes) -> None:
        with self.path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # the last one is torn: it costs itself only
                    line = b"\n" + line
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _catch_up(self) -> None:
        """Read what was added since."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                added = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from error
        if not self._read_to and added and not added.startswith(b"{"):
            raise UsageError(
                f"ledger {self.path} holds something else: move it away, or name another file"
            )
        done = added.rfind(b"\n") + 1
        for line in added[:done].split(b"\n")[:-1]:
            self._lines += 1
            try:
                model, spent = _read_line(line)
            except ValueError as error:
                if line.strip() and not self.garbage and not _is_torn(line):
                    self.garbage = f"line {self._lines}: {error}"
                continue
            self._by_model[model] = self._by_model.get(model, Spent()) + spent
        self._read_to += done

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(
            f"ledger {self.path} cannot be used ({error.strerror or error}): "
            "make room, or name another file (ledger: FILE)"
        )


def _read_line(line: bytes) -> tuple[str, Spent]:
    """Identity, and what an answer took. Raises: ValueError with what is wrong."""
    try:
        entry = json.loads(line)
        counts = [entry[name] for name in ("calls", "prompt_tokens", "new_tokens")]
        model, cost = entry["model"], entry["cost"]
        paid = 0.0 if cost is None else float(cost)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ValueError("it is no line of a ledger") from None
    for number in (*counts, 0 if cost is None else cost):
        if type(number) not in (int, float) or not 0 <= number < math.inf:
            raise ValueError(f"{str(number)[:20]!r} is no number from 0 on")
    calls, prompt, new = (int(count) for count in counts)
    return str(model), Spent(calls, prompt, new, paid, calls if cost is None else 0)


def _is_torn(line: bytes) -> bool:
    """Whether it is the start of a line, as a full disk or a power cut leaves it."""
    return line.startswith(START[: len(line)]) and not line.rstrip().endswith(b"}")


class MeteredLLM:
    """An LLM that notes in `ledger` what each answer cost, and stops before `budget` is crossed.

    `budget` (USD) counts all that the ledger holds, of this run and of earlier ones, so a run that
    is started again gets no second budget. It is kept by asking, at a time, as many questions as
    fit into what is left if each takes its most: its prompt and all its new tokens. So one process
    never crosses it; of several with one ledger, each may by what it has in flight.

    Raises: UsageError if there is a budget and no price of the model is known.
    """

    def __init__(
        self, llm: LLM, prices: Prices, ledger: Ledger, budget: float | None = None
    ) -> None:
        self.llm = llm
        self.ledger = ledger
        self.budget = budget
        self.spent = Spent()  # by this object
        self.estimated = 0  # answers whose tokens the server does not tell
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
        return self.llm.identity

    @property
    def readout(self) -> str:
        return readout_of(self.llm)

    @property
    def memory(self) -> Any:
        return getattr(self.llm, "memory", None)

    def count_tokens(self, text: str) -> int:
        return self.llm.count_tokens(text)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers as they arrive, each noted before it is passed on.

        Raises: BudgetReached before a question is asked that could cross the budget; UsageError
        if the ledger cannot be written, or does not tell what was spent of the budget.
        """
        if requests:
            self.ledger.check()
        start = 0
        while start < len(requests):
            some = requests[start : start + self._affordable(requests, start)]
            for position, answer in self.llm.generate(some):
                self._charge(some[position], answer)
                yield start + position, answer
            start += len(some)

    def bound(self, request: Request) -> float:
        """The most that an answer can cost, in USD, by the model's own count of tokens."""
        assert self.price is not None
        room = ROOM if request.readout else 0
        return self.price.of(self._prompt_tokens(request), request.max_new_tokens + room)

    def _prompt_tokens(self, request: Request) -> int:
        words = sum(MESSAGE + self.llm.count_tokens(m.content) for m in request.messages)
        return MESSAGE + words + self.llm.count_tokens(request.prefill)

    def _affordable(self, requests: Sequence[Request], start: int) -> int:
        """How many of the requests from `start` on may be asked at once."""
        rest = len(requests) - start
        if self.budget is None or self.price == FREE:
            return rest
        spent = self.ledger.total.cost
        if self.ledger.garbage:
            raise UsageError(
                f"budget={self.budget:g} cannot be kept, as ledger {self.ledger.path} does not "
                f"tell what was spent ({self.ledger.garbage}): correct or remove that line"
            )
        left, count, most = self.budget - spent, 0, 0.0
        for request in requests[start:]:
            most += self.bound(request)
            if most > left:
                break
            count += 1
        # A batch may take a day: the last crumbs of a budget are not worth one.
        least = self.budget * float(getattr(self.llm, "least_share", 0.0))
        if count == 0 or (count < rest and left < least):
            raise BudgetReached(
                f"the budget of {dollars(self.budget)} is reached: {dollars(spent)} are spent "
                f"({self.ledger.path}), and {rest:,} questions to {self.identity} are open; what "
                "was answered is kept, the same command with a larger --budget goes on"
            )
        return count

    def _charge(self, request: Request, answer: Answer) -> None:
        prompt, new = answer.prompt_tokens, answer.new_tokens
        if isinstance(answer, Completion):
            # a server that reports no tokens, or no number of them, is not for nothing
            self.estimated += int(not prompt or not (new or not answer.text))
            prompt = prompt or self._prompt_tokens(request)
            new = new or self.llm.count_tokens(answer.text)
        elif not (prompt or new):
            return  # nothing is known of what it cost
        cost = self.price.of(prompt, new) if self.price else None
        self.ledger.add(self.identity, prompt, new, cost)
        self.spent += Spent(1, prompt, new, cost or 0.0, int(cost is None))


def dollars(cost: float) -> str:
    """$1,234.50; $0.0012 where cents would hide it."""
    return f"${cost:,.2f}" if cost >= 0.995 or cost == 0 else f"${cost:.2g}"
