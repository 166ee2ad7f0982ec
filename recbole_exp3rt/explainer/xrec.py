"""XRec: a frozen language model explains pairs out of the embeddings of LightGCN.

Source: Ma, Ren, Huang, "XRec: Large Language Models for Explainable Recommendation", arXiv
2406.02377. `docs/models/xrec.md` says what differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.utils import InputType, ModelType
from torch import nn

from recbole_exp3rt import __version__
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.config.systems import XRecSettings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.encode.adapters import CARD, MixtureOfExperts, load_adapter, save_adapter
from recbole_exp3rt.encode.slots import SlotReader, Slotted, with_slots
from recbole_exp3rt.encode.tuning import batches_of, forget, tune
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explainer.cache import Explanations
from recbole_exp3rt.explainer.targets import (
    SUMMARY,
    SUMMARY_FIELDS,
    first_targets,
    summary_request,
    summary_targets,
)
from recbole_exp3rt.llm.base import Completion, Request
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.local.frozen import FrozenLM
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.prompts import load_prompt
from recbole_exp3rt.records import Review
from recbole_exp3rt.stages.step import Progress, Step, silent
from recbole_exp3rt.stages.untrusted import harmless
from recbole_exp3rt.trainer.fit_cache import FitCache
from recbole_exp3rt.trainer.fitting import Fitted

GRAPH = "LightGCN"  # whose embeddings are read
SLOTS = ("user_slot", "item_slot")
FIELDS = frozenset({"item_word", "item", *SLOTS})
AT_ONCE = 8  # explanations that are written together
Pair = tuple[str, str]
Fit = Callable[[str], Fitted]


class Adapters(nn.Module):
    """Two mixtures of experts: graph embeddings of pairs -> embeddings of their slots."""

    def __init__(self, inside: int, outside: int, experts: int, dropout: float) -> None:
        super().__init__()
        self.user = MixtureOfExperts(inside, outside, experts, dropout)
        self.item = MixtureOfExperts(inside, outside, experts, dropout)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """[batch, inside], [batch, inside] -> [batch, 2 slots, outside]."""
        return torch.stack([self.user(users), self.item(items)], dim=1)


@dataclass(frozen=True)
class Graph:
    """Embeddings of LightGCN, the sum over its layers: [n_users, size], [n_items, size]."""

    users: torch.Tensor
    items: torch.Tensor

    @classmethod
    def of(cls, fitted: Fitted) -> Graph:
        """RecBole's LightGCN takes the mean over its layers, the first without a step included."""
        with torch.no_grad():
            users, items = fitted.model.forward()
        layers = int(fitted.model.n_layers) + 1
        return cls(*(table.detach().float().cpu() * layers for table in (users, items)))

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of all values."""
        parts = (
            np.ascontiguousarray(table.numpy()).tobytes() for table in (self.users, self.items)
        )
        return hashlib.sha256(b"".join(parts)).hexdigest()


@dataclass(frozen=True)
class Ready:
    """A trained adapter: what writes, and where explanations are kept."""

    adapters: Adapters
    graph: Graph
    kept: Explanations


class XRec:
    """Explains pairs of the train part's users and items; trained when it is first asked.

    Training and explanations are kept in `<checkpoint_dir>/<data set>-XRec-<digest>/`.
    """

    fits = (GRAPH,)  # the models that it reads
    type = ModelType.GENERAL  # RecBole's Config asks for both; nothing is trained by RecBole
    input_type = InputType.POINTWISE

    def __init__(
        self,
        config: Any,
        dataset: Any,
        models: LanguageModels | None = None,
        progress: Progress = silent,
        fit: Fit | None = None,
    ) -> None:
        """Read the train part `dataset`. `fit` gives a fitted model of the run by its name.

        Raises: UsageError for settings that do not fit, or if there are no reviews; LLMError for a
        student that is no model of this machine.
        """
        self.config = config
        self.settings = XRecSettings.from_config(config)
        self.progress = progress
        self._fit = fit or self._own_fit
        read = Reader(config)
        described = read.names("description_fields")
        self.corpus = corpus_of(dataset, described, read.text_or_none("review_file"))
        self.users = dataset.field2token_id[dataset.uid_field]
        self.items = dataset.field2token_id[dataset.iid_field]
        self.prompt_dir = read.text_or_none("prompt_dir")
        self.prompt = load_prompt("xrec", self.prompt_dir, FIELDS)
        self.max_new_tokens = read.whole("max_new_tokens")
        options = ModelSettings.from_config(config)
        self.lm = FrozenLM(options.student, dtype=options.dtype, quantization=options.quantization)
        self.step: Step | None = None
        if self.settings.target == "summary":
            models = models or LanguageModels(options)
            self.asked_model = read.text_or_none("target_model") or options.student
            self.llm: CachedLLM = models.get(self.asked_model)
            self._summary = load_prompt(SUMMARY, self.prompt_dir, SUMMARY_FIELDS)
            self.step = Step("XRec targets", "Summing up reviews for XRec", self.llm, progress)

    # --- the door

    def knows(self, user: str, item: str) -> bool:
        """Whether both have a train row."""
        return bool(self.corpus.user_reviews(user)) and bool(self.corpus.item_reviews(item))

    def explain(self, pairs: Sequence[Pair]) -> list[str | None]:
        """An explanation of each pair, None for a user or item without a train row: [n_pairs].

        Raises: UsageError if nothing can be learned or written.
        """
        asked = [pair for pair in dict.fromkeys(pairs) if self.knows(*pair)]
        if not asked:
            return [None] * len(pairs)
        ready = self._ready
        prompts = {pair: self.asked(pair[1]) for pair in asked}
        keys = {pair: self._key(pair, prompts[pair]) for pair in asked}
        missing = [pair for pair in asked if keys[pair] not in ready.kept]

        def write() -> Iterator[tuple[int, Completion]]:
            for first in range(0, len(missing), AT_ONCE):
                some = missing[first : first + AT_ONCE]
                with torch.no_grad():
                    vectors = self._vectors(ready.adapters, ready.graph, some)
                own = [prompts[pair] for pair in some]
                texts = self._reader.write(own, vectors, self.max_new_tokens)
                for number, (pair, text) in enumerate(zip(some, texts, strict=True), first):
                    ready.kept.add(keys[pair], pair, " ".join(text.split()))
                    yield number, Completion(text)

        if missing:
            for _ in self.progress(write(), len(missing), "Explaining pairs by XRec"):
                pass
        return [ready.kept.get(keys[pair]) or None if pair in keys else None for pair in pairs]

    def questions(self, pairs: Sequence[Pair]) -> list[Request]:
        """What a language model will be asked before it can explain: the summaries, for a plan."""
        return list(self._summaries().values()) if self.step else []

    # --- what it learns from

    @cached_property
    def reviews(self) -> list[Review]:
        """The train reviews with a text that it learns from, in a fixed order."""
        rows = [r for own in self.corpus.by_user.values() for r in own if r.is_written]
        rows.sort(key=lambda r: (r.timestamp, r.user, r.item))
        order = np.random.default_rng(self.settings.seed).permutation(len(rows))
        return [rows[k] for k in order[: self.settings.train_pairs]]

    @cached_property
    def targets(self) -> dict[Pair, str]:
        """Train pair -> the explanation that is learned.

        Raises: UsageError if no train review has a text; NothingRated if no summary is readable.
        """
        if not self.reviews:
            raise UsageError("XRec: no train review has a text to learn from")
        if self.step:
            return summary_targets(self._summaries(), self.step)
        return first_targets(self.reviews)

    def _summaries(self) -> dict[Pair, Request]:
        word, tokens = self.settings.item_word, self.settings.target_tokens
        return {
            (r.user, r.item): summary_request(r, self._summary, word, tokens) for r in self.reviews
        }

    def asked(self, item: str) -> Slotted:
        """The prompt about an item and any user, with a slot for each."""
        word, chat = self.settings.item_word, self.lm.chat
        described = self.corpus.description(item)
        lines = described.lines or (("Title", item),)
        text = "\n".join(f"{label}: {harmless(value)}" for label, value in lines)
        ids = chat.encode(text)[: self.settings.description_tokens]
        return with_slots(chat, self.prompt, SLOTS, {"item_word": word, "item": chat.decode(ids)})

    # --- how it learns

    def _own_fit(self, name: str) -> Fitted:
        cache = FitCache(Reader(self.config).text_or_none("fit_cache"))
        split = load_split(self.config)
        return cache.fit(name, self.config, split, refit=bool(self.config["refit"]))

    @cached_property
    def _reader(self) -> SlotReader:
        return SlotReader(self.lm.model, self.lm.chat, deep=True)

    def _vectors(self, adapters: Adapters, graph: Graph, pairs: Sequence[Pair]) -> torch.Tensor:
        """The embeddings of the slots of `pairs`: [n_pairs, 2, width]."""
        device = adapters.user.weight.device
        users = graph.users[[self.users[user] for user, _ in pairs]].to(device)
        items = graph.items[[self.items[item] for _, item in pairs]].to(device)
        vectors: torch.Tensor = adapters(users, items)
        return vectors

    @property
    def timed_training(self) -> tuple[str, str]:
        """What its progress says while it trains, and of what: how long a step takes goes by it."""
        return "Training XRec", f"{self.lm.identity}, {self.settings.adapter_batch} rows a step"

    @property
    def n_rows(self) -> int:
        """Train reviews that it learns from; with summaries, as many as will be summed up."""
        return len(self.reviews if self.step else self.targets)

    @property
    def n_steps(self) -> int:
        """Optimizer steps of its training."""
        return self.settings.adapter_epochs * -(-self.n_rows // self.settings.adapter_batch)

    @property
    def is_trained(self) -> bool:
        """Whether its training is kept. LightGCN is read or fitted for it."""
        return (self._folder / CARD).is_file()

    @cached_property
    def _graph(self) -> Graph:
        return Graph.of(self._fit(GRAPH))

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """All that its training depends on."""
        return {
            "system": "XRec",
            "model": self.lm.identity,
            "settings": asdict(self.settings),
            "prompt": self.prompt.sections,
            "graph": self._graph.digest,
            "learned": hashlib.sha256(
                json.dumps([(*pair, text) for pair, text in self.targets.items()]).encode()
            ).hexdigest(),
            "items": hashlib.sha256(
                json.dumps([self.asked(item).ids for _, item in self.targets]).encode()
            ).hexdigest(),
        }

    @cached_property
    def _folder(self) -> Path:
        what = json.dumps(self._identity, sort_keys=True)
        digest = hashlib.sha256(what.encode()).hexdigest()[:12]
        place = Path(str(self.config["checkpoint_dir"]))
        return place / f"{self.config['dataset']}-XRec-{digest}"

    @cached_property
    def _ready(self) -> Ready:
        """The adapter, read or trained."""
        graph, settings, folder = self._graph, self.settings, self._folder
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            adapters = Adapters(
                graph.users.shape[1], self.lm.width, settings.experts, settings.dropout
            )
        adapters.eval()
        if not load_adapter(folder, adapters):
            losses = self._train(adapters, graph, folder)
            card = {**self._identity, "version": __version__, "pairs": len(self.targets)}
            epoch = -(-len(self.targets) // settings.adapter_batch)
            card["loss"] = {  # mean cross entropy of an epoch, in nats a token
                "first": sum(losses[:epoch]) / epoch,
                "last": sum(losses[-epoch:]) / epoch,
            }
            save_adapter(folder, adapters.cpu(), card)
            forget(folder)
        return Ready(adapters, graph, Explanations(folder))

    def _train(self, adapters: Adapters, graph: Graph, folder: Path) -> list[float]:
        """Train on all targets; the loss of each step, in nats a token."""
        settings, reader = self.settings, self._reader
        pairs = list(self.targets)
        prompts = {item: self.asked(item) for _, item in pairs}
        answers = {pair: self._answer(text) for pair, text in self.targets.items()}
        adapters.to(reader.model.device)

        def loss(batch: Sequence[int]) -> torch.Tensor:
            some = [pairs[k] for k in batch]
            vectors = self._vectors(adapters, graph, some)
            read = [prompts[item] for _, item in some]
            return reader.losses(read, vectors, [answers[pair] for pair in some]).mean()

        batches = batches_of(
            len(pairs), settings.adapter_batch, settings.adapter_epochs, settings.seed
        )
        losses: list[float] = []

        def steps() -> Iterator[tuple[int, Completion]]:
            rate, seed = settings.learning_rate, settings.seed
            done = tune(adapters, batches, loss, folder, learning_rate=rate, seed=seed)
            for number, value in enumerate(done):
                losses.append(value)
                yield number, Completion(f"{value:.3f}")

        for _ in self.progress(steps(), len(batches), self.timed_training[0]):
            pass
        return losses

    def _answer(self, target: str) -> tuple[int, ...]:
        """Token ids of a target, cut to its budget, with the end of the turn."""
        *words, end = self.lm.chat.answer(target)
        return (*words[: self.settings.target_tokens], end)

    def _key(self, pair: Pair, prompt: Slotted) -> str:
        asked = json.dumps([pair, prompt.ids, self.max_new_tokens])
        return hashlib.sha256(asked.encode()).hexdigest()[:16]
