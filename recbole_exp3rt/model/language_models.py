"""The language models of a run: each is loaded once, behind one store; what they are asked counts.

Every system that asks a language model takes it from here, so that a budget, a ledger and a store
hold for all systems of a run together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from recbole_exp3rt.cluster.ray_llm import RayLLM
from recbole_exp3rt.config.reader import Lookup
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.llm.base import LLM
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.budget import MeteredLLM
from recbole_exp3rt.llm.cost.ledger import Spent
from recbole_exp3rt.llm.cost.opening import open_ledger
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.names import ORACLE, is_served, load_llm
from recbole_exp3rt.llm.server.openai_batch import PREFIX as BATCH
from recbole_exp3rt.llm.stores.opening import open_store

Load = Callable[..., LLM]


class LanguageModels:
    """Language models by name, behind the store of `settings`."""

    def __init__(self, settings: ModelSettings, load: Load = load_llm) -> None:
        """`load` makes a model of its name and options, see `llm/names.py`."""
        self.settings = settings
        self.store = open_store(settings.store_path)
        self._load = load
        self._models: dict[tuple[str, str | None], CachedLLM] = {}

    def __reduce__(self) -> tuple[type[LanguageModels], tuple[ModelSettings, Load]]:
        """As its settings: store and models are opened anew where it is read."""
        return LanguageModels, (self.settings, self._load)

    @classmethod
    def from_config(cls, config: Lookup) -> LanguageModels:
        """The models of a system that stands alone. Raises: UsageError for its settings."""
        return cls(ModelSettings.from_config(config))

    def get(self, name: str, adapter: str | None = None) -> CachedLLM:
        """The model `name`, with the peft adapter in the folder `adapter`.

        Weights of a local model are loaded for the first question that the store cannot answer.
        Raises: LLMError or UsageError, in one line, if it cannot be loaded.
        """
        key = (name, adapter)
        if key not in self._models:
            self._models[key] = CachedLLM(self._made(name, adapter), self.store)
        return self._models[key]

    def loading(self, name: str, adapter: str | None = None) -> Callable[[], LLM]:
        """What makes the model `name`, here or on another machine: it pickles."""
        settings = self.settings
        options: dict[str, Any] = {"adapter": adapter} if adapter else {}
        if is_served(name):
            return partial(self._load, name, http=settings.http, **options)
        return partial(
            self._load,
            name,
            batch_tokens=settings.batch_tokens,
            threads=settings.threads,
            dtype=settings.dtype,
            quantization=settings.quantization,
            enable_thinking=settings.http.enable_thinking,
            lazy=True,  # with every answer in the store, no weights are needed
            **options,
        )

    def _made(self, name: str, adapter: str | None) -> LLM:
        load, cluster = self.loading(name, adapter), self.settings.cluster
        if cluster is None or name.startswith(BATCH):  # a batch is worked on elsewhere anyway
            llm = load()
        else:
            known_here = is_served(name) or name == ORACLE
            llm = RayLLM(load, cluster, here=load() if known_here else None)
        return metered(llm, self.settings) if is_served(name) else llm

    def named(self, name: str) -> CachedLLM | None:
        """The model `name` if it was taken already, whatever its adapter; else None."""
        return next((llm for (known, _), llm in self._models.items() if known == name), None)

    @property
    def all(self) -> tuple[CachedLLM, ...]:
        """The models that were taken, in this order."""
        return tuple(self._models.values())

    @property
    def calls(self) -> int:
        """Requests that a model answered in this run; answers out of the store are not calls."""
        return sum(model.calls for model in self.all)

    @property
    def hits(self) -> int:
        """Requests that the store answered in this run."""
        return sum(model.hits for model in self.all)

    @property
    def tokens(self) -> int:
        """Prompt and new tokens of those calls."""
        return sum(model.prompt_tokens + model.new_tokens for model in self.all)

    @property
    def written(self) -> int:
        """New tokens of all answers of this run, those out of the store included."""
        return sum(model.written for model in self.all)

    @property
    def missing_labels(self) -> int:
        """Labels of all answers whose probability is bounded, not known."""
        return sum(model.missing_labels for model in self.all)

    @property
    def memory(self) -> dict[str, Any]:
        """Name -> what a local model needs of the memory that was free."""
        plans = {name: getattr(one.llm, "memory", None) for (name, _), one in self._models.items()}
        return {name: plan for name, plan in plans.items() if plan is not None}

    @property
    def spent(self) -> Spent:
        """What this run has paid for answers of models on servers."""
        return sum((getattr(model.llm, "spent", Spent()) for model in self.all), Spent())

    @property
    def remarks(self) -> list[str]:
        """What is to be known of the answers of models on servers."""
        served = [model.llm for model in self.all if isinstance(model.llm, MeteredLLM)]
        estimated = sum(llm.estimated for llm in served)
        mended = sum(int(getattr(llm.llm, "mended", 0)) for llm in served)
        said = {
            f"{estimated:,} answers came without usable token counts: estimated": estimated,
            f"{mended:,} answers held broken characters: U+FFFD took their place": mended,
        }
        return [text for text, number in said.items() if number]


def metered(llm: LLM, settings: ModelSettings) -> LLM:
    """`llm` with a ledger, and a budget if there is one. Raises: UsageError."""
    return MeteredLLM(
        llm, Prices.load(settings.prices), open_ledger(settings.ledger), settings.budget
    )
