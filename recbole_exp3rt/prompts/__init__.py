"""Prompts are documents: one text file each, its fields checked when it is loaded.

A file holds sections `=== system ===`, `=== user ===`; fields are written {so}. A folder given as
`prompt_dir` replaces any of them by name. The same renderer serves training and inference.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Message, Role, text_of

FIELDS: dict[str, frozenset[str]] = {
    "preference": frozenset({"item_word", "review"}),
    "user_profile": frozenset({"item_word", "preferences"}),
    "item_profile": frozenset({"item_word", "preferences"}),
    "rating": frozenset(
        {"item_word", "number", "lowest", "highest", "bias_hint"}
        | {"user_profile", "item_description", "item_profile"}
    ),
}
FIELDS["rating_direct"] = FIELDS["rating"]
FIELDS["rationale"] = frozenset(
    {"item_word", "recommend_from", "user_rating"}
    | {"user_profile", "item_description", "item_profile"}
)
OPTIONAL = frozenset({"item_word", "number", "lowest", "highest", "bias_hint"})

MOST_BYTES = 2**18
_SECTION = re.compile(r"^=== (system|user|assistant) ===\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Prompt:
    name: str
    sections: tuple[tuple[Role, str], ...]

    @property
    def frame(self) -> str:
        """The prompt's own words: all of it with its fields empty."""
        return text_of(self.render(**dict.fromkeys(FIELDS[self.name], "")))

    def render(self, **fields: str) -> tuple[Message, ...]:
        """The messages of this prompt. Field values are inserted as they are, never parsed."""
        return tuple(Message(role, text.format_map(fields)) for role, text in self.sections)


@dataclass(frozen=True, slots=True)
class Prompts:
    preference: Prompt
    user_profile: Prompt
    item_profile: Prompt
    rating: Prompt
    rating_direct: Prompt
    rationale: Prompt  # asks a teacher only

    @property
    def digest(self) -> str:
        """sha256, in hex, over the words of all prompts: what a student has to be asked with.

        As they read where ratings are whole numbers: a step of the scale is no other wording.
        """
        prompts = (getattr(self, name) for name in sorted(FIELDS))
        words = json.dumps([(prompt.name, prompt.sections) for prompt in prompts])
        words = words.replace("{number}", "integer")
        return hashlib.sha256(words.encode()).hexdigest()


def load_prompt(name: str, prompt_dir: Path | None = None) -> Prompt:
    """Read `<name>.txt` from `prompt_dir` if it is there, else ours.

    Raises: UsageError for an unknown or missing field, or a file without a user section.
    """
    own = prompt_dir / f"{name}.txt" if prompt_dir else None
    if own and own.exists():
        if not own.is_file():  # a pipe has no end
            raise UsageError(f"{own} is no file")
        where, text = str(own), _text(own)
    else:
        where = f"prompts/{name}.txt"
        text = resources.files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")
    parts = _SECTION.split(text)
    sections = tuple(
        (role, body.strip("\n")) for role, body in zip(parts[1::2], parts[2::2], strict=True)
    )
    if "user" not in dict(sections):
        raise UsageError(f"{where} has no '=== user ===' section")
    try:
        parsed = [part for _, body in sections for part in string.Formatter().parse(body)]
    except ValueError as error:
        raise UsageError(f"{where}: {error}; write a literal brace twice") from None
    for _, name_of, spec, conversion in parsed:
        if spec or conversion:
            raise UsageError(f"{where}: field {{{name_of}}} has a format; write the name alone")
    found = {name_of for _, name_of, _, _ in parsed if name_of is not None}
    known = FIELDS[name]
    if unknown := sorted(found - known):
        raise UsageError(f"{where}: unknown field {{{unknown[0]}}}; known are {sorted(known)}")
    if missing := sorted(known - found - OPTIONAL):
        raise UsageError(f"{where}: field {{{missing[0]}}} is missing")
    return Prompt(name, sections)  # type: ignore[arg-type]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{path} is over {MOST_BYTES:,} bytes, which is no prompt")
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {error}") from None


def load_prompts(prompt_dir: str | Path | None = None) -> Prompts:
    """All prompts. Raises: UsageError if `prompt_dir` is not a folder or holds an unknown name."""
    folder = Path(prompt_dir) if prompt_dir else None
    if folder:
        if not folder.is_dir():
            raise UsageError(f"prompt_dir={folder} is not a folder")
        for file in folder.glob("*.txt"):
            if file.stem not in FIELDS:
                raise UsageError(f"{file}: no prompt has this name; known are {sorted(FIELDS)}")
    return Prompts(**{name: load_prompt(name, folder) for name in FIELDS})
