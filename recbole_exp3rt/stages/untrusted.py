"""Protects prompts against instructions in reviews, descriptions and other untrusted text.

A review is data. It must not close a tag of the prompt, open a new one, speak in another role or
write the cue of the answer. Text that imitates these keeps its words; its brackets and colons are
replaced. Tokens of a chat template are checked once more where the template is applied.

Marks are searched in a normalised copy of the text: full-width brackets become brackets, letters
that look like Latin ones become Latin, characters without width are removed, and every line
separator ends a line. Only the found marks are changed in the original text. The time is linear
in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

CACHED = 20_000  # results for texts up to this many characters are cached

_LINES = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_INVISIBLE = ("Cc", "Cf", "Mn")  # controls, zero-width characters, combining marks
_ORDINARY = re.compile(r"[\t\n -~]*")
# Signs and letters that look like others and that Unicode's NFKC form does not replace.
# Quotation marks (‹ 《 «) and arrows are left out: ordinary texts use them.
_SIGNS = str.maketrans("˂ᐸ˃ᐳǀ∣│┃❘∶ː˸։׃꞉܃܄꞊", "<<>>|||||::::::::=")
_LETTERS = str.maketrans(
    "авсԁеѕіјкӏмոорԛгѵѡхуԝһтнηανεικορτυχωγσօսհıɡɑɩʟɴʀꜱᴀᴄᴅᴇᴍᴏᴘᴛᴜᴠᴡᴢɪɢʜʙᴊᴋʏłøđħŧɨ"
    "ΗΝΡΧΥΒΖΜꓓԌᎪᏴᏟᎬᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃᎠᏀ",
    "abcdesijklmnopqrvwxywhthnaveikoptuxwyoouhigailnrsacdemoptuvwzighbjkylodhti"
    "hnpxybzmdgabcehjklmprstvwzdg",
)
_OTHER = "\u00aa"  # replaces a letter that looks like none of a to z


class _Normalised(dict[int, str]):
    """Character -> its normalised form: no character, one or several."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in _LINES:
            form = "\n"
        elif character.isspace():
            form = " "
        else:
            folded = unicodedata.normalize("NFKC", character)
            form = "".join(c for c in folded if unicodedata.category(c) not in _INVISIBLE)
        self[code] = form = form.translate(_SIGNS)
        return form


