"""A whole judgement: reads explanations, asks the judges, writes judge.json, .md and .html."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_exp3rt.config.layers import over_defaults
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.display.progress import ConsoleProgress
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.criteria import chosen_criteria
from recbole_exp3rt.explain.explanations import Explanations, read_explanations
from recbole_exp3rt.explain.judge import Duel, Judge, Judgement, duels_of
from recbole_exp3rt.explain.judge_probe import probe, probe_requests, probes_of
from recbole_exp3rt.explain.judge_report import Judged, findings, judge_report
from recbole_exp3rt.llm.base import LLM, LLMError, Request, text_of
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.estimate import Estimate
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.names import load_llm
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.paths import check_new, write_atomic
from recbole_exp3rt.report.content import Report
from recbole_exp3rt.report.forms import markdown, without_nan
from recbole_exp3rt.report.page import html_page

FILES = ("judge.json", "judge.md", "judge.html")
Load = Callable[..., LLM]


@dataclass(frozen=True)
class JudgeOptions:
    """Options of a judgement, checked; `properties/judge.yaml` explains each."""

    judges: tuple[str, ...]
    n: int | None
    criteria: tuple[str, ...]
    systems: tuple[str, ...]
    all_pairs: bool
    item_word: str
    evidence_tokens: int
    length_probes: int
    seed: int
    output: str
    overwrite: bool
    dry_run: bool
    models: ModelSettings

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> JudgeOptions:
        """The options that are `given`, over the defaults. Raises: UsageError."""
        config = over_defaults(given, "llm", "judge", what="setting of a judge")
        read = Reader(config)
        return cls(
            judges=tuple(dict.fromkeys(read.text_list("judge"))),
            n=read.whole_or_none("n"),
            criteria=chosen_criteria(read.text_list("criteria")),
            systems=tuple(dict.fromkeys(read.text_list("systems"))),
            all_pairs=read.flag("all_pairs"),
            item_word=read.text("item_word"),
            evidence_tokens=read.whole("evidence_tokens"),
            length_probes=read.whole("length_probes", least=0),
            seed=read.whole("seed", least=0, most=2**32 - 1),
            output=read.text("output"),
            overwrite=read.flag("overwrite"),
            dry_run=read.flag("dry_run"),
            models=ModelSettings.from_config(config),
        )


def judge(
    files: Sequence[str],
    given: Mapping[str, Any] | None = None,
    *,
    console: Console | None = None,
    load: Load = load_llm,
) -> Judged | None:
    """Compare the explanations in `files` and write the report; None of a dry run.

    given: settings of `properties/judge.yaml` and `llm.yaml`. load: makes a model of its name.
    Raises: UsageError, LLMError for whatever cannot be; answers so far are kept in the store.
    """
    console = console or Console(quiet=True)
    options = JudgeOptions.read(given or {})
    if not options.judges:
        raise UsageError("no judge is named; give --judge=NAME, such as openai:MODEL")
    for name in FILES:
        check_new("output", Path(options.output) / name, overwrite=options.overwrite)
    explanations = read_explanations(
        files, options.n, seed=options.seed, systems=options.systems, least=2
    )
    duels = duels_of(explanations, options.criteria, all_pairs=options.all_pairs)
    say(console, _of(explanations, duels))
    models = LanguageModels(options.models, load)
    judges = [
        Judge.of(
            name,
            models.get(name),
            prompt_dir=options.models.prompt_dir,
            item_word=options.item_word,
            evidence_tokens=options.evidence_tokens,
        )
        for name in options.judges
    ]
    probes = probes_of(explanations, options.length_probes, seed=options.seed)
    criterion = options.criteria[-1]
    for one in judges:
        asked = one.requests(explanations, duels) + probe_requests(one, probes, criterion)
        say(console, _plan(one, asked, options.models.prices))
    if options.dry_run:
        return None
    progress = ConsoleProgress(console)
    found = {one.name: one.judge(explanations, duels, progress) for one in judges}
    _check_readable(found)
    judged = Judged(
        explanations,
        found,
        {one.name: one.llm.identity for one in judges},
        {
            one.name: list(zip(probes.users, probe(one, probes, criterion, progress), strict=True))
            for one in judges
        },
        options.seed,
        {**_about(options, judges), "files": list(files), "paid": asdict(models.spent)},
    )
    _write(judged, Path(options.output), console)
    return judged


def _check_readable(found: Mapping[str, Sequence[Judgement]]) -> None:
    """Raises: LLMError if a judge gave no answer that can be read."""
    for name, judgements in found.items():
        if not any(one.readable for one in judgements):
            reasons = [reason for one in judgements for reason in one.reasons]
            raise LLMError(f"{name} gave no verdict that could be read: {reasons[0]}")


def _about(options: JudgeOptions, judges: Sequence[Judge]) -> dict[str, Any]:
    """What the judgement was made with; no address and no key."""
    kept = ["judges", "n", "criteria", "all_pairs", "item_word", "evidence_tokens"]
    kept += ["length_probes", "seed"]
    digests = {one.name: one.prompt_digest for one in judges}
    return {key: getattr(options, key) for key in kept} | {"prompt_digests": digests}


def _of(explanations: Explanations, duels: Sequence[Duel]) -> str:
    names, n = ", ".join(explanations.systems), len(explanations.pairs)
    users = len(set(explanations.users))
    return (
        f"Explanations of {names}: {n:,} of {explanations.shared:,} shared pairs, {users:,} users, "
        f"{len(duels):,} duels, each in both orders"
    )


def _plan(judge: Judge, requests: Sequence[Request], prices: str | None) -> str:
    """How many answers the store has, and what the others may cost."""
    llm = judge.llm
    stored = llm.stored(requests) if isinstance(llm, CachedLLM) else 0
    table = Prices.load(prices)
    price = table.price(judge.name)
    share = (len(requests) - stored) / len(requests) if requests else 0.0
    prompt = round(share * sum(llm.count_tokens(text_of(one.messages)) for one in requests))
    new = judge.evidence_tokens * (len(requests) - stored)
    cost = None if price is None else price.of(prompt, new)
    estimate = Estimate(len(requests) - stored, prompt, new, cost, judge.name, table.as_of)
    return f"Judge: {stored:,} answers are in the store; to ask: {estimate}"


def _write(judged: Judged, folder: Path, console: Console) -> None:
    report = judge_report(judged)
    texts = {
        "judge.json": judged_json(judged, report),
        "judge.md": markdown(report),
        "judge.html": html_page(report),
    }
    for line in findings(judged.trust, judged.standings):
        say(console, line)
    for name in FILES:
        write_atomic(folder / name, texts[name])
    say(console, f"Report: {folder / 'judge.html'}")


def judged_json(judged: Judged, report: Report) -> str:
    """All judgements, what they add up to, and where they come from, as JSON."""
    found = judged.explanations
    trust = [
        {**asdict(one), "unreadable": one.unreadable, "faults": one.faults, "trusted": one.trusted}
        for one in judged.trust
    ]
    body = {
        "version": report.version,
        "date": report.date,
        "dataset": found.dataset,
        "split_digest": found.split_digest,
        "about": dict(judged.about),
        "judges": dict(judged.identities),
        "writers": found.writers,
        "trust": trust,
        "preferences": [asdict(one) for one in judged.standings],
        "at_matched_length": [asdict(one) for one in judged.matched],
        "judgements": [
            _judgement(judged, name, one)
            for name, all_ in judged.judgements.items()
            for one in all_
        ],
    }
    return json.dumps(without_nan(body), indent=1, ensure_ascii=False, default=str) + "\n"


def _judgement(judged: Judged, judge: str, one: Judgement) -> dict[str, Any]:
    pair = judged.explanations.pairs[one.duel.pair]
    return {
        "judge": judge,
        "user": pair.user,
        "item": pair.item,
        "criterion": one.duel.criterion,
        "one": one.duel.one,
        "other": one.duel.other,
        "first": one.first,
        "turned": one.second,
        "verdict": one.verdict,
        "evidence": one.evidence,
        **({"same": True} if one.same else {}),
        **({"unreadable": one.reasons} if one.reasons else {}),
    }
