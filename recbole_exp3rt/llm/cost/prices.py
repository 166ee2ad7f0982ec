"""Prices of models, in USD per million tokens, from a price file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.cost.estimate import Estimate
from recbole_exp3rt.paths import properties_dir

MILLION = 1_000_000
BATCH = "batch:"
SERVED = ("openai:", BATCH)  # prefixes of the models that cost money


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    prompt: float
    new: float

    def of(self, prompt_tokens: float, new_tokens: float) -> float:
        """USD for this many tokens."""
        return (self.prompt * prompt_tokens + self.new * new_tokens) / MILLION


FREE = Price(0.0, 0.0)


@dataclass(frozen=True)
class Prices:
    """A price file: its date, and for each pattern of model names (price, batch discount).

    A discount of 0.5 halves the price by the Batch route.
    """

    as_of: str
    models: Mapping[str, tuple[Price, float]]

    @classmethod
    def load(cls, path: str | Path | None = None) -> Prices:
        """Read a price file; None: the one of this package.

        Raises: UsageError that names the file, the model and the value.
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
        """The price of `model`, a name in the settings or an identity; None if it is unknown.

        An exact name wins over patterns, a longer pattern over a shorter one. Only
        `openai:MODEL` and `batch:MODEL` cost anything.
        """
        if not model.startswith(SERVED):
            return FREE
        prefix, _, rest = model.partition(":")
        name = rest.partition("@")[0]  # an identity goes on with its revision
        matching = [pattern for pattern in self.models if fnmatchcase(name, pattern)]
        if not matching:
            return None
        price, discount = self.models[name if name in matching else max(matching, key=len)]
        factor = 1.0 - discount if f"{prefix}:" == BATCH else 1.0
        return Price(price.prompt * factor, price.new * factor)

    def estimate(self, calls: int, prompt_tokens: int, new_tokens: int, model: str) -> Estimate:
        """What `calls` requests with these tokens in total cost with `model`."""
        price = self.price(model)
        cost = price.of(prompt_tokens, new_tokens) if price else None
        return Estimate(calls, prompt_tokens, new_tokens, cost, model, self.as_of)


def _price(file: Path, name: str, entry: Any) -> tuple[Price, float]:
    """Price and batch discount of one entry. Raises: UsageError if it is no price."""
    values = dict(entry) if isinstance(entry, dict) else {"": entry}
    values.setdefault("batch_discount", 0.0)
    valid = values.keys() == {"prompt", "new", "batch_discount"} and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v < 1e300
        for v in values.values()
    )
    if not valid or values["batch_discount"] > 1:
        raise UsageError(
            f"prices: {file}: {name}: {entry!r} is not {{prompt: USD, new: USD}} per million "
            "tokens, with a batch_discount between 0 and 1 if there is one"
        )
    return Price(float(values["prompt"]), float(values["new"])), float(values["batch_discount"])
