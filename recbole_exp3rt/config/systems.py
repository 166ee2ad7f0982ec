"""The settings of each system of ours, read once into frozen values. Needs no torch.

A system reads its own here when it is made. A run reads those of all its systems before any work
(`precheck`), so a value that cannot be is named at once. Every `from_config` raises UsageError
with the key, the value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

from recbole_exp3rt.config.reader import Lookup, Reader, read_scale
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.scale import RatingScale

WAYS = ("knn", "ridge")  # of TextKNN
RELEVANCE = ("tfidf", "encoder", "newest")  # of RawReviews
STRATEGIES = ("sequential", "recency", "in_context")  # of ZSRanker
TARGETS = ("sentence", "summary")  # of XRec
IdKind = Literal["random", "collaborative", "independent"]  # of P5
ID_KINDS: tuple[IdKind, ...] = ("random", "collaborative", "independent")
Family = Literal["rating", "explanation", "direct"]  # of P5's prompts
FAMILIES: tuple[Family, ...] = ("rating", "explanation", "direct")
NUMBER_TOKENS = 8  # longest free answer of P5 that is read as a rating


@dataclass(frozen=True)
class BiasSettings:
    """The penalty of both biases."""

    reg_weight: float

    @classmethod
    def from_config(cls, config: Lookup) -> BiasSettings:
        """Read and check the keys."""
        return cls(reg_weight=Reader(config).above_zero("reg_weight"))


@dataclass(frozen=True)
class MFSettings:
    """Size, penalties and start of the embeddings."""

    embedding_size: int
    reg_weight: float
    reg_bias: float
    init_std: float

    @classmethod
    def from_config(cls, config: Lookup) -> MFSettings:
        """Read and check the keys."""
        read = Reader(config)
        return cls(
            embedding_size=read.whole("embedding_size"),
            reg_weight=read.from_zero("reg_weight"),
            reg_bias=read.from_zero("reg_bias"),
            init_std=read.from_zero("init_std"),
        )


@dataclass(frozen=True)
class RGCLSettings:
    """Sizes, dropout and the weights of both contrastive losses."""

    embedding_size: int
    review_size: int
    dropout: float
    ed_weight: float
    nd_weight: float

    @classmethod
    def from_config(cls, config: Lookup) -> RGCLSettings:
        """Read and check the keys."""
        read = Reader(config)
        return cls(
            embedding_size=read.whole("embedding_size"),
            review_size=read.whole("review_size"),
            dropout=read.share("dropout_prob"),
            ed_weight=read.from_zero("ed_weight"),
            nd_weight=read.from_zero("nd_weight"),
        )


@dataclass(frozen=True)
class TextKNNSettings:
    """How texts explain what biases leave, and the penalties."""

    way: str
    reg_bias: float
    power: float
    shrinkage: float
    reg_weight: float

    @classmethod
    def from_config(cls, config: Lookup) -> TextKNNSettings:
        """Read and check the keys."""
        read = Reader(config)
        return cls(
            way=read.one_of("way", WAYS),
            reg_bias=read.above_zero("reg_bias"),
            power=read.above_zero("power"),
            shrinkage=read.above_zero("shrinkage"),
            reg_weight=read.above_zero("reg_weight"),
        )


@dataclass(frozen=True)
class P5Settings:
    """What P5 is made of and what it learns. `base` is None for random weights."""

    scale: RatingScale
    item_word: str
    base: str | None
    d_model: int
    layers: int
    heads: int
    vocab_size: int
    ids: IdKind
    clusters: int
    families: tuple[Family, ...]
    rating_weight: float
    explanation_target: Literal["first", "any"]
    prompts: Literal["short", "full"]
    unseen_prompt: bool
    max_input_tokens: int
    max_target_tokens: int
    beams: int
    dropout: float
    warm_up: float
    id_rate: float
    id_decay: float
    id_start: float
    word_start: float
    adam_epsilon: float

    @classmethod
    def from_config(cls, config: Lookup) -> P5Settings:
        """Read and check the keys."""
        read = Reader(config)
        read.one_of("preset", ("tiny", "original", "paper"))
        families = tuple(family for family in FAMILIES if family in read.text_list("families"))
        if "rating" not in families or len(families) < len(read.text_list("families")):
            raise UsageError(
                f"families={config['families']!r} is not rating, alone or with others of "
                + ", ".join(FAMILIES)
            )
        found = cls(
            scale=read_scale(config),
            item_word=read.text("item_word"),
            base=read.text_or_none("base"),
            d_model=read.whole("d_model"),
            layers=read.whole("layers"),
            heads=read.whole("heads"),
            vocab_size=read.whole("vocab_size", least=100),
            ids=read.one_of("ids", ID_KINDS),
            clusters=read.whole("clusters", least=2),
            families=families,
            rating_weight=read.above_zero("rating_weight"),
            explanation_target=read.one_of("explanation_target", ("first", "any")),
            prompts=read.one_of("prompts", ("short", "full")),
            unseen_prompt=read.flag("unseen_prompt"),
            max_input_tokens=read.whole("max_input_tokens", least=16),
            max_target_tokens=read.whole("max_target_tokens", least=NUMBER_TOKENS),
            beams=read.whole("beams"),
            dropout=read.share("dropout_rate"),
            warm_up=read.share("warm_up"),
            id_rate=read.above_zero("id_rate"),
            id_decay=read.from_zero("id_decay"),
            id_start=read.from_zero("id_start"),
            word_start=read.above_zero("word_start"),
            adam_epsilon=read.above_zero("adam_epsilon"),
        )
        if found.d_model % found.heads:
            raise UsageError(f"d_model={found.d_model} is no multiple of heads={found.heads}")
        if found.unseen_prompt and found.prompts == "short":
            raise UsageError("unseen_prompt=True has no other prompt to ask; give prompts=full")
        return found


@dataclass(frozen=True)
class PromptSettings:
    """What a prompted rating model asks, and how long prompts and answers may be, in tokens."""

    scale: RatingScale
    item_word: str
    use_reasoning: bool
    use_bias: bool
    parsed: bool
    max_prompt_tokens: int
    max_new_tokens: int
    number_tokens: int

    @classmethod
    def from_config(cls, config: Lookup) -> PromptSettings:
        """Read and check the keys."""
        read = Reader(config)
        return PromptSettings(
            scale=read_scale(config),
            item_word=read.text("item_word"),
            use_reasoning=read.flag("use_reasoning"),
            use_bias=bool(read.use_bias("use_bias", ("averages", "none"))),
            parsed=read.flag("parsed"),
            max_prompt_tokens=read.whole("max_prompt_tokens", least=64),
            max_new_tokens=read.whole("max_new_tokens"),
            number_tokens=read.whole("number_tokens"),
        )

    def values(self) -> dict[str, Any]:
        """The fields of this class, by name."""
        return {field.name: getattr(self, field.name) for field in fields(PromptSettings)}


@dataclass(frozen=True)
class LLMRecSettings(PromptSettings):
    """`shots`: earlier ratings that are shown; None: as many as the prompt has room for."""

    shots: int | None
    description_lines: int

    @classmethod
    def from_config(cls, config: Lookup) -> LLMRecSettings:
        """Read and check the keys."""
        read = Reader(config)
        return cls(
            **PromptSettings.from_config(config).values(),
            shots=read.whole_or_none("shots", least=0),
            description_lines=read.whole("description_lines"),
        )


@dataclass(frozen=True)
class RawReviewsSettings(PromptSettings):
    """Which reviews are shown, how many of each side, and how long."""

    relevance: str
    reviews: int
    max_review_tokens: int

    @classmethod
    def from_config(cls, config: Lookup) -> RawReviewsSettings:
        """Read and check the keys."""
        read = Reader(config)
        return cls(
            **PromptSettings.from_config(config).values(),
            relevance=read.one_of("relevance", RELEVANCE),
            reviews=read.whole("reviews"),
            max_review_tokens=read.whole("max_review_tokens", least=16),
        )


@dataclass(frozen=True)
class ZSRankerSettings:
    """How candidates are asked about. `rerank_depth`: most candidates of a question."""

    strategy: str
    boots: int
    history: int
    max_prompt_tokens: int
    max_new_tokens: int
    item_word: str
    rerank_depth: int

    @classmethod
    def from_config(cls, config: Lookup) -> ZSRankerSettings:
        """Read and check the keys."""
        read = Reader(config)
        return cls(
            strategy=read.one_of("strategy", STRATEGIES),
            boots=read.whole("boots"),
            history=read.whole("history"),
            max_prompt_tokens=read.whole("max_prompt_tokens", least=64),
            max_new_tokens=read.whole("max_new_tokens"),
            item_word=read.text("item_word"),
            rerank_depth=read.whole("rerank_depth"),
        )


@dataclass(frozen=True)
class TALLRecSettings:
    """What TALLRec asks, and the pairs that its student learns from."""

    preset: str
    like_from: float  # the lowest rating of an item that a user likes
    shots: int
    valid_shots: int
    seed: int
    train_args: Mapping[str, Any]
    item_word: str
    max_prompt_tokens: int

    @classmethod
    def from_config(cls, config: Lookup) -> TALLRecSettings:
        """Read and check the keys."""
        read = Reader(config)
        train_args = config["train_args"]
        if train_args is not None and not isinstance(train_args, Mapping):
            raise UsageError(
                f"train_args={train_args!r} is not a mapping of settings, such as {{'epochs': 1}}"
            )
        return cls(
            preset=read.one_of("preset", ("paper", "original")),
            like_from=_like_from(read),
            shots=read.whole("shots"),
            valid_shots=read.whole("valid_shots"),
            seed=read.whole("seed", least=0),
            train_args=train_args or {},
            item_word=read.text("item_word"),
            max_prompt_tokens=read.whole("max_prompt_tokens", least=64),
        )


def _like_from(read: Reader) -> float:
    """`like_from`, else `relevant_from`, else what lies above the middle of the scale."""
    for key in ("like_from", "relevant_from"):
        if (rating := read.number_or_none(key)) is not None:
            return rating
    scale = read_scale(read.config)
    return min(level for level in scale.levels if level > (scale.lowest + scale.highest) / 2)


@dataclass(frozen=True)
class XRecSettings:
    """What shapes an adapter of XRec: its size, its targets, its training."""

    experts: int
    dropout: float
    target: str
    target_tokens: int
    description_tokens: int
    train_pairs: int | None
    adapter_epochs: int
    adapter_batch: int
    learning_rate: float
    item_word: str
    seed: int

    @classmethod
    def from_config(cls, config: Lookup) -> XRecSettings:
        """Read and check the keys."""
        read = Reader(config)
        read.whole("max_new_tokens")  # of what it writes; it shapes no adapter
        return cls(
            experts=read.whole("experts"),
            dropout=read.share("dropout"),
            target=read.one_of("target", TARGETS),
            target_tokens=read.whole("target_tokens"),
            description_tokens=read.whole("description_tokens", least=0),
            train_pairs=read.whole_or_none("train_pairs"),
            adapter_epochs=read.whole("adapter_epochs"),
            adapter_batch=read.whole("adapter_batch"),
            learning_rate=read.above_zero("learning_rate"),
            item_word=read.text("item_word"),
            seed=read.whole("seed", least=0),
        )


class Readable(Protocol):
    """A class of settings."""

    def from_config(self, config: Lookup) -> Any:
        """Read and check the keys."""
        ...


SETTINGS: Mapping[str, Readable] = {
    "Bias": BiasSettings,
    "MF": MFSettings,
    "RGCL": RGCLSettings,
    "EXP3RT": Settings,
    "P5": P5Settings,
    "LLMRec": LLMRecSettings,
    "RawReviews": RawReviewsSettings,
    "ZSRanker": ZSRankerSettings,
    "TALLRec": TALLRecSettings,
    "XRec": XRecSettings,
    "TextKNN": TextKNNSettings,
}
