"""The profiles that the authors' teacher wrote, as training data of a student.

`user_valid.json` and `item_valid.json` become train files, `user_test.json` and `item_test.json`
validation files. Each is a list of {instruction, input, output}: `input` contains the preferences
of one user or item, with a line `---` after those of each review, and `output` the profile. Our
prompt replaces their instruction. There are no ids, so the interactions behind a profile are
unknown.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from dataset_converters.read import records
from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task
from recbole_exp3rt.distill.annotate.quality_gate import reject_profile
from recbole_exp3rt.distill.annotate.training_data import DataCard, counts_of, write_training_data
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion
from recbole_exp3rt.prompts import Prompt, load_prompts
from recbole_exp3rt.records import Preference, Subject
from recbole_exp3rt.stages import profile
from recbole_exp3rt.stages.lists import Unreadable, list_answer, parse_lists
from recbole_exp3rt.text import without_surrogates

TASKS: dict[Subject, Task] = {"user": "user_profile", "item": "item_profile"}
FILES = ("valid", "test")  # the authors' names of our train and valid part
# The limit of the released code for a whole example, less the tokens of a chat template.
MAX_TOKENS = 1200 - 40
# An estimate without a tokenizer. With the embedded student's, these rows have 3.3 or more.
BYTES_PER_TOKEN = 3.3

_BETWEEN = re.compile(r"^[^\S\n]*---\s*$", re.MULTILINE)


def convert_profiles(input_path: Path, output_path: Path, item_word: str = "movie") -> str:
    """Write the folder of training data; return its counts as printable lines.

    Raises: UsageError if a file is missing or has another format.
    """
    item_word = without_surrogates(item_word)
    prompts = load_prompts()
    examples: dict[Task, Parts] = {}
    rejected: list[dict[str, Any]] = []
    reasons: dict[Task, Counter[str]] = {task: Counter() for task in TASKS.values()}
    for subject, task in TASKS.items():
        prompt = prompts.user_profile if subject == "user" else prompts.item_profile
        parts: list[tuple[Example, ...]] = []
        for name in FILES:
            made = []
            for pair in _pairs(_file(input_path, subject, name)):
                example = _example(task, prompt, *pair, item_word) if pair else "malformed"
                if isinstance(example, Example):
                    made.append(example)
                    continue
                reasons[task][example] += 1
                row = {"task": task, "user": None, "item": None}
                rejected.append({**row, "reason": example, "answer": pair[1] if pair else ""})
            parts.append(tuple(made))
        examples[task] = (parts[0], parts[1])
    card = DataCard(
        dataset=output_path.resolve().name,
        split=None,
        teacher={"profiles": "GPT-3.5, as released by the paper's authors"},
        prompts=prompts.digest,
        settings={"item_word": item_word, "max_tokens": MAX_TOKENS},
        train_pairs=[],
        counts=counts_of(examples, reasons),
        synthetic=False,
        note="released without ids: which interactions stand behind the profiles is unknown",
    )
    write_training_data(output_path, examples, card, rejected)
    lines = [f"{card.dataset}: profiles released by the authors"]
    for task, count in card.counts.items():
        lines.append(f"  {task}: {count.train:,} train, {count.valid:,} valid")
        lines += [f"  dropped {n:,}: {reason}" for reason, n in count.rejected.items()]
    return "\n".join(lines)


def _file(folder: Path, subject: Subject, name: str) -> Path:
    """A file of the release, in the folder or in the authors' folder in it."""
    path = folder / f"{subject}_{name}.json"
    inner = folder / f"{subject}_profile" / path.name
    return inner if inner.is_file() and not path.exists() else path


def _pairs(path: Path) -> list[tuple[str, str] | None]:
    """The texts (preferences, profile) of each entry; None for an entry without them."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist; name its folder as --input_path")
    pairs = [_pair(found) for found in records(path)]
    if not any(pairs):
        raise UsageError(
            f"{path} is not a JSON list of entries with input and output; check the file"
        )
    return pairs


def _pair(found: object) -> tuple[str, str] | None:
    """The texts (preferences, profile) of one entry; None if one is missing."""
    entry = found if isinstance(found, dict) else {}
    preferences, profile = entry.get("input"), entry.get("output")
    if isinstance(preferences, str) and isinstance(profile, str):
        return without_surrogates(preferences), without_surrogates(profile)
    return None


def _example(task: Task, prompt: Prompt, given: str, answer: str, item_word: str) -> Example | str:
    """Make an example, or say why not. If it is too long, the oldest preferences are left out."""
    try:
        blocks = [parse_lists(block) for block in _BETWEEN.split(given) if "[" in block]
    except Unreadable:
        return "preferences not in the form [Like] … [Dislike] …"
    preferences = [Preference("", "", *block) for block in blocks if block != ((), ())]
    if fault := reject_profile(Completion(answer), bool(preferences), forced=False):
        return fault
    answer_text = list_answer(*parse_lists(answer))
    try:
        request = profile.request(
            preferences,
            prompt,
            item_word=item_word,
            max_prompt_tokens=MAX_TOKENS - _count(answer_text),
            max_new_tokens=1,
            count=_count,
        )
    except Unreadable as error:
        return str(error)
    return Example(task, request.messages, answer_text)


def _count(text: str) -> int:
    """Estimated number of tokens."""
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)
