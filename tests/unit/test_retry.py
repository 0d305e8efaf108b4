"""How long a `Retry` waits, and which values it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from flask_executor import Retry


def test_each_wait_is_longer_up_to_the_longest() -> None:
    retry = Retry(6, delay=2, factor=3, max_delay=50, jitter=False)

    waits = [retry.wait_after(attempt, KeyError()) for attempt in range(1, 7)]

    assert waits == [2, 6, 18, 50, 50, None]


def test_a_power_that_no_float_can_hold_is_the_longest_wait() -> None:
    assert Retry(10_001, factor=10.0, jitter=False).wait_after(10_000, KeyError()) == 60


def test_no_wait_stays_none_after_any_number_of_attempts() -> None:
    for factor in (2, 2.0):
        retry = Retry(10_001, delay=0.0, factor=factor, jitter=False)
        assert retry.wait_after(10_000, KeyError()) == 0


def test_jitter_takes_a_random_part_of_the_wait() -> None:
    retry = Retry(2, delay=8)

    waits = {retry.wait_after(1, KeyError()) for _ in range(100)}

    assert len(waits) > 90
    assert all(wait is not None and 0 <= wait <= 8 for wait in waits)


@pytest.mark.parametrize(
    ("given", "wait"), [(7, 7), (0, 0), (0.5, 0.5), (True, 1), (-1, 1), (None, 1), ("7", 1)]
)
def test_the_exception_sets_the_wait_by_a_number(given: object, wait: float) -> None:
    error: Any = KeyError()
    error.retry_after = given

    assert Retry(2, delay=1, jitter=False).wait_after(1, error) == wait


@pytest.mark.parametrize(
    ("on", "is_retried"),
    [(Exception, True), (LookupError, True), ((OSError, KeyError), True), (OSError, False)],
)
def test_only_exceptions_of_the_given_types_are_worth_it(on: Any, is_retried: bool) -> None:
    assert (Retry(2, on=on).wait_after(1, KeyError()) is not None) is is_retried


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"attempts": 0}, ValueError, "attempts is 0"),
        ({"attempts": "3"}, TypeError, "attempts is a value of the type str"),
        ({"on": KeyError()}, TypeError, "on is a value of the type KeyError; expected a type of"),
        ({"on": (KeyError, int)}, TypeError, "expected a type of exception, or a tuple of types"),
        ({"delay": -1}, ValueError, "delay is -1; expected a number of seconds, 0 or more$"),
        ({"delay": True}, TypeError, "delay is True; expected a number of seconds, 0 or more$"),
        ({"delay": float("nan")}, ValueError, "delay is nan"),
        ({"delay": None}, TypeError, "delay is None; expected a number of seconds, 0 or more$"),
        ({"max_delay": None}, TypeError, "max_delay is None"),
        ({"jitter": 0.5}, TypeError, "jitter is 0.5; expected True or False"),
        ({"factor": None}, TypeError, "factor is None"),
        ({"max_delay": "1"}, TypeError, "max_delay is a value of the type str"),
        ({"factor": 0}, ValueError, "factor is 0"),
    ],
)
def test_a_value_that_cannot_be_is_refused(
    values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Retry(**{"attempts": 2, **values})