class _Lookalike(dict[int, str]):
    """Letter -> the small Latin letter that it looks like. Other characters stay. One to one."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        alike = character
        if character.isalpha():  # accents are ignored
            letter = unicodedata.normalize("NFKD", character)[0].translate(_LETTERS)
            alike = letter.lower()[0].translate(_LETTERS)
            alike = alike if "a" <= alike <= "z" else _OTHER
        self[code] = alike
        return alike


_NORMALISED, _LOOKALIKE = _Normalised(), _Lookalike()

_PROMPT_TAGS = r"(?:review|preferences|user\s+profile|item\s+profile|item\s+description)\b"
_NAMES = (
    r"(?:(?:dis)?likes?|inst|(?:(?:user|item)\s+)?average\s+rating|system|assistant|user"
    r"|system[\s_]prompt|available_tools|tool_(?:calls|results|content)|[gs]mask|think|[be]os)"
)
_ROLES = r"(?:system|developer|user|human|assistant|model|ai|bot|tool)"
_HEADINGS = rf"(?:{_ROLES}|instructions?|input|response)"
_LETTER = f"a-z{_OTHER}"
_MORE = "【〔❲⟦】〕❳⟧"

# (a string that the text must contain, pattern). The named groups of a match are replaced, see
# _REPLACEMENTS. Adjacent quantifiers match different characters, so that each pattern is linear.
_NORMALISED_PATTERNS = (
    # <Review>, </ Review>, <|im_start|>, <<SYS>>, <[BOS_never_used]>, <b>; not "<3", "a < b > c"
    ("<", r"(?<!<)(?P<open><+)(?=\s*/\s*[A-Za-z|]|[A-Za-z|]|\[)[^<>]{0,80}?(?P<close>>+)"),
    ("<", r"(?<!<)(?P<open><+)(?=\s*/\s*[A-Za-z|]|\|)"),  # without a closing bracket
    ("[", r"(?P<open>\[)(?=\|)[^\[\]\n]{0,80}?\|(?P<close>\])"),  # [|endofturn|]
    ("ASSISTANT", r"(?<!\w)ASSISTANT *(?P<colon>:)"),  # also within a line: USER: … ASSISTANT: …
)
# These are searched in the small Latin letters that the text looks like.
_LOOKALIKE_PATTERNS = (
    ("<", rf"(?<!<)(?P<open><+)(?=\s*(?:/\s*)?{_PROMPT_TAGS})(?:[^<>]{{0,80}}?(?P<close>>+))?"),
    (
        "",  # quotation marks instead of the brackets of a tag
        rf"(?P<open>[‹〈⟨❮])(?=\s*(?:/\s*)?{_PROMPT_TAGS})[^‹›〈〉⟨⟩❮❯\n]{{0,80}}(?P<close>[›〉⟩❯])",
    ),
    # [Like], [/INST], [User Average Rating], [gMASK]; not [sic] or [1999]
    ("[", rf"(?P<open>\[)[^\w\[\]]*{_NAMES}[^\w\[\]]*(?P<close>\])"),
    ("", rf"(?P<open>[【〔❲⟦])[^\w{_MORE}]*{_NAMES}[^\w{_MORE}]*(?P<close>[】〕❳⟧])"),
    # ### Instruction: at the beginning of a line, also in a list or a quotation
    (
        "#",
        rf"^[^{_LETTER}\n#]*(?P<hash>#+)(?!#)[^{_LETTER}\n]*{_HEADINGS}(?![\w{_OTHER}])"
        rf"[^{_LETTER}0-9\n:]*(?:(?P<colon>:)|$)",
    ),
    (
        ":",
        rf"^[^{_LETTER}\n]*(?:gpt4\s+correct\s+)?{_ROLES}(?:\s+(?:prompt|message))?"
        rf"[^{_LETTER}0-9:]*(?P<colon>:)",
    ),
    (":", rf"(?<![{_LETTER}])reasoning[^{_LETTER}0-9:]*(?P<cue>:)"),
    (
        "predicted",
        rf"predicted[\W_]*user[\W_]*rating[^{_LETTER}0-9:=>→⇒➜]*(?P<cue>[:=>→⇒➜][:=>]*)",
    ),
)
_NORMALISED_MARKS = [(needs, re.compile(mark)) for needs, mark in _NORMALISED_PATTERNS]
_LOOKALIKE_MARKS = [(needs, re.compile(mark, re.M)) for needs, mark in _LOOKALIKE_PATTERNS]
_REPLACEMENTS = {"open": "(", "close": ")", "colon": " -", "cue": " -", "hash": "-"}


def harmless(text: str) -> str:
    """`text` without tags, role markers and the cue of the answer; otherwise unchanged."""
    return _cached(text) if len(text) <= CACHED else _harmless(text)


def _harmless(text: str) -> str:
    normalised = text if _ORDINARY.fullmatch(text) else text.translate(_NORMALISED)
    found = sorted(_marks(normalised))
    if not found:
        return text
    places: Sequence[int] = range(len(text))
    if normalised is not text:
        places = [place for place, c in enumerate(text) for _ in _NORMALISED[ord(c)]]
    parts, done = [], 0
    for start, end, replacement in found:
        first = places[start]
        if first >= done:
            parts += [text[done:first], replacement]
            done = places[end - 1] + 1
    return "".join([*parts, text[done:]])


_cached = lru_cache(maxsize=4096)(_harmless)


def _marks(normalised: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of each mark in a normalised text."""
    ascii_only = normalised.isascii()
    latin = normalised.lower() if ascii_only else normalised.translate(_LOOKALIKE)
    for text, marks in ((normalised, _NORMALISED_MARKS), (latin, _LOOKALIKE_MARKS)):
        for needs, mark in marks:
            if needs not in text:
                continue
            for match in mark.finditer(text):
                if text is not normalised and _other_script(normalised[slice(*match.span())]):
                    continue
                for name, group in match.groupdict().items():
                    if group is None:
                        continue
                    start, end = match.span(name)
                    if name == "cue":  # and the white space before it
                        start = match.start() + len(text[match.start() : start].rstrip())
                    yield start, end, _REPLACEMENTS[name]


def _other_script(mark: str) -> bool:
    """Whether a mark is only a short word of another script, such as Russian вот ("bot")."""
    letters = "".join(filter(str.isalpha, mark))
    return len(letters) < 5 and not re.search("[A-Za-z]", letters)
