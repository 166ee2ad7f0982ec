"""What the documents say of files, commands and settings is there."""

import re
import runpy
from pathlib import Path

import pytest

from recbole_exp3rt.cli.main import COMMANDS
from recbole_exp3rt.config.described import groups_of, groups_of_run, models

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "recbole_exp3rt", ROOT / "dataset_converters")
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(?:\$ )?(?:exp3rt|python run_recbole\.py) +(.+)$|`exp3rt +([^`]+)`", re.M)
PYTHON_FILE = re.compile(r"`([\w/{},]+\.py)`")
# RecBole's own settings that the documents use, and options of the commands
OTHERS = {"epochs", "use_gpu", "data_path", "seed", "learning_rate", "search"} | {
    *("model", "dataset", "config_files", "help", "version", "user", "item", "from", "overwrite"),
    *("systems", "datasets", "seeds", "report", "untrained", "title", "runs", "html"),
    *("steps", "pairs", "output"),
}


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    """Anchors of the headings of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", text_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    for link in LINK.findall(text_of(page)):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_setting_of_a_page_is_one(page):
    files = ("train", "tune", "judge", "ground", "study", *(f"model/{name}" for name in models()))
    groups = [*groups_of_run(), *(group for name in files for group in groups_of(name))]
    known = {one.key for group in groups for one in group.settings} | OTHERS
    for called in COMMAND.findall(text_of(page)):
        words = "".join(called).split()
        if words[0] == "COMMAND":
            continue
        command = "run" if words[0].startswith("-") else words[0]
        assert command in COMMANDS, f"{page.name}: exp3rt {words[0]}"
        if command == "convert":  # its sources have options of their own
            continue
        for key in re.findall(r"(?<!\S)--([\w.]+)", " ".join(words)):
            assert key.rpartition(".")[2] in known, f"{page.name}: --{key}"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "SECURITY.md", "docs/fidelity.md"])
def test_every_module_of_a_page_exists(name):
    roots = (ROOT, ROOT / "recbole_exp3rt", ROOT / "dataset_converters")
    for written in PYTHON_FILE.findall(text_of(ROOT / name)):
        head, brace, rest = written.partition("{")
        inner, _, tail = rest.partition("}")
        for file in [head + one + tail for one in inner.split(",")] if brace else [written]:
            assert any((root / file).is_file() for root in roots), f"{name}: {file}"


def test_the_settings_page_is_made_from_the_yaml_files():
    """If this fails: python docs/make_settings.py > docs/settings.md"""
    made = runpy.run_path(str(ROOT / "docs" / "make_settings.py"))["page"]()
    assert text_of(ROOT / "docs" / "settings.md") == made


def test_every_page_of_docs_is_listed():
    listed = text_of(ROOT / "docs" / "README.md")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in listed, page.name


def test_the_readme_is_short_and_holds_both_set_up_commands():
    readme = text_of(ROOT / "README.md")
    assert len(readme.split()) <= 700
    assert re.search(r"^pip install .*&& python run_recbole\.py .*$", readme, re.M)
    assert re.search(r"^pip install .*\[test\].*&& pytest$", readme, re.M)
