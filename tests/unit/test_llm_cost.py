"""Prices, the estimate, the ledger, and a budget that is never crossed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_exp3rt.config.known import known_keys
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Failure, Message, Request, answer_all
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.budget import BudgetReached, MeteredLLM
from recbole_exp3rt.llm.cost.ledger import Ledger
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import Store

ROOT = Path(__file__).parents[2]
GPT = "openai:gpt-4o-mini@gpt-4o-mini-2024-07-18+top"


def ask(text, new=4):
    return Request((Message("user", text),), max_new_tokens=new)


def teacher(reply=lambda request: "two words", identity=GPT):
    return ScriptedLLM(reply, identity=identity)


def priced(tmp_path, text):
    file = tmp_path / "prices.yaml"
    file.write_text(text, encoding="utf-8")
    return Prices.load(file)


@pytest.fixture
def dear(tmp_path):
    """A dollar a token."""
    return priced(
        tmp_path, "as_of: 2026-01-01\nmodels: {gpt-4o-mini: {prompt: 1000000, new: 1000000}}"
    )


# --- prices


def test_an_estimate_is_a_line_with_its_date():
    said = str(Prices.load().estimate(1200, 500_000, 300_000, "openai:gpt-4o-mini"))
    assert said == (
        "openai:gpt-4o-mini: 1,200 calls, about 500,000 prompt and 300,000 new tokens, "
        "about $0.26 by the prices of 2025-06-01"  # 0.5 * 0.15 + 0.3 * 0.60 = 0.255
    )


@pytest.mark.parametrize(
    ("model", "cost"),
    [
        ("openai:gpt-4o-mini", 0.75),
        ("batch:gpt-4o-mini", 0.375),
        (GPT, 0.75),
        ("openai:gpt-3.5-turbo-0125", 2.0),
        ("openai:ft:gpt-4o-mini-2024-07-18:me::9a", 1.5),
        ("openai:my-own-model", None),
        ("oracle", 0.0),
        ("smollm2@bcc81830d10c+float32", 0.0),
        ("gpt-4o-mini", 0.0),  # a local folder of that name
    ],
)
def test_a_million_tokens_each_way(model, cost):
    estimate = Prices.load().estimate(1, 1_000_000, 1_000_000, model)
    assert estimate.cost == (cost if cost is None else pytest.approx(cost))


def test_an_unknown_price_is_said_and_free_is_free():
    prices = Prices.load()
    assert "cost unknown: no price of openai:x" in str(prices.estimate(1, 2, 3, "openai:x"))
    assert str(prices.estimate(1, 2, 3, "oracle")).endswith("new tokens, no cost")


def test_of_several_patterns_the_longest_holds_and_a_name_before_any(tmp_path):
    prices = priced(
        tmp_path,
        "models: {'*': {prompt: 1, new: 1}, 'gpt-*': {prompt: 2, new: 1},"
        " 'gpt-5-*-old': {prompt: 3, new: 1}, gpt-5: {prompt: 4, new: 1}}",
    )
    names = ("llama", "gpt-6", "gpt-5-x-old", "gpt-5")
    assert [prices.price(f"openai:{name}").prompt for name in names] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {x: 3}", "x: 3 is not {prompt: USD, new: USD}"),
        ("models: {x: {prompt: 1}}", "is not {prompt: USD, new: USD}"),
        ("models: {x: {prompt: -1, new: 1}}", "is not {prompt: USD, new: USD}"),
        ("models: {x: {prompt: 1, new: 1, batch_discount: 50}}", "between 0 and 1"),
        ("x: 1", "has no `models:`"),
        ("models: [", "is no YAML"),
    ],
)
def test_a_wrong_price_file_is_one_line(tmp_path, text, message):
    with pytest.raises(UsageError) as error:
        priced(tmp_path, text)
    assert message in str(error.value) and "prices.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_price_file_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"prices: .*none.yaml cannot be read: No such file"):
        Prices.load(tmp_path / "none.yaml")


def test_the_price_files_keys_are_no_settings():
    assert not {"as_of", "models"} & known_keys()


# --- the ledger


def test_each_answer_is_a_line_and_totals_are_by_model(tmp_path):
    file = tmp_path / "saved" / "ledger.jsonl"
    llm = MeteredLLM(teacher(), Prices.load(), Ledger(file))
    answer_all(llm, [ask("one two three"), ask("one")])
    other = teacher(identity="openai:unheard-of@1+parsed")
    answer_all(MeteredLLM(other, Prices.load(), Ledger(file)), [ask("one")])
    first = json.loads(file.read_text().splitlines()[0])
    assert first.pop("when").startswith("20")
    assert first == {
        **{"model": GPT, "calls": 1, "prompt_tokens": 3, "new_tokens": 2},
        "cost": pytest.approx((3 * 0.15 + 2 * 0.60) / 1e6, rel=1e-3),
    }
    spent = Ledger(file).by_model()
    assert (spent[GPT].calls, spent[GPT].prompt_tokens, spent[GPT].new_tokens) == (2, 4, 4)
    assert spent["openai:unheard-of@1+parsed"].unpriced == 1
    assert "in all: 3 calls, 5 prompt and 6 new tokens" in str(Ledger(file))
    assert "(1 calls without a known price)" in str(Ledger(file))
    assert llm.spent.calls == 2


def test_a_ledger_sees_what_others_spend_meanwhile(tmp_path):
    one, other = Ledger(tmp_path / "l.jsonl"), Ledger(tmp_path / "l.jsonl")
    other.add("m", 1, 1, 0.5)
    one.add("m", 1, 1, 0.25)
    assert one.total == other.total
    assert one.total.cost == 0.75


def test_a_torn_line_costs_itself_only(tmp_path):
    file = tmp_path / "l.jsonl"
    ledger = Ledger(file)
    ledger.add("m", 1, 1, 1.0)
    with file.open("ab") as torn:
        torn.write(b'{"when": "2026-01-01", "mod')
    again = Ledger(file)
    again.add("m", 1, 1, 1.0)
    assert again.total.cost == Ledger(file).total.cost == 2.0


LINE = {"when": "2026-01-01", "model": "m", "calls": 1, "prompt_tokens": 1, "new_tokens": 1}


def line(cost, **other):
    return json.dumps({**LINE, "cost": 0, **other}).replace('"cost": 0', f'"cost": {cost}')


@pytest.mark.parametrize(
    "garbage",
    [
        line("NaN"),
        line("1e999"),
        line("-1e999"),
        line("-5"),
        line("true"),
        line('"1"'),
        line(10**400),
        line(1, calls=-1),
        line(1, prompt_tokens=None),
        '{"when": "2026", "cost": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "[" * 100_000,
        "\x00\xff{}",
        line(1)[:40] + line(1),  # torn, and written on by something else
    ],
    ids=[
        *("NaN", "1e999", "-1e999", "negative", "true", "text", "400 digits", "calls", "null"),
        *("deep", "deep and torn", "binary", "glued"),
    ],
)
def test_a_line_that_holds_no_costs_is_passed_over_but_no_budget_is_kept_by_it(
    tmp_path, dear, garbage
):
    file = tmp_path / "l.jsonl"
    file.write_bytes("\n".join([line(1.5), garbage, line(2), ""]).encode("latin-1"))
    ledger = Ledger(file)
    assert ledger.total == Ledger(file).total and ledger.total.cost == 3.5
    assert "not counted: line 2: " in str(ledger)
    answer_all(MeteredLLM(teacher(), dear, ledger), [ask("film")])
    assert ledger.total.cost == 6.5
    inner = teacher()
    with pytest.raises(UsageError, match=r"cannot be kept.*line 2: .*remove") as error:
        answer_all(MeteredLLM(inner, dear, Ledger(file), 1e9), [ask("film")])
    assert inner.calls == 0 and "\n" not in str(error.value)


def test_a_line_that_another_process_tears_meanwhile_costs_itself_only(tmp_path, dear):
    file = tmp_path / "l.jsonl"
    one = Ledger(file)
    one.add("m", 1, 1, 1.0)
    with file.open("ab") as torn:
        torn.write(line(1)[:50].encode())
    one.add("half \ud83d", 1, 1, 2.0)
    assert one.total.cost == Ledger(file).total.cost == 3.0
    answer_all(MeteredLLM(teacher(), dear, Ledger(file), 100.0), [ask("film")])


def test_a_ledger_that_cannot_be_written_is_read_and_nothing_is_asked(small_disk, dear):
    disk, make_room = small_disk
    Ledger(disk / "l.jsonl").add("m", 1, 1, 1.0)
    assert make_room("remount,ro")
    ledger, inner = Ledger(disk / "l.jsonl"), teacher()
    assert ledger.total.cost == 1.0
    with pytest.raises(UsageError, match=r"ledger .*l.jsonl cannot be used \(Read-only"):
        answer_all(MeteredLLM(inner, dear, ledger), [ask("film")])
    assert inner.calls == 0


def test_a_ledger_on_a_full_disk_says_so_and_counts_whole_lines(small_disk):
    disk, make_room = small_disk
    ledger, noted = Ledger(disk / "l.jsonl"), 0
    with pytest.raises(UsageError, match=r"cannot be used \(No space left on device\): make room"):
        for _ in range(100):
            ledger.add("m" * 10_000, 1, 1, 1.0)
            noted += 1
    assert make_room()
    ledger.add("m", 1, 1, 1.0)
    assert noted > 0 and Ledger(ledger.path).total.cost == noted + 1


def test_another_file_is_not_written_into(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("my notes")
    with pytest.raises(UsageError, match="holds something else: move it away"):
        Ledger(file)
    assert file.read_text() == "my notes"


def test_a_ledger_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"ledger .* cannot be used .*: make room, or name"):
        Ledger(tmp_path)


WRITES = """
import sys
from recbole_exp3rt.llm.cost.ledger import Ledger
ledger = Ledger(sys.argv[1])
for n in range(int(sys.argv[2])):
    ledger.add("openai:m@1", 1, 1, 0.5)
    print(n, flush=True)
