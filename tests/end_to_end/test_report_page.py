"""The page of a report in a real browser: sorting, themes, a phone's width, no network.

With CI=true a missing browser is a failure.
"""

import json
import re

import pytest
from recorded_results import HOSTILE, TITLE, results

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.results import Results
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.report import write_report

OWN = {"student": "oracle", "use_gpu": False, "generator": "Pop", "baselines": []}
PAPER = {("Bias", "rmse"): 0.5}
SMALL = {"eval_pairs": 6, "rerank_users": 3, "explanations": 2, "topk": [5], "rerank_depth": 5}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of recorded results, as a file."""
    folder = tmp_path_factory.mktemp("page")
    page, *_ = write_report(results(), folder, title="A <b>report</b> {{ 7*7 }}", paper=PAPER)
    return page.as_uri()


class Opened:
    """A page and all that it asked for or complained about."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.requests, self.complaints, self.dialogs = [], [], []
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog), dialog.dismiss()))
        self.page.goto(address)
        self.until("[...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))")

    def until(self, condition):
        """Wait for a condition; the page's own policy forbids playwright's way to do it."""
        for _ in range(100):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"never true: {condition}")


@pytest.fixture(scope="module")
def wide(browser, address):
    opened = Opened(browser, address, viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield opened
    opened.context.close()


def column(page, table, number):
    cells = page.locator(f"#{table} tbody tr > :nth-child({number})")
    return cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")


def test_the_page_is_drawn_without_network_and_without_complaint(wide, address):
    page = wide.page
    charts = page.locator(".chart")
    assert charts.count() >= 9
    for number in range(charts.count()):
        lines = charts.nth(number).locator(".trace, .points path, .box, .boxes path")
        assert lines.count() > 0, charts.nth(number).get_attribute("id")
    outside = [url for url in wide.requests if not url.startswith(("data:", "blob:"))]
    assert outside == [address]
    assert wide.complaints == []
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy
    refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', error => 'refused')")
    assert refused == "refused" and "Content Security Policy" in wide.complaints.pop()
    wide.complaints.clear()


def test_a_table_is_sorted_by_click_and_by_keyboard(wide):
    page, table = wide.page, "some-data-rating-results"
    head = page.locator(f"#{table} thead th", has_text="RMSE").first
    place = 1 + head.evaluate("head => [...head.parentNode.children].indexOf(head)")
    assert head.get_attribute("aria-sort") == "none"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = [float(value) for value in column(page, table, place)]
    assert values == sorted(values) and len(set(values)) == 3
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(value) for value in column(page, table, place)] == values[::-1]
    first = page.locator(f"#{table} thead th button").first
    first.focus()
    page.keyboard.press("Space")
    names = column(page, table, 1)
    assert names == sorted(names, key=str.lower) and names[0] == "Bias"
    assert head.get_attribute("aria-sort") == "none"
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.closest('th').cellIndex")
    assert focused == 1, "the next head is the next stop"


def test_numbers_are_sorted_as_numbers_and_what_is_missing_comes_last(wide):
    page, table = wide.page, "some-data-rerank-recall-by-depth"
    page.locator("details", has=page.locator(f"#{table}")).locator("summary").click()
    depth = page.locator(f"#{table} thead th button").first
    depth.click()
    assert column(page, table, 1) == [str(k) for k in range(1, 11)]
    depth.click()
    assert column(page, table, 1) == [str(k) for k in range(10, 0, -1)]
    table = "some-data-rating-results"
    paper = page.locator(f"#{table} thead th", has_text="paper")
    place = 1 + paper.evaluate("head => head.cellIndex")
    for _ in range(2):
        paper.get_by_role("button").click()
        assert column(page, table, place) == ["0.5", "", ""]


def test_names_and_texts_of_others_are_shown_and_not_obeyed(wide):
    page = wide.page
    assert page.title() == "A <b>report</b> {{ 7*7 }}" == page.locator("h1").inner_text()
    systems = page.locator("#some-data-rating-costs tbody th").all_inner_texts()
    assert HOSTILE in systems
    assert TITLE in page.locator(".case-title").first.inner_text()
    said = page.locator("blockquote").first.inner_text()
    assert said == "They like </script><script>alert(2)</script> slow | plots & $x$."
    legend = page.locator(".chart .legendtext").all_text_contents()
    assert any(text == "EXP_3 & <script>alert(1)</script> {{ 7*…" for text in legend)
    assert wide.dialogs == [] and page.locator(".case script, table script").count() == 0


