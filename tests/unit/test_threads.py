"""Threads that run calls, and how they are started."""

from __future__ import annotations

import contextvars
import threading

from flask_executor.threads.pool import start_thread
from tests.support import WAIT


def test_a_thread_is_started_from_any_thread_or_it_is_said_why_not() -> None:
    ran = threading.Semaphore(0)
    errors: list[BaseException] = []

    def start() -> None:
        thread = threading.Thread(target=ran.release)
        start_thread(thread)
        thread.join(WAIT)
        try:
            start_thread(thread)
        except RuntimeError as error:
            errors.append(error)

    start()
    other = threading.Thread(target=start)
    other.start()
    other.join(WAIT)

    assert ran.acquire(timeout=0)
    assert ran.acquire(timeout=0)
    assert ["only be started once" in str(error) for error in errors] == [True, True]


def test_a_thread_that_the_main_thread_starts_inherits_no_contextvars() -> None:
    variable = contextvars.ContextVar[str]("variable")
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(variable.get("none")))

    variable.set("the main thread's")
    start_thread(thread)
    thread.join(WAIT)

    assert seen == ["none"]
