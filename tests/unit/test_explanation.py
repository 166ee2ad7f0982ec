"""A printed explanation reads well in a terminal and a notebook, whatever others wrote."""

from html.parser import HTMLParser

from recbole_exp3rt.display.explanation import WIDTH, Explanation
from recbole_exp3rt.records import Description, Profile, RatingPrediction
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.text import marked_if_cut

SCALE = RatingScale.between(1, 10)
WHY = "The user likes quiet rooms, and this one is calm. " * 4
SHARES = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.7, 0.2, 0.0]
PROBABILITIES = dict(zip(SCALE.labels, SHARES, strict=True))
PREDICTION = RatingPrediction("guest1", "b7", WHY, 8.21, 8, PROBABILITIES)


def explanation(title="Blue Lantern", likes=("quiet rooms", "good wine"), said=PREDICTION):
    return Explanation(
        Profile("user", "guest1", likes, ()),
        Profile("item", "b7", ("calm",), ("slow service",)),
        Description("b7", (("Title", title), ("Cuisine", "Thai"))),
        7.5,
        None,
        (),
        said,
        SCALE,
    )


def test_it_is_printed_as_short_lines_with_names_before_values():
    lines = str(explanation()).splitlines()
    assert lines[0] == ("guest1 and Blue Lantern (b7): predicted 8.21 (most probable 8; 1–10)")
    assert max(map(len, lines)) <= WIDTH
    for line in (
        "User guest1",
        "  likes       quiet rooms; good wine",
        "  dislikes    none",
        "  average     7.50",
        "Item b7",
        "  Cuisine     Thai",
        "  average     no rating",
        "         8  70.0% █████████████████",
        "        10   0.0%",
    ):
        assert line in lines, line


def test_an_answer_that_could_not_be_read_says_so():
    printed = str(explanation(said=None))
    assert "guest1 and Blue Lantern (b7): the model's answer could not be read" in printed
    assert (
        "Probability" not in printed and "could not be read" in explanation(said=None)._repr_html_()
    )


class Tags(HTMLParser):
    """The tags that a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.found = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]


def test_texts_of_others_neither_rule_the_terminal_nor_the_notebook():
    evil = "<img src=x onerror=alert(1)></td><script>x</script>\x1b[31m & \u202e"
    told = explanation(title=evil, likes=(evil, '"a" <b>'))
    page = told._repr_html_()
    assert Tags(page).found == {"div", "p", "b", "table", "tr", "th", "td", "span"}
    assert "&lt;script&gt;" in page
    for text in (page, str(told)):
        assert "\x1b" not in text and "\u202e" not in text


def test_an_answer_that_was_cut_off_says_so():
    assert marked_if_cut("I liked it. The slow") == "I liked it. The slow …"
    for whole in ("", "It suits you.", 'He said "no."', "Really?", "**Yes.**"):
        assert marked_if_cut(whole) == whole
