"""Requests and tokens a minute, by a clock that the test moves."""

import json

import pytest

from recbole_exp3rt.llm.server.rate_limit import Limits, Pace, most_tokens


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_requests_come_one_after_another_and_no_minute_has_more_than_allowed():
    clock = Clock()
    pace = Pace(30, clock)
    turns = [clock.now + pace.delay(1) for _ in range(100)]  # all are asked at once
    assert turns[:4] == [0.0, 2.0, 4.0, 6.0]
    for start in turns:
        assert sum(start <= turn < start + 60 for turn in turns) <= 30


def test_a_pause_is_not_saved_up_for_a_burst():
    clock = Clock()
    pace = Pace(60, clock)
    pace.delay(1)
    clock.now = 1000.0
    assert [pace.delay(1) for _ in range(3)] == [0.0, 1.0, 2.0]


def test_a_long_question_takes_the_time_of_many_short_ones():
    pace = Pace(600, Clock())
    assert [pace.delay(n) for n in (300, 10, 5000, 1)] == [0.0, 30.0, 31.0, 531.0]


def test_the_slower_of_both_limits_holds_and_without_any_nobody_waits():
    body = {"messages": [{"role": "user", "content": "x" * 334}], "max_tokens": 900}
    assert len(json.dumps(body)) == 400
    assert most_tokens(body) == 1000
    both = Limits(60, 2000, Clock())
    assert [both.delay(body) for _ in range(3)] == [0.0, 30.0, 60.0]
    free = Limits()
    assert [free.delay(body) for _ in range(3)] == [0.0] * 3


@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": 7000},
        {"max_completion_tokens": 7000},
        {"n_predict": 7000},
        {"sampling_params": {"max_new_tokens": 7000}},
    ],
)
def test_new_tokens_count_by_whatever_name(body):
    assert 7000 < most_tokens(body) < 7020
