"""Every block of a page of docs/ that is marked python or bash runs, in the page's order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(python|bash)$", re.MULTILINE)

# page -> what its blocks print, in this order
PRINTED = {
    "python": [
        r"EXP3RT all 20 \{'rmse': \d",
        r"viewer000': \[\('syn",
        r"item_id  predicted  rank",
        r"\[\d\.\d+, \d\.\d+\]\n\[\d\.\d+\]",
    ],
    "data": [r"records: 8 users, 7 items, 56 interactions", r"\n Bias +\d\.\d{4}"],
    "grounding": [r"60 right \(100%\)", r"Template +\d", r"another user's profile +\d+ "],
    "protocol": [r"as they are .* as they are", r"sample-top: 299 users", r"\n BPR +\d\.\d{4}"],
    "teachers": [r"rating: 12 asked for, 12 kept", r"\['system', 'user', 'assistant'\]"],
    "tuning": [r"written to tuned/sample\.yaml", r"\n MF +\d\.\d{4}"],
    "troubleshooting": [r"exit code 2\nexit code 2"],
    "recbole": [r"'recall@10'", r"'rmse', \d\.\d", r"'recall@20'"],
}


# what register() changes stays in its process
@pytest.mark.parametrize("pages", [sorted(PRINTED.keys() - {"recbole"}), ["recbole"]], ids=" ".join)
def test_the_blocks_of_the_pages_run(tmp_path, pages):
    """In one process, each page in an empty folder."""
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("run_recipe.py"),
            *(DOCS / f"{page}.md" for page in pages),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    expected = [printed for page in pages for printed in PRINTED[page]]
    assert re.search(".*".join(expected), done.stdout, re.DOTALL), done.stdout


def test_every_page_with_blocks_is_run():
    with_blocks = {p.stem for p in DOCS.glob("*.md") if BLOCK.search(p.read_text("utf-8"))}
    assert with_blocks == PRINTED.keys()
