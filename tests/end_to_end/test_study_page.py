"""A study with people in a real browser: two raters click and type, one reloads in the middle.

With CI=true a missing browser is a failure.
"""

import csv
import json

import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.results import Case, Results
from recbole_exp3rt.explain.study_run import make_study, report_study

EVIL = "</script><script>alert(1)</script><b>good</b> reason ${title} {{ 7*7 }}"
CRITERIA = ("persuasiveness", "reasonability", "scrutability", "faithfulness", "overall")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of four pairs, its folder, and the good texts."""
    folder = tmp_path_factory.mktemp("study")
    files = []
    for name, text in (("good", EVIL), ("bad", "dull words")):
        profile = {"likes": ["<i>loud</i> action"], "dislikes": []}
        cases = [
            Case(f"u{n}", f"i{n}", f"Film {n}", 4.0, rationale=f"{text} {n}", user_profile=profile)
            for n in range(4)
        ]
        about = {"model": "EXP3RT"}
        Results("sample", "d", 1, about=about, cases=cases).write(folder / f"{name}.json")
        files.append(f"{name}={folder / name}.json")
    given = {"output": str(folder / "told"), "item_word": "movie", "n": 4}
    return make_study(files, given), folder / "told"


class Rater:
    """A rater with a browser of their own, and all that the page asked for or complained about."""

    def __init__(self, browser, page, code, folder):
        self.code, self.folder = code, folder
        self.context = browser.new_context(accept_downloads=True)
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.goto(page)

    def begin(self):
        self.page.get_by_label("Your rater code").fill(self.code)
        self.page.get_by_role("button", name="Begin").click()

    def good_side(self):
        """`left` or `right`: where the explanation of the good system stands."""
        return "left" if "good" in self.page.locator("#left").inner_text() else "right"

    def click_through(self, side):
        """Answer every question of this comparison by the mouse."""
        for field in self.page.locator("fieldset").all():
            field.locator(f"input[value={side}]").check()
        self.page.get_by_role("button", name="Next").click()

    def type_through(self, side):
        """Answer every question of this comparison by keys."""
        for _ in CRITERIA:
            self.page.keyboard.press({"left": "a", "right": "b", "tie": "t"}[side])
        self.page.keyboard.press("Enter")

    def progress(self):
        return self.page.locator("#count").inner_text()

    def save(self, kind):
        with self.page.expect_download() as saved:
            self.page.get_by_role("button", name=f"Save as {kind}").click()
        file = self.folder / saved.value.suggested_filename
        saved.value.save_as(file)
        return file


@pytest.fixture(scope="module")
def answers(browser, study, tmp_path_factory):
    """Two raters' files: the first prefers the good system, the second takes ties at times."""
    made, folder = study
    address = (folder / "study.html").as_uri()
    place = tmp_path_factory.mktemp("answers")
    first = Rater(browser, address, "first-1", place)
    first.begin()
    shown = []
    for turn in range(4):
        shown.append((first.page.locator("#title").inner_text(), first.good_side()))
        if turn == 2:  # half of the questions, then the page is loaded again
            for _ in range(3):
                first.page.keyboard.press("a" if first.good_side() == "left" else "b")
            before = first.page.locator("#left").inner_text()
            first.page.reload()
            assert first.progress() == "2 of 4"
            assert first.page.locator("#left").inner_text() == before
            assert first.page.locator("input:checked").count() == 3
            for field in first.page.locator("fieldset").all()[3:]:
                field.locator(f"input[value={first.good_side()}]").check()
            first.page.get_by_role("button", name="Next").click()
        else:
            first.click_through(first.good_side())
    assert first.progress() == "4 of 4"
    assert first.page.get_by_role("heading", name="All done").is_visible()
    second = Rater(browser, address, "second", place)
    second.begin()
    other = []
    for turn in range(4):
        other.append((second.page.locator("#title").inner_text(), second.good_side()))
        second.type_through("tie" if turn == 0 else second.good_side())
    files = [first.save("JSON"), second.save("CSV")]
    for rater in (first, second):
        assert rater.complaints == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in rater.requests)
        rater.context.close()
    return made, folder, files, (shown, other)


