"""Reads RecBole's flat keys once, into frozen settings with checked values.

An error names the key, the value and what is allowed. The defaults are in `properties/`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.llm.card import for_step
from recbole_exp3rt.llm.server.openai_llm import READOUTS, HTTPOptions
from recbole_exp3rt.llm.server.urls import bare, wrong_with
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.choice import ITEM_PROFILES
from recbole_exp3rt.stages.pipeline import StageSettings

TASKS = ("rating", "rerank")
EXPORTS = ("parquet", "csv", "jsonl")
CalibrationKind = Literal["none", "affine", "blend"]
CALIBRATIONS: tuple[CalibrationKind, ...] = ("none", "affine", "blend")
SCALE = ("lowest", "highest", "step")  # the parts of `rating_scale`
MOST_RATING = 1e12  # the absolute value of every rating is smaller
MIN_ANSWERS = 10  # with fewer validation answers, nothing is calibrated

# Keys that name files, servers or secrets. Only the user sets them, never a file of another person.
PLACES = frozenset(
    {"base_url", "api_key_env", "store_path", "prompt_dir", "prices", "ledger", "batch_dir"}
    | {"data_path", "review_file", "adapter", "log_file", "fit_cache"}
)

Name = TypeVar("Name", bound=str)


class Lookup(Protocol):
    """A RecBole Config or a similar mapping: it returns None for an unknown key."""

    def __getitem__(self, key: str) -> Any:
        """The value of `key`, or None."""
        ...


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
    rerank_users: int | None
    baselines: tuple[str, ...]
    refit: bool
    trust_checkpoint: bool
    save_checkpoints: bool
    result_file: str | None
    export_dir: str | None
    export_format: str
    export_safe_cells: bool
    explanations: int
    overwrite: bool
    dry_run: bool
    log_file: str | None
    fit_cache: str | None
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
            rerank_users=read.whole_or_none("rerank_users"),
            baselines=read.text_list("baselines"),
            refit=read.flag("refit"),
            trust_checkpoint=read.flag("trust_checkpoint"),
            save_checkpoints=read.flag("save_checkpoints"),
            result_file=read.text_or_none("result_file"),
            export_dir=read.text_or_none("export_dir"),
            export_format=read.one_of("export_format", EXPORTS),
            export_safe_cells=read.flag("export_safe_cells"),
            explanations=read.whole("explanations", least=0),
            overwrite=read.flag("overwrite"),
            dry_run=read.flag("dry_run"),
            log_file=read.text_or_none("log_file"),
            fit_cache=read.text_or_none("fit_cache"),
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
class Settings:
    """The settings of EXP3RT: the models of its steps, their options and limits."""

    stages: StageSettings
    student: str
    preference_model: str
    profile_model: str
    rating_model: str
    adapter: str | None
    prompt_dir: str | None
    store_path: str
    batch_tokens: int | None
    threads: int | None
    dtype: str | None
    quantization: str | None
    description_fields: Mapping[str, str]
    review_file: str | None
    shown_extractions: int
    calibration: CalibrationKind
    calibration_pairs: int
    http: HTTPOptions
    budget: float | None
    prices: str | None
    ledger: str

    @classmethod
    def from_config(cls, config: Lookup) -> Settings:
        """Read and check the keys. Raises: UsageError with the key, the value and the remedy."""
        read = Reader(config)
        student = read.text("student")
        return cls(
            stages=StageSettings(
                scale=read_scale(config),
                item_word=read.text("item_word"),
                use_reasoning=read.flag("use_reasoning"),
                use_bias=read.flag("use_bias"),
                max_prompt_tokens=read.whole("max_prompt_tokens", least=64),
                max_new_tokens=read.whole("max_new_tokens"),
                preference_new_tokens=read.whole("preference_new_tokens"),
                profile_new_tokens=read.whole("profile_new_tokens"),
                max_review_tokens=read.whole_or_none("max_review_tokens", least=16),
                profile_reviews=read.whole_or_none("profile_reviews"),
                item_profile=read.one_of("item_profile", ITEM_PROFILES),
                helpful_top=read.whole("helpful_top"),
                neighbors=read.whole("neighbors"),
                profile_leave_one_out=read.flag("profile_leave_one_out"),
            ),
            student=student,
            preference_model=for_step(
                read.text_or_none("preference_model") or student, "preference"
            ),
            profile_model=for_step(read.text_or_none("profile_model") or student, "profile"),
            rating_model=for_step(read.text_or_none("rating_model") or student, "rating"),
            adapter=read.text_or_none("adapter"),
            prompt_dir=read.text_or_none("prompt_dir"),
            store_path=read.text("store_path"),
            batch_tokens=read.whole_or_none("batch_tokens", least=256),
            threads=read.whole_or_none("threads"),
            dtype=read.text_or_none("dtype"),
            quantization=read.text_or_none("quantization"),
            description_fields=read.names("description_fields"),
            review_file=read.text_or_none("review_file"),
            shown_extractions=read.whole("shown_extractions", least=0),
            calibration=read.one_of("calibration", CALIBRATIONS),
            calibration_pairs=read.whole("calibration_pairs", least=MIN_ANSWERS),
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
            ledger=read.text_or_none("ledger")
            or str(Path(read.text("store_path")).with_name("ledger.jsonl")),
        )


def read_scale(config: Lookup) -> RatingScale:
    """Read `rating_scale`: [lowest, highest], [lowest, highest, step], or a map of these names.

    Raises: UsageError for other values, and for more levels than a prompt can list.
    """
    given = config["rating_scale"]
    value = given
    if isinstance(given, Mapping) and {*given} <= {*SCALE} and {*SCALE[:2]} <= {*given}:
        value = [given[name] for name in SCALE if name in given]
    if (
        not isinstance(value, (list, tuple))
        or len(value) not in (2, 3)
        or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        or not all(abs(v) < MOST_RATING for v in value)  # False for NaN
        or not value[0] < value[1]
    ):
        raise UsageError(
            f"rating_scale={given!r:.200} is not [lowest, highest] in whole numbers, such as "
            "[1, 5], nor [lowest, highest, step], such as [0.5, 5, 0.5]"
        )
    if len(value) == 2 and not all(v == int(v) for v in value):
        low, high = value
        raise UsageError(
            f"rating_scale={given!r} has levels between whole numbers, but no distance "
            f"between levels; give the step: [{low}, {high}, 0.5] for half stars"
        )
    try:
        return RatingScale.between(*value)
    except ValueError as error:
        raise UsageError(f"rating_scale={given!r}: {error}") from None


def read_names(key: str, value: Any) -> tuple[str, ...]:
    """Read a name or a list of names, also as a text without quotes: `[MF,WDL]`. None: no names.

    Raises: UsageError for other values.
    """
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        value = [part.strip() for part in value[1:-1].split(",")]  # as a shell passes it on
    values = [] if value is None else value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(v, str) and v for v in values):
        raise UsageError(f"{key}={value!r} is not a name or a list of names")
    return tuple(values)


class Reader:
    """Reads and checks one key at a time.

    Every method raises UsageError if the value is not of its kind. A method `…_or_none` also
    accepts None.
    """

    def __init__(self, config: Lookup) -> None:
        """Read from `config`."""
        self.config = config

    def _take(self, key: str, fits: Callable[[Any], bool], allowed: str) -> Any:
        """The value, if it `fits`. `allowed` says in the error what does."""
        value = self.config[key]
        if not fits(value):
            raise UsageError(f"{key}={value!r} is not {allowed}")
        return value

    def text(self, key: str) -> str:
        """A text that is not empty."""
        return str(self._take(key, lambda v: isinstance(v, str) and v != "", "a text"))

    def text_or_none(self, key: str) -> str | None:
        """A text that is not empty, or None."""
        return None if self.config[key] is None else self.text(key)

    def one_of(self, key: str, allowed: Sequence[Name]) -> Name:
        """One of the names `allowed`."""
        value = self.config[key]
        for name in allowed:  # RecBole reads the word none as None
            if value == name or (value is None and name == "none"):
                return name
        hint = nearest(str(value), allowed)
        raise UsageError(f"{key}={value!r} is not one of {', '.join(allowed)}{hint}")

    def flag(self, key: str) -> bool:
        """True or False."""
        return bool(self._take(key, lambda v: isinstance(v, bool), "True or False"))

    def flag_or_none(self, key: str) -> bool | None:
        """True, False or None."""
        return None if self.config[key] is None else self.flag(key)

    def whole(self, key: str, least: int = 1, most: int | None = None) -> int:
        """A whole number from `least` to `most`; None: no upper limit."""

        def fits(value: Any) -> bool:
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and least <= value and (most is None or value <= most)

        allowed = "on" if most is None else f"to {most}"
        return int(self._take(key, fits, f"a whole number from {least} {allowed}"))

    def whole_or_none(self, key: str, least: int = 1) -> int | None:
        """A whole number from `least` on, or None."""
        return None if self.config[key] is None else self.whole(key, least)

    def whole_list(self, key: str) -> tuple[int, ...]:
        """One or several whole numbers from 1 on."""
        value = self.config[key]
        values = value if isinstance(value, (list, tuple)) else [value]
        if not values or not all(isinstance(v, int) and v > 0 for v in values):
            raise UsageError(f"{key}={value!r} is not a list of whole numbers from 1 on")
        return tuple(values)

    def number_or_none(self, key: str) -> float | None:
        """A number, or None."""
        if self.config[key] is None:
            return None
        value = self._take(
            key, lambda v: isinstance(v, (int, float)) and not isinstance(v, bool), "a number"
        )
        return float(value)

    def text_list(self, key: str) -> tuple[str, ...]:
        """A name or a list of names; none for None."""
        return read_names(key, self.config[key])

    def seconds(self, key: str) -> float:
        """A time in seconds, above 0."""
        value = self.number_or_none(key)
        if value is None or value <= 0:
            raise UsageError(f"{key}={value!r} is not a number of seconds above 0")
        return value

    def dollars_or_none(self, key: str) -> float | None:
        """An amount in US dollars from 0 on, or None."""
        value = self.number_or_none(key)
        if value is not None and not 0 <= value < math.inf:
            raise UsageError(f"{key}={value!r} is not a number of US dollars from 0 on")
        return value

    def urls(self, key: str) -> tuple[str, ...]:
        """One or several URLs of servers."""
        urls = self.text_list(key)
        for url in urls:
            if reason := wrong_with(url):
                raise UsageError(
                    f"{key}={bare(url)!r} is not a URL such as http://127.0.0.1:8000/v1: {reason}"
                )
        return urls

    def variable(self, key: str) -> str:
        """The name of an environment variable. Other values may be secrets, so none is shown."""
        value = self.config[key]
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise UsageError(
                f"{key} is not the name of an environment variable, such as OPENAI_API_KEY; "
                "put the key itself into that variable"
            )
        return value

    def names(self, key: str, what: str = "columns of the .item file to labels") -> dict[str, str]:
        """A map of texts; {} for None. `what` says in the error what it should map."""
        value = self.config[key] or {}
        if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
            raise UsageError(f"{key}={value!r} does not map {what}")
        return {str(name): text for name, text in value.items()}

    def tasks(self) -> tuple[str, ...] | None:
        """The setting `task` as a tuple, or None."""
        return None if self.config["task"] is None else (self.one_of("task", TASKS),)