def test_a_case_shows_its_probabilities_and_how_candidates_moved(wide):
    case = wide.page.locator(".case").first
    levels = case.locator(".levels li")
    assert levels.count() == 5
    widths = levels.locator(".bar").evaluate_all("bars => bars.map(b => b.offsetWidth)")
    assert widths.index(max(widths)) == 3 and widths[3] > 3 * widths[1]
    assert case.locator(".levels .true .level").inner_text() == "4"
    moved = case.locator(".lists ol").nth(1).locator("li").all_inner_texts()
    assert [text.split(" ")[-1] for text in moved] == ["▲1", "▼1", "C"]
    summary = case.locator("summary")
    assert "predicted 3.61 (most probable 4), true 4" in summary.inner_text()
    summary.focus()
    wide.page.keyboard.press("Enter")
    assert not case.locator("blockquote").first.is_visible()
    wide.page.keyboard.press("Enter")
    assert case.locator("blockquote").first.is_visible()


def test_the_theme_follows_the_reader_and_the_charts_follow_the_theme(wide):
    page = wide.page

    def colours():
        return page.evaluate(
            """[getComputedStyle(document.body).backgroundColor,
                document.querySelector('.chart .scatterlayer .js-line').style.stroke,
                document.querySelector('.chart .xtick text').style.fill]"""
        )

    light = colours()
    button = page.get_by_role("button", name="Change to the dark theme")
    button.click()
    dark = colours()
    assert all(one != other for one, other in zip(light, dark, strict=True))
    page.get_by_role("button", name="Change to the light theme").focus()
    page.keyboard.press("Enter")
    assert colours() == light
    page.emulate_media(color_scheme="dark", media="print")
    assert not page.locator("nav").is_visible() and not button.is_visible()
    page.emulate_media(color_scheme="light", media="screen")


def test_on_a_phone_in_the_dark_nothing_sticks_out(browser, address):
    opened = Opened(
        browser,
        address,
        viewport={"width": 390, "height": 844},
        color_scheme="dark",
        has_touch=True,
        is_mobile=True,
    )
    page = opened.page
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator(".scroll").first
    wider, inside = box.evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert wider > inside, "a table scrolls inside its box"
    box.evaluate("box => box.scrollLeft = 200")
    left = box.locator("tbody th").first.bounding_box()["x"]
    assert left == pytest.approx(box.bounding_box()["x"] + 1, abs=1), "names stay in sight"
    page.get_by_role("link", name="Case studies").tap()
    opened.until("document.querySelector('#cases').getBoundingClientRect().top < 400")
    assert opened.complaints == []
    opened.context.close()


def test_a_run_leaves_a_report_with_its_cases(home, monkeypatch, browser):
    monkeypatch.chdir(home)
    given = {**OWN, **SMALL, "store_path": "report.sqlite", "result_file": "report.json"}
    found = run("EXP3RT", "sample", config_dict={**given, "report": "told"})
    kept = Results.read("report.json")
    assert len(found.cases) == 2 and len(kept.cases) == 2
    case = kept.cases[0]
    assert case.rationale and sum(case.probabilities.values()) == pytest.approx(1)
    assert set(case.probabilities) == {str(level) for level in range(1, 11)}
    assert case.user_profile["likes"] and case.description[0][1] == case.title
    assert case.review, "what the user wrote of it, for people and judges of explanations"
    parts = json.loads((home / "told" / "report.json").read_text("utf-8"))["parts"]
    assert [part["name"] for part in parts] == ["sample-rating", "sample-rerank"]
    opened = Opened(browser, (home / "told" / "report.html").as_uri())
    assert case.title in opened.page.locator("#cases").inner_text()
    assert re.search("rated|Bias", opened.page.locator("main").inner_text())
    opened.context.close()
    with pytest.raises(UsageError, match=r"report: .*report\.html is there already.*--overwrite"):
        run("EXP3RT", "sample", config_dict={**given, "report": "told", "result_file": None})


def test_a_case_of_a_reranked_user_has_its_candidates(home, monkeypatch):
    monkeypatch.chdir(home)
    given = {**OWN, **SMALL, "store_path": "report.sqlite", "task": "rerank"}
    case = run("EXP3RT", "sample", config_dict=given).cases[0]
    assert case.after[0] == case.title and sorted(case.before) == sorted(case.after)
