"""The parts that CONTRIBUTING.md adds: its blocks are written where they say, and run in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S
)
NAMED = re.compile(r"# ([\w/]+\.py)\n")

# What a block prints, in this order
PRINTED = [
    r"'UserMean', \{'rmse': [12]\.\d",
    r"\[\[-1, 0\]\]",
    r"pairs: 6 users, 6 items, 36 interactions.*dropped 1: malformed",
    r"A fine score\.",
    r"\n5\.5\n",
    r"'firsthit@5': 0\.\d",
]


def test_the_blocks_of_contributing_run_as_they_stand(tmp_path):
    """A file that a block names joins its package; what stays in the block runs as a script."""
    script = ["import sys, recbole_exp3rt, dataset_converters"]
    for block in BLOCKS:
        if named := NAMED.match(block):
            file = tmp_path / "new" / named.group(1)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block, encoding="utf-8")
            module = ".".join(Path(named.group(1)).parent.parts)
            script.append(f"import {module}; {module}.__path__.append({str(file.parent)!r})")
        else:
            script.append(block)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(".*".join(PRINTED), done.stdout, re.S), done.stdout


def test_contributing_shows_a_dozen_or_two_lines_for_each_part():
    assert len(BLOCKS) >= 6
    assert max(len(block.splitlines()) for block in BLOCKS) <= 30
