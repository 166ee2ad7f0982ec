"""Text of others on a terminal, and URLs with secrets in them."""

import ast
import io
from pathlib import Path

import pytest

from recbole_exp3rt.cli.common import exit_code
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.display import terminal
from recbole_exp3rt.display.progress import ConsoleProgress
from recbole_exp3rt.display.tables import show_ranking, show_ratings
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.results import Row
from recbole_exp3rt.llm.server.urls import bare, masked, wrong_with

ROOT = Path(__file__).parents[2]
EVIL = "openai:m:1 [bold]b[/bold] [/] \x1b[31m\x1b]0;title\x07\x9b2J\u202e\ud83d"
SEEN = "openai:m:1 [bold]b[/bold] [/] \ufffd[31m\ufffd]0;title\ufffd\ufffd2J\ufffd\ufffd"


def written(what, **options):
    out = io.StringIO()
    what(terminal.console(file=out, width=200, **options))
    return out.getvalue()


def test_names_stand_as_they_are_and_a_terminal_obeys_nothing_in_them():
    assert terminal.plain(EVIL) == SEEN
    assert SEEN in written(lambda console: console.print(f"by {terminal.escape(EVIL)}"))


@pytest.mark.parametrize("show", [show_ratings, show_ranking])
def test_tables_and_costs_show_a_name_as_it_is(show):
    row = Row(EVIL, "rating", {"rmse": 1.0}, n=5, calls=1)
    assert written(lambda console: show(console, [row], 5)).count(SEEN) == 2


@pytest.mark.parametrize("options", [{}, {"force_terminal": True}])
def test_titles_of_progress_show_a_name_as_it_is(options):
    def run(console):
        list(ConsoleProgress(console)(iter([]), 1, "by :smile: [bold]b[/bold]"))

    assert "by :smile: [bold]b[/bold]" in written(run, **options)


def test_an_error_is_one_plain_line_without_a_password(capsys):
    def work():
        raise UsageError(f"{EVIL} at http://me:secret@host:8000/v1?key=secret, no")

    assert exit_code(work) == 2
    assert capsys.readouterr().err == f"error: {SEEN} at http://host:8000/v1 no\n"


def test_consoles_come_from_one_place_and_foreign_text_is_escaped_there():
    for file in [
        *(ROOT / "recbole_exp3rt").rglob("*.py"),
        *(ROOT / "dataset_converters").rglob("*.py"),
    ]:
        if file.name == "terminal.py":
            continue
        text = file.read_text(encoding="utf-8")
        assert "rich.markup" not in text, f"{file}: escape stands in terminal.py"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Console":
                assert [k.arg for k in node.keywords] == ["quiet"], f"{file}: see terminal.console"


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8000/v1", "https://api.openai.com/v1", "http://[::1]:8000/v1"),
        *("http://me:word@host/v1?key=1", "http://my_host.local:1/v1", "http://bücher.example/v1"),
    ],
)
def test_urls_that_can_be(url):
    assert wrong_with(url) is None


@pytest.mark.parametrize(
    "url",
    [
        *("http://h:99999/v1", "http://h:0/v1", "http://h:x/v1", "http://", "https:///v1"),
        *("http://a b/v1", "ftp://h/v1", "h:8000/v1", "http://${HOST}/v1", "http://a..b/v1"),
        *("http://[::1/v1", "http://h/v1#x", "http://h\x1b/v1", "http://" + "a" * 64 + "/v1", ""),
    ],
)
def test_urls_that_cannot_be_are_one_line_before_any_work(url):
    assert wrong_with(url)
    if url:
        with pytest.raises(UsageError, match=r"base_url=.* is not a URL such as"):
            Reader({"base_url": ["http://h/v1", url]}).urls("base_url")


@pytest.mark.parametrize("url", ["me:secret@h:8000/v1", "ftp://me:secret@h", "http://me:se#cret@h"])
def test_what_cannot_be_a_url_is_shown_without_its_password(url):
    with pytest.raises(UsageError) as caught:
        Reader({"base_url": url}).urls("base_url")
    assert "cret" not in str(caught.value)


def test_settings_are_kept_without_passwords():
    given = {"base_url": ["http://me:secret@H:1/v1?key=secret"], "topk": [5], "refit": True}
    assert masked(given) == {"base_url": ["http://h:1/v1"], "topk": [5], "refit": True}
    assert bare("http://h/v1?mail=a@b") == "http://h/v1"
