"""P5: one text-to-text model that rates, reranks and explains; users and items are words.

Source: Geng et al., "Recommendation as Language Processing (RLP)", RecSys 2022, arXiv 2203.13366;
ids of OpenP5, SIGIR 2024, arXiv 2306.11134. `docs/models/p5.md` says what differs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType

from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.config.systems import FAMILIES, NUMBER_TOKENS, Family, P5Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.model.p5.answers import Answers
from recbole_exp3rt.model.p5.ids import Ids, make_ids
from recbole_exp3rt.model.p5.network import WordT5, pretrained_t5, random_t5
from recbole_exp3rt.model.p5.tasks import (
    NO,
    YES,
    Sample,
    Tasks,
    decimals,
    levels_of_decimals,
    load_templates,
    short_template,
)
from recbole_exp3rt.model.p5.words import Spelled, Speller, train_tokenizer
from recbole_exp3rt.records import Candidates

Pair = tuple[str, str]  # raw tokens of a user and an item
OFTEN = 500
_NUMBER = re.compile(r"-?\d+\.\d")


class P5(GeneralRecommender):  # type: ignore[misc]
    """A T5 that RecBole's trainer trains on three families of prompts about train rows.

    It is transductive: of a user or item without a train row it says nothing.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        """Make ids, tokenizer and network for the train part `dataset`.

        Raises: UsageError for settings that do not fit, no reviews, a base that cannot be loaded.
        """
        super().__init__(config, dataset)
        self.config = config
        self.settings = settings = P5Settings.from_config(config)
        self.LABEL = config["LABEL_FIELD"] or config["RATING_FIELD"]
        self.n_rows = len(dataset.inter_feat)
        self.users = dataset.field2id_token[self.USER_ID]
        self.items = dataset.field2id_token[self.ITEM_ID]
        read = Reader(config)
        folder = Path(given) if (given := read.text_or_none("prompt_dir")) else None
        load = short_template if settings.prompts == "short" else load_templates
        described = read.names("description_fields")
        corpus = corpus_of(dataset, described, read.text_or_none("review_file"))
        reviews = [review for rows in corpus.by_user.values() for review in rows]
        ids = make_ids(
            settings.ids, [(r.user, r.item) for r in reviews], config["seed"], settings.clusters
        )
        self.tasks = Tasks(
            ids,
            settings.scale,
            settings.item_word,
            {f: load(f, folder) for f in settings.families},
            _titles(corpus, ids),
            {(r.user, r.item): r.text for r in reviews},
            config["seed"],
            any_sentence=settings.explanation_target == "any",
            ask_unseen=settings.unseen_prompt,
        )
        self.network, self.speller = _network(settings, ids, self.tasks)
        self.decimals = torch.tensor([float(text) for text in decimals(settings.scale)])
        self.levels = torch.tensor(levels_of_decimals(settings.scale))
        self._numbers = self._answers(decimals(settings.scale))
        self._choices = self._answers([YES, NO])

    def _answers(self, texts: Iterable[str]) -> Answers:
        spelled = [self.speller.spell(text, most=64).pieces[:-1] for text in texts]
        return Answers(spelled, self.network.start, self.speller.end)

    # --- training

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Mean over the samples of all families of each one's mean token loss: [].

        A sample of the family rating counts `rating_weight` times.
        """
        pairs = self._pairs(interaction)
        ratings = interaction[self.LABEL].tolist()
        losses, weights = [], []
        for families in (("rating", "direct"), ("explanation",)):  # short and long answers
            samples = [
                sample
                for (user, item), rating in zip(pairs, ratings, strict=True)
                for family in families
                if family in self.settings.families
                for sample in self.tasks.samples(family, user, item, rating)
            ]
            if samples:
                losses.append(self._losses(samples))
                weights += [
                    self.settings.rating_weight if s.family == "rating" else 1.0 for s in samples
                ]
        weight = torch.tensor(weights, device=self.device)  # [n_samples]
        return (torch.cat(losses) * weight).sum() / weight.sum()

    def _losses(self, samples: Sequence[Sample]) -> torch.Tensor:
        settings, speller = self.settings, self.speller
        sources = [speller.spell(s.source, settings.max_input_tokens) for s in samples]
        targets = [speller.spell(s.target, settings.max_target_tokens).pieces for s in samples]
        return self.network.losses(sources, targets)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW whose rate rises for the share `warm_up` of all steps, then falls to 0.

        What id tokens learn has `id_rate` times that rate, and the decay `id_decay`, which pulls
        rare ids to what all users or all items have in common. The epsilon has to be far below the
        gradients of ids, which are about a millionth at first; else ids never learn.
        """
        config, rate = self.config, float(self.config["learning_rate"])
        moves = self.network.moves.weight
        decayed = [p for p in self.parameters() if p.dim() > 1 and p is not moves]
        plain = [p for p in self.parameters() if p.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": float(config["weight_decay"])},
            {"params": plain, "weight_decay": 0.0},
            {
                "params": [moves],
                "weight_decay": self.settings.id_decay,
                "lr": rate * self.settings.id_rate,
            },
        ]
        optimizer = torch.optim.AdamW(groups, lr=rate, eps=self.settings.adam_epsilon)
        steps = math.ceil(self.n_rows / config["train_batch_size"]) * config["epochs"]
        warm = math.ceil(self.settings.warm_up * steps)

        def share(step: int) -> float:
            rising = step < warm
            return float((step + 1) / warm if rising else (steps - step) / max(steps - warm, 1))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(share(step), 0.0))
        optimizer.register_step_post_hook(lambda *_: schedule.step())
        return optimizer

    # --- rating

    def predict(self, interaction: Any) -> torch.Tensor:
        """Expected ratings in rating units, NaN for an unseen user or item: [batch]."""
        return torch.tensor(
            [math.nan if r is None else r for r in self.rate(self._pairs(interaction))],
            dtype=torch.float32,
            device=self.device,
        )

    def rate(self, pairs: Sequence[Pair]) -> list[float | None]:
        """Expected value over all numbers with one decimal; None: unseen. [n_pairs]."""
        return self._expected(pairs, self.decimals)

    @property
    def readings(self) -> dict[str, Callable[[Sequence[Pair]], list[float | None]]]:
        """Name -> another way to read ratings off the same model; each has a row of its own.

        parsed: the number that the model writes. levels: each number counts as its level.
        """
        return {"parsed": self.written, "levels": lambda p: self._expected(p, self.levels)}

    def probabilities(self, pairs: Sequence[Pair]) -> torch.Tensor:
        """P(number) for each of `decimals`, of pairs that are known: [n_pairs, n_decimals]."""
        return self._scored("rating", pairs, self._numbers).softmax(dim=1)

    def _expected(self, pairs: Sequence[Pair], values: torch.Tensor) -> list[float | None]:
        def expected(known: Sequence[Pair]) -> list[float]:
            found: list[float] = (self.probabilities(known) @ values).tolist()
            return found

        return self._of_known(pairs, expected)

    def written(self, pairs: Sequence[Pair]) -> list[float | None]:
        """The number that the model writes; None: unseen, or no number of the scale: [n_pairs]."""
        scale = self.settings.scale

        def read(known: Sequence[Pair]) -> list[float | None]:
            texts = self._generated("rating", known, NUMBER_TOKENS, beams=1)
            numbers = [float(t) if _NUMBER.fullmatch(t) else math.nan for t in texts]
            return [n if scale.lowest <= n <= scale.highest else None for n in numbers]

        return self._of_known(pairs, read)

    # --- reranking and explanation

    def rerank(self, lists: Sequence[Candidates]) -> list[list[float | None]]:
        """log P(yes) - log P(no) for each candidate; None: unseen. [lists][candidates].

        Raises: UsageError if the family `direct` was not trained.
        """
        self._needs("direct", "rerank")

        def odds(known: Sequence[Pair]) -> list[float]:
            logp = self._scored("direct", known, self._choices)
            found: list[float] = (logp[:, 0] - logp[:, 1]).tolist()
            return found

        scores = iter(self._of_known([(one.user, i) for one in lists for i in one.items], odds))
        return [[next(scores) for _ in one.items] for one in lists]

    def explain(self, pairs: Sequence[Pair]) -> list[str | None]:
        """A sentence about each pair, in the words of the train reviews; None: unseen, or nothing.

        Raises: UsageError if the family `explanation` was not trained.
        """
        self._needs("explanation", "explain")
        settings = self.settings

        def explained(known: Sequence[Pair]) -> list[str | None]:
            most = settings.max_target_tokens
            texts = self._generated("explanation", known, most, settings.beams)
            return [text or None for text in texts]

        return self._of_known(pairs, explained)

    def _needs(self, family: Family, what: str) -> None:
        if family not in self.settings.families:
            raise UsageError(f"P5 cannot {what} without the family {family}; add it to families")

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Not supported: it would need a prompt for every item of every user.

        Raises: UsageError, always.
        """
        raise UsageError(
            "P5 scores single pairs; to rank, let it rerank the candidates of a generator: "
            "--model=LightGCN --reranker=P5"
        )

    # --- shared

    def _pairs(self, interaction: Any) -> list[Pair]:
        users, items = (interaction[name].cpu().numpy() for name in (self.USER_ID, self.ITEM_ID))
        return [(str(self.users[u]), str(self.items[i])) for u, i in zip(users, items, strict=True)]

    def _of_known(
        self, pairs: Sequence[Pair], ask: Callable[[Sequence[Pair]], Sequence[Any]]
    ) -> list[Any]:
        """What `ask` says of the pairs that are known, in evaluation mode; None of the others."""
        known = [pair for pair in dict.fromkeys(pairs) if self.tasks.knows(*pair)]
        self.eval()
        with torch.no_grad():
            found = dict(zip(known, ask(known), strict=True)) if known else {}
        return [found.get(pair) for pair in pairs]

    def _sources(self, family: Family, pairs: Sequence[Pair]) -> list[Spelled]:
        most = self.settings.max_input_tokens
        return [self.speller.spell(self.tasks.ask(family, *pair), most) for pair in pairs]

    def _scored(self, family: Family, pairs: Sequence[Pair], answers: Answers) -> torch.Tensor:
        return self.network.score(self._sources(family, pairs), answers).cpu()

    def _generated(self, family: Family, pairs: Sequence[Pair], most: int, beams: int) -> list[str]:
        made = self.network.generate(self._sources(family, pairs), most, beams)
        return [self.speller.read(pieces) for pieces in made]


def _network(settings: P5Settings, ids: Ids, tasks: Tasks) -> tuple[WordT5, Speller]:
    """The network from random weights, or of `base`, and how texts are spelled for it."""
    if settings.base is None:
        texts = [text for found in tasks.sentences.values() for text in found]
        texts += [*tasks.titles.values(), *(t for f in tasks.templates.values() for t in f)]
        words = f"user_ item_ {YES} {NO} {' '.join(FAMILIES)}"  # often, so each is one piece
        tokenizer = train_tokenizer([*texts, *[words] * OFTEN], settings.vocab_size)
        first = len(tokenizer)
        size = first + ids.n_tokens
        t5 = random_t5(size, settings.d_model, settings.layers, settings.heads, settings.dropout)
    else:
        tokenizer, t5, first = pretrained_t5(settings.base, ids.n_tokens)
    network = WordT5(t5, settings.word_start, ids.n_tokens, settings.id_start)
    return network, Speller(tokenizer, ids.paths, first, ids.prefixed)


def _titles(corpus: Corpus, ids: Ids) -> dict[str, str]:
    """The titles of train items that have one."""
    lines = {item: corpus.description(item).lines for item in ids.items}
    return {item: " ".join(found[0][1].split()) for item, found in lines.items() if found}
