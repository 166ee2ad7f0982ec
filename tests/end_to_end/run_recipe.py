"""Runs the blocks of pages, python and bash, one after the other, each page in a folder of its own.

python run_recipe.py PAGE.md … All in one process; commands are those that the package installs.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main(pages: list[Path]) -> None:
    start = Path.cwd()
    for page in pages:
        folder = start / page.stem
        folder.mkdir()
        os.chdir(folder)
        print(f"=== {page.stem}", flush=True)
        run_page(page)


def run_page(page: Path) -> None:
    sys.argv = ["script.py"]  # RecBole's Config reads the command line
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, (kind, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
        if kind == "python":
            exec(compile(text, f"{page.name}, block {number}", "exec"), names)
        else:
            for line in text.splitlines():
                assert command(shlex.split(line)) == 0, line
                sys.argv = ["script.py"]


def command(words: list[str]) -> int:
    from dataset_converters.__main__ import main as convert
    from recbole_exp3rt.cli.main import main as exp3rt

    return {"exp3rt": exp3rt, "exp3rt-convert": convert}[words[0]](words[1:])


if __name__ == "__main__":
    main([Path(page).resolve() for page in sys.argv[1:]])
