"""Metrics of texts that papers on explanations report, for comparability.

BLEU by sacrebleu, ROUGE by rouge-score, BERTScore by bert-score: against the review that the user
wrote. USR, DIV, FCR and FMR are those of Li, Zhang and Chen, "Generate Neural Template
Explanations for Recommendation" (CIKM 2020); features are the topics of statements. None of them
says whether an explanation is true: see `grounding.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from recbole_exp3rt.encode.encoders import layers_of, source_of
from recbole_exp3rt.errors import UsageError

EXTRA = "pip install 'recbole-exp3rt[explain]'"
BERT_EXTRA = "pip install 'recbole-exp3rt[bertscore]'"
ENCODE_EXTRA = "pip install 'recbole-exp3rt[encode]'"
ROUGES = ("rouge1", "rouge2", "rougeL")
Topics = Sequence[Collection[str]]  # of each explanation


def text_metrics(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU-4 of the corpus, mean F1 of ROUGE-1, -2 and -L, all 0 to 100; USR.

    texts, references: [n]. A pair whose reference is empty counts for USR alone.
    Raises: UsageError without the packages.
    """
    bleu = _package("sacrebleu", EXTRA)
    rouge = _package("rouge_score.rouge_scorer", EXTRA)
    found = {"USR": unique_share(texts)}
    rows = [pair for pair in zip(texts, references, strict=True) if pair[1].strip()]
    if not rows:
        return found
    said, wanted = [text for text, _ in rows], [reference for _, reference in rows]
    found["BLEU"] = float(bleu.corpus_bleu(said, [wanted]).score)
    scorer = rouge.RougeScorer(list(ROUGES), use_stemmer=True)
    scores = [scorer.score(reference, text) for text, reference in rows]
    for name in ROUGES:
        label = name.replace("rouge", "ROUGE-")
        found[label] = 100 * sum(one[name].fmeasure for one in scores) / len(scores)
    return found


def bert_score(
    texts: Sequence[str], references: Sequence[str], *, model: str | None = None
) -> dict[str, float]:
    """Mean F1 of BERTScore, 0 to 1, without rescaling.

    model: `minilm`, a hub id or a folder; None: the package's own for English. Of a model that the
    package does not know the last layer is taken, and its name is in the name of the metric: the
    figures of two models do not compare.
    Raises: UsageError without the package, or if there is no such model.
    """
    package = _package("bert_score", BERT_EXTRA)
    rows = [pair for pair in zip(texts, references, strict=True) if pair[1].strip()]
    if not rows:
        return {}
    said, wanted = [text for text, _ in rows], [reference for _, reference in rows]
    if model is None:
        *_, f1 = package.score(said, wanted, lang="en")
        return {"BERTScore": float(f1.mean())}
    try:
        where = source_of(model)
    except ImportError:
        raise UsageError(f"bertscore_model={model} needs {ENCODE_EXTRA}") from None
    try:
        layers = package.utils.model2layers.get(where) or layers_of(where)
    except (OSError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"bertscore_model={model} cannot be loaded: {reason}") from error
    try:
        *_, f1 = package.score(said, wanted, model_type=where, num_layers=layers)
    except OverflowError:
        reason = "its tokenizer_config.json has no model_max_length"
        raise UsageError(f"bertscore_model={model} cannot be used: {reason}") from None
    return {f"BERTScore ({Path(model).name})": float(f1.mean())}


def unique_share(texts: Sequence[str]) -> float:
    """USR: different explanations over all explanations; 1 is best."""
    return len(set(texts)) / len(texts) if texts else float("nan")


def feature_metrics(said: Topics, wanted: Topics) -> dict[str, float]:
    """DIV, FCR and FMR of explanations; said, wanted: features of texts and references, [n].

    DIV: mean number of features that two explanations share, lower is better. FCR: share of all
    features of references that some explanation names. FMR: share of the references' features that
    the explanation of their pair names. What has no value, as there is no feature, is left out.
    """
    found: dict[str, float] = {}
    n = len(said)
    counts = Counter(topic for own in said for topic in set(own))
    if n > 1:
        found["DIV"] = sum(k * (k - 1) / 2 for k in counts.values()) / (n * (n - 1) / 2)
    known = {topic for own in wanted for topic in own}
    if known:
        found["FCR"] = len(known & counts.keys()) / len(known)
        rows = [topic in own for own, target in zip(said, wanted, strict=True) for topic in target]
        found["FMR"] = sum(rows) / len(rows)
    return found


def _package(name: str, remedy: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"these metrics need {error.name}: {remedy}") from error
