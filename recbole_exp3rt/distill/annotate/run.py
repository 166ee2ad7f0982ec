"""Annotation of a data set: settings in, a folder of training data out.

It loads the split and the teacher, prints the plan, runs the `Annotator` and writes the folder.
Every answer is stored when it arrives, so that a stopped run can be continued.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.load import load_config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import Part, Split, load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.display.notes import noting, quiet
from recbole_exp3rt.display.progress import ConsoleProgress
from recbole_exp3rt.display.steps import log, logged
from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.distill.annotate.annotated import Annotated, TaskCount
from recbole_exp3rt.distill.annotate.annotator import Annotator
from recbole_exp3rt.distill.annotate.options import AnnotateSettings
from recbole_exp3rt.distill.annotate.plan import Calls, plan
from recbole_exp3rt.distill.annotate.training_data import (
    CARD,
    DataCard,
    check_folder,
    counts_of,
    write_rejected,
    write_training_data,
)
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.card import check_unseen
from recbole_exp3rt.llm.cost.estimate import Estimate
from recbole_exp3rt.llm.cost.opening import open_ledger
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.names import is_served
from recbole_exp3rt.llm.server.openai_llm import bytes_by_three
from recbole_exp3rt.llm.stores.opening import open_store
from recbole_exp3rt.llm.stores.places import shown
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.prompts import Prompts, load_prompts
from recbole_exp3rt.records import Review
from recbole_exp3rt.sample.oracle import OracleTeacher

STORED = "store:"  # teacher=store:IDENTITY reads stored answers and asks nobody


def annotate(
    dataset: str | None,
    *,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    arguments: Sequence[str] | None = None,
) -> Path:
    """Annotate `dataset` and return the folder of training data; a dry run prints its plan alone.

    Raises: UsageError, LLMError with a message of one line; no half-written file is left.
    """
    console = console or Console(quiet=True)
    with quiet():
        config = load_config("EXP3RT", dataset, config_files, config_dict, console, arguments)
        with logged(config["log_file"], console):
            log(f"annotate {config.dataset}: {config.given()}")
            return annotate_config(config, console)


def annotate_config(config: Config, console: Console) -> Path:
    """`annotate` with settings that are already read. Raises: UsageError, LLMError."""
    settings = Settings.from_config(config)
    own = AnnotateSettings.from_config(
        config, config.dataset, use_reasoning=settings.stages.use_reasoning
    )
    check_folder(own.folder)
    if (own.folder / CARD).is_file() and not config["overwrite"]:
        raise UsageError(
            f"annotate_dir={own.folder} holds training data already; name another folder, or add "
            "--overwrite"
        )
    ready = _ready(config, settings, own, console)
    split, teacher, annotator = ready.split, ready.teacher, ready.annotator
    console.print(
        f"{escape(config.dataset)}: {len(annotator.train):,} train and "
        f"{len(annotator.valid):,} valid interactions; split {split.digest[:12]}; "
        f"teacher {escape(teacher.identity)}"
    )
    for limit in settings.stages.limits():
        console.print(f"  {limit}")
    print_plan(console, plan(annotator, teacher), own.teacher, settings.prices, settings.ledger)
    if config["dry_run"]:
        return own.folder
    try:
        made = annotator.run()
    except LLMError:
        if annotator.rejected:
            try:
                listed = str(write_rejected(own.folder, annotator.rejected))
            except OSError as error:  # the error that stopped the run is more important
                listed = f"could not be written, {error}"
            console.print(f"Rejected answers: {escape(listed)}")
        raise
    card = _card(config, settings, own, split.digest, teacher.identity, ready.prompts, made)
    write_training_data(own.folder, made.examples, card, made.rejected)
    _print_summary(console, made, teacher.calls)
    if spent := getattr(teacher.llm, "spent", None):
        console.print(f"Paid by this run: {escape(str(spent))} ({escape(shown(settings.ledger))})")
    console.print(f"Training data: {escape(str(own.folder))}")
    return own.folder


def plan_annotation(config: Config, console: Console) -> Estimate:
    """What `annotate_config` would ask the teacher, at most. Raises: UsageError, LLMError."""
    settings = Settings.from_config(config)
    own = AnnotateSettings.from_config(
        config, config.dataset, use_reasoning=settings.stages.use_reasoning
    )
    ready = _ready(config, settings, own, console)
    return _estimate(plan(ready.annotator, ready.teacher), own.teacher, settings.prices)


@dataclass(frozen=True)
class _Ready:
    split: Split
    prompts: Prompts
    teacher: CachedLLM
    annotator: Annotator


def _ready(config: Config, settings: Settings, own: AnnotateSettings, console: Console) -> _Ready:
    """All that an annotation needs, checked before anybody is asked."""
    prompts = load_prompts(settings.prompt_dir)
    with noting(console):
        split = load_split(config)
    test = split.pairs("test")
    check_unseen(own.teacher, test)
    with noting(console):
        corpus = corpus_of(split.train, settings.description_fields, settings.review_file)
    # The card lists pairs, so a pair in train and in test must not be shown to a student at all.
    corpus = corpus.without(test)
    teacher = load_teacher(settings, own)
    annotator = Annotator(
        corpus,
        rated_rows(split, "valid"),
        teacher,
        prompts,
        settings.stages,
        own,
        ConsoleProgress(console),
    )
    return _Ready(split, prompts, teacher, annotator)


def load_teacher(settings: Settings, own: AnnotateSettings) -> CachedLLM:
    """The teacher with the store of answers around it; only what is not stored is asked and paid.

    `store:IDENTITY` answers from the store alone, with the stored answers of that model.
    Raises: LLMError, UsageError.
    """
    if own.teacher.startswith(STORED):
        identity = own.teacher.removeprefix(STORED)
        store = open_store(settings.store_path)
        if identity not in (known := store.identities()):
            raise UsageError(
                f"teacher={own.teacher}: {store.name} has no answers of this name; "
                f"it has answers of {', '.join(known) or 'no model'}"
            )
        return CachedLLM(None, store, identity=identity, count_tokens=bytes_by_three)
    return LanguageModels(settings).get(own.teacher)


def print_plan(
    console: Console, steps: Sequence[Calls], teacher: str, prices: str | None, ledger: str
) -> None:
    """Print calls, tokens and the highest price, before anything is asked."""
    for step in steps:
        console.print(f"  {escape(step)}")
    console.print(f"  at most {escape(str(_estimate(steps, teacher, prices)))}")
    if is_served(teacher):
        console.print(f"  spent so far: {escape(str(open_ledger(ledger)))}")


def _estimate(steps: Sequence[Calls], teacher: str, prices: str | None) -> Estimate:
    prompt, new = sum(step.prompt_tokens for step in steps), sum(step.new_tokens for step in steps)
    return Prices.load(prices).estimate(sum(step.to_ask for step in steps), prompt, new, teacher)


def rated_rows(split: Split, part: Part) -> list[Review]:
    """The interactions of a part as reviews with ratings, without texts."""
    if not split.size(part):
        return []
    rows = zip(split.pairs(part), split.ratings(part).tolist(), strict=True)
    return [Review(user, item, rating) for (user, item), rating in rows]


def _card(
    config: Config,
    settings: Settings,
    own: AnnotateSettings,
    split: str,
    teacher: str,
    prompts: Prompts,
    made: Annotated,
) -> DataCard:
    stages = asdict(settings.stages)
    stages["scale"] = settings.stages.scale.setting
    rejected = {task: count.rejected for task, count in made.task_counts.items()}
    steps = ["preferences", "profiles", *(["rationales"] if settings.stages.use_reasoning else [])]
    return DataCard(
        dataset=config.dataset,
        split=split,
        teacher=dict.fromkeys(steps, teacher),
        prompts=prompts.digest,
        settings={**own.card_settings(), **stages, **({"prior": made.prior} if made.prior else {})},
        train_pairs=made.train_pairs,
        counts=counts_of(made.examples, rejected),
        synthetic=teacher == OracleTeacher.identity,
    )


def _print_summary(console: Console, made: Annotated, calls: int) -> None:
    for task, (train, valid) in made.examples.items():
        count = made.task_counts.get(task, TaskCount())
        asked = f"{count.asked:,} asked for, {count.kept:,} kept; " if count.asked else ""
        console.print(f"{task}: {asked}{len(train):,} train and {len(valid):,} valid examples")
        for reason, number in count.rejected.items():
            console.print(f"  rejected {number:,}: {escape(reason)}")
    resampled = made.resampled
    again = f", {resampled:,} of them because an answer was rejected" if resampled else ""
    console.print(f"{calls:,} calls of the teacher{again}")
