"""Reads RecBole's flat keys once, into frozen settings with checked values.

An error names the key, the value and what is allowed. The defaults are in `properties/`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from recbole_exp3rt.cluster.session import ClusterOptions
from recbole_exp3rt.config.reader import Lookup, Reader, read_scale
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.card import for_step
from recbole_exp3rt.llm.server.openai_llm import READOUTS, HTTPOptions
from recbole_exp3rt.llm.stores.places import beside, is_database, shown
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.choice import ITEM_PROFILES, PROFILE_RULES
from recbole_exp3rt.stages.pipeline import StageSettings
from recbole_exp3rt.stages.reasoning import best_of, share_of
from recbole_exp3rt.stages.settings import USE_BIAS

EXPORTS = ("parquet", "csv", "jsonl")
CalibrationKind = Literal["none", "affine", "blend"]
CALIBRATIONS: tuple[CalibrationKind, ...] = ("none", "affine", "blend")
MIN_ANSWERS = 10  # with fewer validation answers, nothing is calibrated

# Keys that name files, servers or secrets. Only the user sets them, never a file of another person.
PLACES = frozenset(
    {"base_url", "api_key_env", "store_path", "prompt_dir", "prices", "ledger", "batch_dir"}
    | {"vector_store", "workers"}
    | {"data_path", "review_file", "adapter", "log_file", "fit_cache"}
)


@dataclass(frozen=True)
class RunSettings:
    """The settings of every run: tasks, rows, generators, results."""

    tasks: tuple[str, ...] | None  # None: every task of the model
    scale: RatingScale | None  # None: not set; a ranking needs none
    topk: tuple[int, ...]
    generators: tuple[str, ...]
    rerank_depth: int
    relevant_from: float | None
    eval_pairs: int | None
    unseen_rows: int | None
    unseen_balanced: int | None
    rerank_users: int | None
    baselines: tuple[str, ...]
    rerankers: tuple[str, ...]
    explainers: tuple[str, ...]
    refit: bool
    trust_checkpoint: bool
    save_checkpoints: bool
    result_file: str | None
    export_dir: str | None
    export_format: str
    export_safe_cells: bool
    report: str | None
    explanations: int
    overwrite: bool
    dry_run: bool
    log_file: str | None
    fit_cache: str | None
    fit_cache_gb: float | None
    fit_checkpoint_minutes: float | None
    seed: int

    @classmethod
    def from_config(cls, config: Lookup) -> RunSettings:
        """Read and check the keys. Raises: UsageError with the key, the value and the remedy."""
        read = Reader(config)
        run = cls(
            tasks=read.tasks(),
            scale=None if config["rating_scale"] is None else read_scale(config),
            topk=read.whole_list("topk"),
            generators=tuple(dict.fromkeys(read.text_list("generator"))),
            rerank_depth=read.whole("rerank_depth"),
            relevant_from=read.number_or_none("relevant_from"),
            eval_pairs=read.whole_or_none("eval_pairs"),
            unseen_rows=read.whole_or_none("unseen_rows"),
            unseen_balanced=read.whole_or_none("unseen_balanced"),
            rerank_users=read.whole_or_none("rerank_users"),
            baselines=read.text_list("baselines"),
            rerankers=tuple(dict.fromkeys(read.text_list("reranker"))),
            explainers=tuple(dict.fromkeys(read.text_list("explainer"))),
            refit=read.flag("refit"),
            trust_checkpoint=read.flag("trust_checkpoint"),
            save_checkpoints=read.flag("save_checkpoints"),
            result_file=read.text_or_none("result_file"),
            export_dir=read.text_or_none("export_dir"),
            export_format=read.one_of("export_format", EXPORTS),
            export_safe_cells=read.flag("export_safe_cells"),
            report=read.text_or_none("report"),
            explanations=read.whole("explanations", least=0),
            overwrite=read.flag("overwrite"),
            dry_run=read.flag("dry_run"),
            log_file=read.text_or_none("log_file"),
            fit_cache=read.text_or_none("fit_cache"),
            fit_cache_gb=read.number_or_none("fit_cache_gb"),
            fit_checkpoint_minutes=read.number_or_none("fit_checkpoint_minutes"),
            seed=read.whole("seed", least=0, most=2**32 - 1),  # the range of numpy's seeds
        )
        if run.rerank_depth < max(run.topk):
            raise UsageError(
                f"rerank_depth={run.rerank_depth} is below max(topk)={max(run.topk)}; "
                "rerank deeper or ask for a smaller topk"
            )
        relevant, scale = run.relevant_from, run.scale
        if relevant is not None and scale and not scale.lowest <= relevant <= scale.highest:
            raise UsageError(
                f"relevant_from={relevant:g} is outside the scale {scale.lowest}–{scale.highest}"
            )
        return run


@dataclass(frozen=True)
class ModelSettings:
    """The settings of every system that asks language models: `properties/llm.yaml`."""

    student: str
    prompt_dir: str | None
    store_path: str
    batch_tokens: int | None
    threads: int | None
    dtype: str | None
    quantization: str | None
    http: HTTPOptions
    budget: float | None
    prices: str | None
    ledger: str
    cluster: ClusterOptions | None  # None: models run in this process

    @classmethod
    def from_config(cls, config: Lookup) -> ModelSettings:
        """Read and check the keys. Raises: UsageError with the key, the value and the remedy."""
        read = Reader(config)
        return ModelSettings(
            student=read.text("student"),
            prompt_dir=read.text_or_none("prompt_dir"),
            store_path=read.place("store_path"),
            batch_tokens=read.whole_or_none("batch_tokens", least=256),
            threads=read.whole_or_none("threads"),
            dtype=read.text_or_none("dtype"),
            quantization=read.text_or_none("quantization"),
            http=HTTPOptions(
                base_url=read.urls("base_url"),
                api_key_env=read.variable("api_key_env"),
                concurrency=read.whole("concurrency"),
                request_timeout=read.seconds("request_timeout"),
                max_retries=read.whole("max_retries", least=0),
                readout=read.one_of("readout", ("auto", *READOUTS)),
                enable_thinking=read.flag_or_none("enable_thinking"),
                requests_per_minute=read.whole_or_none("requests_per_minute"),
                tokens_per_minute=read.whole_or_none("tokens_per_minute"),
                batch_poll_seconds=read.seconds("batch_poll_seconds"),
                batch_dir=read.text("batch_dir"),
                batch_requests=read.whole("batch_requests"),
            ),
            budget=read.dollars_or_none("budget"),
            prices=read.text_or_none("prices"),
            ledger=_ledger(read),
            cluster=_cluster(read),
        )

    def values(self) -> dict[str, Any]:
        """The fields of this class, by name."""
        return {field.name: getattr(self, field.name) for field in fields(ModelSettings)}


@dataclass(frozen=True)
class Settings(ModelSettings):
    """The settings of EXP3RT: the models of its steps, their options and limits."""

    stages: StageSettings
    preference_model: str
    profile_model: str
    rating_model: str
    adapter: str | None
    description_fields: Mapping[str, str]
    review_file: str | None
    shown_extractions: int
    calibration: CalibrationKind
    calibration_pairs: int

    @classmethod
    def from_config(cls, config: Lookup) -> Settings:
        """Read and check the keys. Raises: UsageError with the key, the value and the remedy."""
        read = Reader(config)
        models = ModelSettings.from_config(config)
        student = models.student
        made = cls(
            **models.values(),
            stages=StageSettings(
                scale=read_scale(config),
                item_word=read.text("item_word"),
                use_reasoning=read.flag("use_reasoning"),
                use_bias=read.use_bias("use_bias", USE_BIAS),  # type: ignore[arg-type]
                prior_pairs=read.whole("prior_pairs"),
                prior_reg_weight=_from_zero(read, "prior_reg_weight", above=True),
                prior_weight=_from_zero(read, "prior_weight"),
                rating_reasoning=read.form(
                    "rating_reasoning", share_of, "all, none or uncertain:P with 0 < P < 100"
                ),
                rerank_reasoning=read.form(
                    "rerank_reasoning", best_of, "all, none or top:K with K from 1 on"
                ),
                max_prompt_tokens=read.whole("max_prompt_tokens", least=64),
                max_new_tokens=read.whole("max_new_tokens"),
                preference_new_tokens=read.whole("preference_new_tokens"),
                profile_new_tokens=read.whole("profile_new_tokens"),
                max_review_tokens=read.whole_or_none("max_review_tokens", least=16),
                profile_reviews=read.whole_or_none("profile_reviews"),
                profile_rule=read.one_of("profile_rule", PROFILE_RULES),
                item_profile=read.one_of("item_profile", ITEM_PROFILES),
                helpful_top=read.whole("helpful_top"),
                neighbors=read.whole("neighbors"),
                profile_leave_one_out=read.flag("profile_leave_one_out"),
            ),
            preference_model=for_step(
                read.text_or_none("preference_model") or student, "preference"
            ),
            profile_model=for_step(read.text_or_none("profile_model") or student, "profile"),
            rating_model=for_step(read.text_or_none("rating_model") or student, "rating"),
            adapter=read.text_or_none("adapter"),
            description_fields=read.names("description_fields"),
            review_file=read.text_or_none("review_file"),
            shown_extractions=read.whole("shown_extractions", least=0),
            calibration=read.one_of("calibration", CALIBRATIONS),
            calibration_pairs=read.whole("calibration_pairs", least=MIN_ANSWERS),
        )
        made.check_reasoning()
        return made

    def check_reasoning(self) -> None:
        """Raises: UsageError for settings of reasoning that contradict each other."""
        stages = self.stages
        for key in ("rating_reasoning", "rerank_reasoning"):
            given = getattr(stages, key)
            if not stages.use_reasoning and given not in ("all", "none"):
                raise UsageError(
                    f"{key}={given} with use_reasoning=False: no rationale is written at all; "
                    "leave one of the two out"
                )
        alike = stages.rating_reasoning == stages.rerank_reasoning or not stages.use_reasoning
        if self.calibration == "blend" and not alike:
            raise UsageError(
                f"calibration=blend with rerank_reasoning={stages.rerank_reasoning} and "
                f"rating_reasoning={stages.rating_reasoning}: it is fitted on ratings of one kind; "
                "give both the same, all or none"
            )


def _cluster(read: Reader) -> ClusterOptions | None:
    """Where models run, if not in this process."""
    workers = read.text_or_none("workers")
    number, gpus = read.whole_or_none("num_workers"), _from_zero(read, "worker_gpus")
    if workers is not None:
        return ClusterOptions(workers, number, gpus)
    if number or gpus:
        key, value = ("num_workers", number) if number else ("worker_gpus", gpus)
        raise UsageError(f"{key}={value:g} has no effect without workers=ray")
    return None


def _ledger(read: Reader) -> str:
    """Where costs are noted: beside the store; in its database, so that all its users share it."""
    store = read.place("store_path")
    given = None if read.config["ledger"] is None else read.place("ledger")
    if is_database(store) and given not in (None, store):
        raise UsageError(
            f"ledger={shown(given or '')} with store_path={shown(store)}: all that share this "
            "store share its ledger and budget, in the same database; leave ledger out"
        )
    return given or (store if is_database(store) else str(beside(store, "ledger.jsonl")))


def _from_zero(read: Reader, key: str, *, above: bool = False) -> float | None:
    """A number from 0 on, or None; with `above`, one above 0."""
    number = read.number_or_none(key)
    if number is not None and not (0 <= number < math.inf and (number or not above)):
        raise UsageError(f"{key}={number!r} is not a number {'above 0' if above else 'from 0 on'}")
    return number
