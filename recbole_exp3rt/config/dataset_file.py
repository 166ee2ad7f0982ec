"""Reads the file `<data set>.yaml` beside atomic files: the settings that a data set may make.

The file comes from the author of the data, who is not trusted. So it may only contain plain
values for the settings in `FORMS`: no servers, keys, files or models.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from recbole_exp3rt.config.checks import check_keys
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.stages.untrusted import harmless

MOST_BYTES = 2**16
NAME = re.compile(r"\w[\w-]*(\.[\w-]+)*")  # of a part; not a path

Form = tuple[Callable[[Any], bool], str]  # a check of a value, and its words in an error


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _label(value: Any) -> bool:
    """A label in prompts. It must not look like a part of a prompt itself."""
    return _text(value) and len(value) <= 60 and harmless(value) == value


def _word(value: Any) -> bool:
    """Of a prompt's own sentences: no sentence of its own."""
    return _label(value) and re.fullmatch(r"[\w'’&/-]+( [\w'’&/-]+){0,2}", value) is not None


def _name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _encoding(value: Any) -> bool:
    try:
        return _text(value) and codecs.lookup(value)._is_text_encoding
    except LookupError:
        return False


def _separator(value: Any) -> bool:
    """Short, because pandas reads more than one character as a regular expression."""
    return isinstance(value, str) and 0 < len(value) <= 4


def _list(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _map(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, Mapping) and all(map(_text, value)) and all(map(fits, value.values()))
    )


def _either(*forms: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: any(fits(value) for fits in forms)


def _split(value: Any) -> bool:
    known = {"split": _map(_either(_text, _list(_number))), "order": _text, "group_by": _text}
    return isinstance(value, Mapping) and all(
        key in known and (one is None or known[key](one)) for key, one in value.items()
    )


TEXT: Form = (_text, "a short text")
NAMES: Form = (_either(_text, _list(_text)), "a list of names")
COLUMNS: Form = (_map(_either(_text, _list(_text))), "a map of file ending: [columns]")
NUMBERS: Form = (_map(_number), "a map of column: number")
TEXTS: Form = (_map(_text), "a map of column: text")
WHOLE: Form = (_whole, "a whole number from 1 on")
FLAG: Form = (_flag, "True or False")

# The settings that a data set may make, and their forms. None is always allowed.
FORMS: Mapping[str, Form] = {
    # of this package
    "item_word": (_word, "a word or two for the prompts"),
    "rating_scale": (_either(_list(_number), _map(_number)), "[lowest, highest]"),
    "relevant_from": (_number, "a number"),
    "recommend_from": (_number, "a number"),
    "description_fields": (_map(_label), "a map of column: label"),
    "review_fields": TEXTS,
    # of RecBole: the format of the files
    "field_separator": (_separator, "a separator of at most four characters"),
    "seq_separator": (_separator, "a separator of at most four characters"),
    "encoding": (_encoding, "the name of a text encoding, such as utf-8"),
    "benchmark_filename": (_list(_name), "a list of names of parts in its own folder"),
    "additional_feat_suffix": (_either(_name, _list(_name)), "a list of file endings"),
    # the names of columns, and which are loaded
    **dict.fromkeys(
        ("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "LABEL_FIELD"), TEXT
    ),
    **dict.fromkeys(
        ("NEG_PREFIX", "ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX", "POSITION_FIELD"), TEXT
    ),
    **dict.fromkeys(
        ("HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "ENTITY_ID_FIELD"),
        TEXT,
    ),
    **dict.fromkeys(("load_col", "unload_col", "unused_col"), COLUMNS),
    **dict.fromkeys(
        (f"alias_of_{one}_id" for one in ("user", "item", "entity", "relation")), NAMES
    ),
    "numerical_features": NAMES,
    "preload_weight": TEXTS,
    # which rows are kept, how their values are changed
    "rm_dup_inter": TEXT,
    "val_interval": TEXTS,
    "filter_inter_by_user_or_item": FLAG,
    **dict.fromkeys((f"{one}_inter_num_interval" for one in ("user", "item")), TEXT),
    **dict.fromkeys((f"{one}_kg_num_interval" for one in ("entity", "relation")), TEXT),
    "kg_reverse_r": FLAG,
    "normalize_field": NAMES,
    "normalize_all": FLAG,
    "discretization": (_map(_map(_either(_text, _number))), "a map of column: method"),
    "threshold": NUMBERS,
    "seq_len": (_map(_whole), "a map of column: length"),
    "MAX_ITEM_LIST_LENGTH": WHOLE,
    "eval_args": (_split, "a map of split, order and group_by"),
}


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases: with them, a few lines can stand for a billion values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As PyYAML's. Raises: yaml.YAMLError for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias; write the value itself")
        return super().compose_node(parent, index)


def read_dataset_file(path: Path) -> dict[str, Any]:
    """Return the settings in a data set's file; {} if there is no such file.

    Raises: UsageError, with the file and the key, for a setting that a data set may not make, a
    value of another form, or a file that does not contain plain settings.
    """
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UsageError(
            f"{path} is larger than {MOST_BYTES:,} bytes; keep only the settings of the data set"
        )
    try:
        values = yaml.load(content, Loader=_PlainLoader)  # safe
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is not plain YAML ({reason})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path} does not contain settings of the form key: value")
    check_keys(values, where=f"{path}: ")
    for key, value in values.items():
        if key not in FORMS:
            raise UsageError(
                f"{path}: a data set may not set {key}, which only the user may set; put it "
                "into a settings file of your own (--config_files)"
            )
        fits, wanted = FORMS[key]
        if value is not None and not fits(value):
            shown = repr(value)
            shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
            raise UsageError(f"{path}: {key}={shown} is not {wanted}")
    return values
