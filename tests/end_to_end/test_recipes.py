"""Every recipe runs as it is written, in an empty folder, and prints what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "recipes"

# recipe -> what its output holds, in this order
PRINTED = {
    "cold-and-warm": [r"EXP3RT +warm", r"EXP3RT +cold", r"warm +\d+ users", r"cold +\d+ users"],
    "export-top-k": [r"Exports: out/topk\.csv", r"generator_rank", r"user", r"count", r"max +20"],
    "new-users-and-items": [r"ann-new likes .*twisting plot", r"bob-new likes", r"new-film"],
    "fixed-splits": [r"2,727 train, 341 valid, 341 test", r"\n MF +\d\.\d{4}", r"recall@10"],
    "own-reviews": [
        r"Rating prediction: 20 of",
        r"Explanations",
        r"viewer\d+ and syn\d+: \d\.\d\d",
    ],
    "rating-prediction": [r"constant", r"Bias", r"\n MF", r"\{'rmse': .*\d\.\d+.*'mae'"],
    "vllm-adapters": [r"rating by openai:rating@", r"readout exact", r"'EXP3RT': 'exact'"],
    "reranking-a-checkpoint": [r"'recall@20'", r"\('syn", r"bpr\.pth \+ EXP3RT"],
}


NEEDS_A_SERVER = "vllm-adapters"
OTHERS = sorted({p.stem for p in RECIPES.glob("*[a-z].md")} - {NEEDS_A_SERVER})
REGISTER = [name for name in OTHERS if "register()" in (RECIPES / f"{name}.md").read_text("utf-8")]
# one process each: to start one takes longer than most recipes
TOGETHER = [[name for name in OTHERS if name not in REGISTER], REGISTER]


def run_and_look(recipes: list[Path], folder: Path) -> None:
    """Each in an empty folder, one after the other."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_recipe.py"), *recipes],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for recipe in recipes:
        printed = done.stdout.split(f"=== {recipe.stem}\n")[1].split("\n=== ")[0]
        assert re.search(".*".join(PRINTED[recipe.stem]), printed, re.DOTALL), printed


# what register() changes stays in its process
@pytest.mark.parametrize("names", TOGETHER, ids=" ".join)
def test_recipes(names, tmp_path):
    run_and_look([RECIPES / f"{name}.md" for name in names], tmp_path)


def test_recipe_with_a_server(tmp_path, llama_server):
    """vLLM is played: its documented routes in front of llama.cpp, adapters by name alone."""
    sys.path.insert(0, str(ROOT / "tests" / "contract"))
    from stand_ins import VLLM, playing

    with playing(VLLM, llama_server, adapters=("preference", "profile", "rating")) as (_, url):
        text = (RECIPES / f"{NEEDS_A_SERVER}.md").read_text(encoding="utf-8")
        recipe = tmp_path / f"{NEEDS_A_SERVER}.md"
        recipe.write_text(text.replace("http://127.0.0.1:8000/v1", url), encoding="utf-8")
        run_and_look([recipe], tmp_path)


def test_recipes_are_short_and_listed():
    listed = (RECIPES / "README.md").read_text(encoding="utf-8")
    for path in RECIPES.glob("*[a-z].md"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path
        assert f"({path.name})" in listed, path
