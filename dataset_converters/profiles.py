"""The authors' released teacher answers about profiles, as training data of a student.

`user_valid.json` and `item_valid.json` become train files, `user_test.json` and `item_test.json`
valid ones: lists of {instruction, input, output}, where `input` holds the preferences of one user
or item, with a line `---` after each review's, and `output` the profile. Their instruction gives
way to our prompt; nobody's id is told, so which interactions stand behind a pair is unknown.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from dataset_converters.read import records
from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task
from recbole_exp3rt.distill.annotate.quality_gate import profile_fault
from recbole_exp3rt.distill.annotate.training_data import DataCard, counts_of, write_training_data
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion
from recbole_exp3rt.prompts import Prompt, load_prompts
from recbole_exp3rt.records import Preference, Subject
from recbole_exp3rt.stages import profile
from recbole_exp3rt.stages.lists import Unreadable, list_answer, parse_lists
from recbole_exp3rt.text import whole

TASKS: dict[Subject, Task] = {"user": "user_profile", "item": "item_profile"}
FILES = ("valid", "test")  # the authors' names of what becomes train and valid
# Of a whole example (the released code's limit), with room for what a chat template adds.
MAX_TOKENS = 1200 - 40
# There is no tokenizer here. Measured with the embedded student's on these rows: 3.3 at least.
BYTES_PER_TOKEN = 3.3

_BETWEEN = re.compile(r"^[^\S\n]*---\s*$", re.MULTILINE)


def convert_profiles(input_path: Path, output_path: Path, item_word: str = "movie") -> str:
    """Write the training data folder; return its counts as printable lines.

    Raises: UsageError if a file is missing or not of that form.
    """
    item_word = whole(item_word)
    prompts = load_prompts()
    examples: dict[Task, Parts] = {}
    rejected: list[dict[str, Any]] = []
    reasons: dict[Task, Counter[str]] = {task: Counter() for task in TASKS.values()}
    for subject, task in TASKS.items():
        prompt = prompts.user_profile if subject == "user" else prompts.item_profile
        parts: list[tuple[Example, ...]] = []
        for name in FILES:
            made = []
            for pair in _pairs(input_path / f"{subject}_{name}.json"):
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


def _pairs(path: Path) -> list[tuple[str, str] | None]:
    """(preferences, profile) of each entry, as they are written; None for one that has none."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist; name the folder that holds it as --input_path")
    pairs = [_pair(found) for found in records(path)]
    if not any(pairs):
        raise UsageError(
            f"{path} is not a JSON list of entries with input and output; check the file"
        )
    return pairs


def _pair(found: object) -> tuple[str, str] | None:
    entry = found if isinstance(found, dict) else {}
    told, answer = entry.get("input"), entry.get("output")
    if isinstance(told, str) and isinstance(answer, str):
        return whole(told), whole(answer)
    return None


def _example(task: Task, prompt: Prompt, told: str, answer: str, item_word: str) -> Example | str:
    """An example, or why there is none. Preferences go, oldest first, where room is short."""
    try:
        blocks = [parse_lists(block) for block in _BETWEEN.split(told) if "[" in block]
    except Unreadable:
        return "preferences not in the form [Like] … [Dislike] …"
    preferences = [Preference("", "", *block) for block in blocks if block != ((), ())]
    if fault := profile_fault(Completion(answer), bool(preferences), forced=False):
        return fault
    turn = list_answer(*parse_lists(answer))
    try:
        request = profile.request(
            preferences,
            prompt,
            item_word=item_word,
            max_prompt_tokens=MAX_TOKENS - _count(turn),
            max_new_tokens=1,
            count=_count,
        )
    except Unreadable as error:
        return str(error)
    return Example(task, request.messages, turn)


def _count(text: str) -> int:
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)
