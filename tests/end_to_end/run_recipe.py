"""Runs the blocks of a recipe, python and bash, one after the other in the current folder.

python run_recipe.py RECIPE.md. All in one process; commands are the two that the package installs.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main(recipe: Path) -> None:
    sys.argv = ["script.py"]  # RecBole's Config reads the command line
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, (kind, text) in enumerate(BLOCK.findall(recipe.read_text(encoding="utf-8")), 1):
        if kind == "python":
            exec(compile(text, f"{recipe.name}, block {number}", "exec"), names)
        else:
            for line in text.splitlines():
                assert command(shlex.split(line)) == 0, line
                sys.argv = ["script.py"]


def command(words: list[str]) -> int:
    from dataset_converters.__main__ import main as convert
    from recbole_exp3rt.quick_start.quick_start import main as run

    return {"exp3rt": run, "exp3rt-convert": convert}[words[0]](words[1:])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