def test_each_rater_has_an_order_of_their_own_and_both_sides(answers):
    _, _, _, (first, second) = answers
    assert sorted(title for title, _ in first) == sorted(title for title, _ in second)
    assert first != second
    assert len({side for _, side in (*first, *second)}) == 2


def test_a_question_stays_open_until_it_is_answered(browser, study, tmp_path):
    rater = Rater(browser, (study[1] / "study.html").as_uri(), "slow", tmp_path)
    rater.begin()
    title = rater.page.locator("#title").inner_text()
    assert rater.page.get_by_role("button", name="Next").is_disabled()
    rater.page.keyboard.press("Enter")
    assert rater.page.locator("#title").inner_text() == title
    rater.page.keyboard.press("a")
    assert rater.page.locator("fieldset.active").get_attribute("data-criterion") == CRITERIA[1]
    rater.context.close()


def test_a_page_on_which_nothing_can_be_kept_says_so(browser, study, tmp_path):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
    )
    page.goto((study[1] / "study.html").as_uri())
    page.get_by_label("Your rater code").fill("x")
    page.get_by_role("button", name="Begin").click()
    assert "keeps nothing" in page.locator("#warning").inner_text()
    context.close()


def test_texts_of_others_are_texts_on_the_page(browser, study, tmp_path):
    rater = Rater(browser, (study[1] / "study.html").as_uri(), "x", tmp_path)
    rater.begin()
    texts = rater.page.locator("blockquote").all_inner_texts()
    assert any(text.startswith(EVIL) for text in texts)
    assert "<i>loud</i> action" in rater.page.locator("#of-user").inner_text()
    assert rater.page.locator("blockquote b, #of-user i").count() == 0
    source = (study[1] / "study.html").read_text("utf-8")
    assert "EXP3RT" not in source and '"good"' not in source, "the names of systems are hidden"
    rater.context.close()


def test_the_report_has_the_majority_the_agreement_and_the_figure(answers, browser):
    _, folder, files, _ = answers
    rated = report_study(folder, files, overwrite=True)
    assert list(rated.raters) == ["first-1", "second"]
    for one in rated.standings:
        # one says tie, one says good: no majority, and no tie; elsewhere both say good
        assert (one.one, one.other, one.n) == ("good", "bad", 4)
        assert (one.win, one.tie, one.loss, one.split) == (0.75, 0.0, 0.0, 0.25)
    kept = json.loads((folder / "study-report.json").read_text("utf-8"))
    assert len(kept["answers"]) == 2 * 4 * 5 and "first-1" not in json.dumps(kept)
    # nominal alpha by hand: 8 values, 7 good and 1 tie; one of 4 units disagrees:
    # D_o = 2/8, D_e = 2*7*1/(8*7) = 1/4, alpha = 0
    assert kept["agreement"][0]["alpha"] == pytest.approx(0.0)
    page = browser.new_page()
    page.goto((folder / "study-report.html").as_uri(), timeout=120_000)  # 5 MB of script
    page.wait_for_timeout(500)
    for _ in range(100):
        if page.evaluate("document.querySelectorAll('.chart .bars .point').length") >= 20:
            break
        page.wait_for_timeout(50)
    # five criteria: win, tie, loss, no majority
    assert page.locator(".chart .bars .point").count() == 20
    assert "no majority" in page.locator("figure .legend").text_content()
    assert "No majority" in page.locator("#preferences thead").inner_text()
    assert "good against each other system" in page.locator("figure").inner_text()
    page.close()


def test_the_files_of_two_raters_are_of_the_key_and_of_this_study(answers, tmp_path):
    made, folder, files, _ = answers
    body = json.loads(files[0].read_text("utf-8"))
    assert body["study"] == made.id and body["rater"] == "first-1"
    rows = list(csv.DictReader(files[1].read_text("utf-8").splitlines()))
    assert {row["criterion"] for row in rows} == set(CRITERIA)
    hidden = {task: made.key[task].x for task in made.key}
    chosen = {row["task"]: row["choice"] for row in body["answers"]}
    assert all((hidden[task] == "good") == (choice == "x") for task, choice in chosen.items())
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**body, "study": "another"}), encoding="utf-8")
    with pytest.raises(UsageError, match="is of study another, the key of"):
        report_study(folder, [other], output=tmp_path)
