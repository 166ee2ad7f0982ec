"""The prompts: one text file each. The fields of a file are checked when it is loaded.

A file has sections `=== system ===` and `=== user ===`; a field is a name in braces, as {review}.
A file of the same name in the folder `prompt_dir` replaces a prompt. Training and inference
render the same prompts.
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
# What any prompt may leave out.
OPTIONAL = frozenset({"item_word", "number", "lowest", "highest", "bias_hint", "answer_form"})

MOST_BYTES = 2**18  # of a prompt file
_SECTION = re.compile(r"^=== (system|user|assistant) ===\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its name and the text of each section, with fields in braces."""

    name: str
    sections: tuple[tuple[Role, str], ...]

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that its text has."""
        parsed = [part for _, body in self.sections for part in string.Formatter().parse(body)]
        return frozenset(name for _, name, _, _ in parsed if name is not None)

    @property
    def frame(self) -> str:
        """The text of the prompt with empty fields."""
        return text_of(self.render(**dict.fromkeys(self.fields, "")))

    def render(self, **fields: str) -> tuple[Message, ...]:
        """The messages of this prompt. Values are inserted unchanged; braces in them stay."""
        return tuple(Message(role, text.format_map(fields)) for role, text in self.sections)


@dataclass(frozen=True, slots=True)
class Prompts:
    """All prompts. `rationale` is for a teacher, `rating_direct` for ratings without reasoning."""

    preference: Prompt
    user_profile: Prompt
    item_profile: Prompt
    rating: Prompt
    rating_direct: Prompt
    rationale: Prompt

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the texts of all prompts; a student's card names its prompts by it.

        The field {number} counts as `integer`, its value for whole ratings, so that the digest
        does not depend on the step of the rating scale.
        """
        prompts = (getattr(self, name) for name in sorted(FIELDS))
        words = json.dumps([(prompt.name, prompt.sections) for prompt in prompts])
        words = words.replace("{number}", "integer")
        return hashlib.sha256(words.encode()).hexdigest()


def load_prompt(
    name: str, prompt_dir: str | Path | None = None, fields: frozenset[str] | None = None
) -> Prompt:
    """Read `<name>.txt` from `prompt_dir`; if it is not there, the prompt of this package.

    `fields` are those that it may have, and must have but for OPTIONAL; a prompt of EXP3RT has
    its own.

    Raises: UsageError for an unknown or missing field, or a file without a user section.
    """
    own = Path(prompt_dir) / f"{name}.txt" if prompt_dir else None
    if own and own.exists():
        if not own.is_file():  # reading a pipe would never end
            raise UsageError(f"{own} is not a file")
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
    known = FIELDS[name] if fields is None else fields
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
            raise UsageError(f"{path} is over {MOST_BYTES:,} bytes, too large for a prompt")
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {error}") from None


def load_prompts(prompt_dir: str | Path | None = None) -> Prompts:
    """All prompts. Raises: UsageError if `prompt_dir` is not a folder or holds an unknown name."""
    folder = Path(prompt_dir) if prompt_dir else None
    if folder:
        if not folder.is_dir():
            raise UsageError(f"prompt_dir={folder} is not a folder")
        known = sorted(
            file.name.removesuffix(".txt")
            for file in resources.files(__name__).iterdir()
            if file.name.endswith(".txt")
        )
        for file in folder.glob("*.txt"):
            if file.stem not in known:
                raise UsageError(f"{file}: no prompt has this name; known are {known}")
    return Prompts(**{name: load_prompt(name, folder) for name in FIELDS})