"""


def test_two_processes_and_kill_9_leave_whole_lines(tmp_path):
    file = tmp_path / "l.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    endless, short = (
        subprocess.Popen(
            [sys.executable, "-c", WRITES, str(file), n],
            env=environment, stdout=subprocess.PIPE, text=True,
        )
        for n in ("1000000", "200")
    )  # fmt: skip
    printed, _ = short.communicate(timeout=60)
    while len(file.read_bytes().splitlines()) < 500:
        time.sleep(0.01)
    os.kill(endless.pid, signal.SIGKILL)
    printed += endless.communicate()[0]
    # a process that sees the line of another half written puts a line break before its own
    noted, lines = len(printed.splitlines()), [*filter(None, file.read_text().splitlines())]
    assert all(json.loads(line)["cost"] == 0.5 for line in lines)
    assert 500 <= noted <= len(lines) <= noted + 1  # what was printed is there
    assert Ledger(file).total.cost == 0.5 * len(lines)


# --- the budget


def test_the_budget_is_never_crossed_and_what_was_answered_is_kept(tmp_path, dear):
    """A prompt of one word counts 1 + 16 at most, an answer 4: a bound of $21, a cost of $3."""
    ledger, inner = Ledger(tmp_path / "l.jsonl"), teacher()
    llm = CachedLLM(MeteredLLM(inner, dear, ledger, budget=100.0), Store(tmp_path / "a.sqlite"))
    requests = [ask(f"film{n}") for n in range(60)]
    with pytest.raises(BudgetReached) as error:
        answer_all(llm, requests)
    assert 100.0 - 21.0 < ledger.total.cost <= 100.0
    assert ledger.total.cost == 3.0 * inner.calls
    assert str(error.value) == (
        f"the budget of $100.00 is reached: ${3 * inner.calls}.00 are spent ({ledger.path}), and "
        f"{60 - inner.calls} questions to {GPT} are open; what was answered is kept, the same "
        "command with a larger --budget goes on"
    )
    # started again there is no second budget; with a larger one it pays for the rest alone
    for budget in (100.0, 300.0):
        metered = MeteredLLM(inner, dear, Ledger(ledger.path), budget)
        again = CachedLLM(metered, Store(tmp_path / "a.sqlite"))
        if budget == 100.0:
            with pytest.raises(BudgetReached):
                answer_all(again, requests)
    assert not any(isinstance(answer, Failure) for answer in answer_all(again, requests))
    assert inner.calls == 60 and ledger.total.cost == 180.0


def test_even_answers_as_long_as_allowed_do_not_cross_it(tmp_path, dear):
    ledger = Ledger(tmp_path / "l.jsonl")
    inner = teacher(lambda request: Completion("a b c d e f g h"))
    with pytest.raises(BudgetReached):
        answer_all(MeteredLLM(inner, dear, ledger, 50.0), [ask("film")] * 30)
    assert 50 - 21 < ledger.total.cost <= 50


def test_without_enough_for_one_question_nothing_is_asked(tmp_path, dear):
    inner = teacher()
    with pytest.raises(BudgetReached, match=r"\$20.00 is reached: \$0.00 are spent"):
        answer_all(MeteredLLM(inner, dear, Ledger(tmp_path / "l.jsonl"), 20.0), [ask("film")])
    assert inner.calls == 0


def test_an_unknown_price_and_a_budget_do_not_go_together(tmp_path):
    llm = teacher(identity="openai:mine@1+exact")
    with pytest.raises(UsageError, match=r"add mine to a price file .prices: FILE., or leave"):
        MeteredLLM(llm, Prices.load(), Ledger(tmp_path / "l.jsonl"), 1.0)


def test_what_costs_nothing_needs_no_budget(tmp_path):
    llm = MeteredLLM(teacher(identity="oracle"), Prices.load(), Ledger(tmp_path / "l"), 0.0)
    assert answer_all(llm, [ask("film")] * 3)[2].text == "two words"
    assert llm.ledger.total.cost == 0


def test_a_refusal_is_paid_where_its_tokens_are_known(tmp_path, dear):
    told = iter([Failure("the model refused to answer", 7, 2), Failure("the connection broke")])
    llm = MeteredLLM(teacher(lambda request: next(told)), dear, Ledger(tmp_path / "l.jsonl"))
    answer_all(llm, [ask("film"), ask("film 2")])
    assert llm.ledger.total.cost == 9.0 and llm.ledger.total.calls == 1
