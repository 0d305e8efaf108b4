"""How messages and log lines name things."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from flask_executor.messages.shown import kind_of, name_of, public_address, shown_setting


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (pow, "pow"),
        (lambda: 1, "<lambda>"),
        (partial(partial(pow, 2), 3), "pow"),
        ("x".join, "join"),
        (threading.Event(), "Event"),
        (type("two\nlines", (), {})(), "two\\nlines"),
    ],
)
def test_a_function_is_known_by_its_name_on_one_line(fn, name):
    assert name_of(fn) == name


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "None"),
        ("text", "a value of the type str"),
        (threading.Lock(), "a value of the type _thread.lock"),
    ],
)
def test_a_value_is_known_by_its_type(value, kind):
    assert kind_of(value) == kind


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("thred", "'thred'"),
        ("two\nlines", "'two\\nlines'"),
        (-1, "-1"),
        (True, "True"),
        (0.5, "0.5"),
        ("x" * 101, "a value of the type str"),
        ([1], "a value of the type list"),
    ],
)
def test_a_setting_is_shown_if_it_is_short_and_plain(value, shown):
    assert shown_setting(value) == shown


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("tcp://127.0.0.1:8786", "tcp://127.0.0.1:8786"),
        ("tls://[::1]:8786", "tls://[::1]:8786"),
        ("scheduler.example.org:8786", "scheduler.example.org:8786"),
        ("scheduler", "scheduler"),
        ("tcp://user:pass@word@host:1", "tcp://host:1"),
        ("user@host", "host"),
        ("tcp://host:1/path", None),
        ("tcp://host:1?token=a", None),
        ("tcp://user:password", None),
        ("tcp://user@\nhost", None),
        ("", None),
    ],
)
def test_an_address_is_public_without_user_and_password(address, public):
    assert public_address(address) == public
