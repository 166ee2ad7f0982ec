"""Text that somebody else wrote, made harmless before it stands in a prompt.

A review is data: it may not close the prompt's tags, open new ones, speak as another role or
write the answer's cue. What imitates these keeps its words and loses its marks. The tokens of a
chat template are guarded once more where the template is applied.

What is looked at is the text as it is read, not as it is spelt: full-width brackets are brackets,
Cyrillic letters that look like Latin ones are those, what has no width is not there, any line
separator ends a line. What is changed is the text itself, so that nothing else of it is. The work
is linear in the length of a text, whatever it holds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

CACHED = 20_000  # characters of a text that is remembered, at most

_LINES = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_INVISIBLE = ("Cc", "Cf", "Mn")  # controls, formats such as the zero-width ones, marks on a letter
_ORDINARY = re.compile(r"[\t\n -~]*")
# Signs and letters that look like others and are not folded by Unicode's compatibility forms.
# Quotation marks (‹ 《 «) and arrows are not among them: plain texts use them.
_SIGNS = str.maketrans("˂ᐸ◁˃ᐳ▷ǀ∣│┃❘∶ː˸։׃꞉܃܄꞊⁄∕⧸╱", "<<<>>>|||||::::::::=////")
_LETTERS = str.maketrans(
    "авсԁеѕіјкӏмոорԛгѵѡхуԝһтнηανεικορτυχωγσօսհıɡɑɩʟɴʀꜱᴀᴄᴅᴇᴍᴏᴘᴛᴜᴠᴡᴢɪɢʜʙᴊᴋʏłøđħŧɨ"
    "ΗΝΡΧΥΒΖΜꓓԌᎪᏴᏟᎬᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃᎠᏀ",
    "abcdesijklmnopqrvwxywhthnaveikoptuxwyoouhigailnrsacdemoptuvwzighbjkylodhti"
    "hnpxybzmdgabcehjklmprstvwzdg",
)
_OTHER = "\u00aa"  # stands for a letter that looks like none of a to z


class _Normalised(dict[int, str]):
    """A character as it is read: none, one or several."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in _LINES:
            seen = "\n"
        elif character.isspace():
            seen = " "
        else:
            folded = unicodedata.normalize("NFKC", character)
            seen = "".join(c for c in folded if unicodedata.category(c) not in _INVISIBLE)
        self[code] = seen = seen.translate(_SIGNS)
        return seen


class _Lookalike(dict[int, str]):
    """The small Latin letter that a letter looks like; what is no letter is itself. One for one."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        alike = character
        if character.isalpha():  # an accent is not looked at
            letter = unicodedata.normalize("NFKD", character)[0].translate(_LETTERS)
            alike = letter.lower()[0].translate(_LETTERS)
            alike = alike if "a" <= alike <= "z" else _OTHER
        self[code] = alike
        return alike


_SEEN, _ALIKE = _Normalised(), _Lookalike()

_PROMPT_TAGS = r"(?:review|preferences|user\s+profile|item\s+profile|item\s+description)\b"
_NAMES = (
    r"(?:(?:dis)?likes?|inst|(?:(?:user|item)\s+)?average\s+rating|baseline\s+rating|system"
    r"|assistant|user|system[\s_]prompt|available_tools|tool_(?:calls|results|content)|[gs]mask|think|[be]os)"
)
_ROLES = r"(?:system|developer|user|human|assistant|model|ai|bot|tool)"
_HEADINGS = rf"(?:{_ROLES}|instructions?|input|response)"
_LETTER = f"a-z{_OTHER}"
_MORE = "【〔❲⟦】〕❳⟧"

# Each group is a mark, and what takes its place. A quantifier never meets what the next one does,
# but for a run that no other match begins in: so each pattern is linear.
_NORMALISED_PATTERNS = (
    # <Review>, </ Review>, <|im_start|>, <<SYS>>, <[BOS_never_used]>, <b>; not "<3", "a < b > c"
    ("<", r"(?<!<)(?P<open><+)(?=\s*/\s*[A-Za-z|]|[A-Za-z_|]|\[)[^<>]{0,80}?(?P<close>>+)"),
    ("<", r"(?<!<)(?P<open><+)(?=\s*/\s*[A-Za-z|]|\|)"),  # with no end in sight
    ("[", r"(?P<open>\[)(?=\|)[^\[\]\n]{0,80}?\|(?P<close>\])"),  # [|endofturn|]
    ("ASSISTANT", r"(?<!\w)ASSISTANT *(?P<colon>:)"),  # within a line too: USER: … ASSISTANT: …
)
# in small letters, and as they look
_LOOKALIKE_PATTERNS = (
    ("<", rf"(?<!<)(?P<open><+)\s*(?:/\s*)?{_PROMPT_TAGS}(?:[^<>]{{0,80}}?(?P<close>>+))?"),
    (
        "",  # quotation marks, in the place of a tag's
        rf"(?P<open>[‹〈⟨❮《⟪«≪])(?=\s*(?:/\s*)?{_PROMPT_TAGS})[^‹›〈〉⟨⟩❮❯《》⟪⟫«»≪≫\n]{{0,80}}"
        r"(?P<close>[›〉⟩❯》⟫»≫])",
    ),
    # [Like], [/INST], [User Average Rating], [gMASK]: while [sic] or [1999] are left alone
    ("[", rf"(?P<open>\[)[^\w\[\]]*{_NAMES}[^\w\[\]]*(?P<close>\])"),
    ("", rf"(?P<open>[【〔❲⟦])[^\w{_MORE}]*{_NAMES}[^\w{_MORE}]*(?P<close>[】〕❳⟧])"),
    # ### Instruction: at the beginning of a line, in a list or a quotation too
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
    """`text` in which nothing is a tag, a role marker or the answer's cue; else unchanged."""
    return _cached(text) if len(text) <= CACHED else _harmless(text)


def _harmless(text: str) -> str:
    seen = text if _ORDINARY.fullmatch(text) else text.translate(_SEEN)
    found = sorted(_marks(seen))
    if not found:
        return text
    places: Sequence[int] = range(len(text))
    if seen is not text:
        places = [place for place, c in enumerate(text) for _ in _SEEN[ord(c)]]
    parts, done = [], 0
    for start, end, instead in found:
        first = places[start]
        if first >= done:
            parts += [text[done:first], instead]
            done = places[end - 1] + 1
    return "".join([*parts, text[done:]])


_cached = lru_cache(maxsize=4096)(_harmless)


def _marks(seen: str) -> Iterator[tuple[int, int, str]]:
    """Start and end of each mark in a text as it is seen, and what takes its place."""
    read = seen.lower() if seen.isascii() else seen.translate(_ALIKE)
    for text, marks in ((seen, _NORMALISED_MARKS), (read, _LOOKALIKE_MARKS)):
        for needs, mark in marks:
            if needs not in text:
                continue
            for match in mark.finditer(text):
                if text is not seen and _other_script(seen[match.start() : match.end()]):
                    continue
                for name, said in match.groupdict().items():
                    if said is None:
                        continue
                    start, end = match.span(name)
                    if name == "cue":  # with the white space before it
                        start = match.start() + len(text[match.start() : start].rstrip())
                    yield start, end, _REPLACEMENTS[name]


def _other_script(seen: str) -> bool:
    """Whether a mark is a short word of another script that only looks like one: Russian вот."""
    letters = "".join(filter(str.isalpha, seen))
    return len(letters) < 5 and not re.search("[A-Za-z]", letters)
