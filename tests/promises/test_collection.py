"""The futures an executor keeps by key."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask, current_app

from flask_executor import DuplicateKey, Executor, FutureCollection, WaitTimeout
from tests import inside
from tests.support import WAIT, Gate, MakeExecutor, app_log, at_once

STATES = ["pending", "running", "succeeded", "failed", "cancelled"]


def plain_future(state: str, outcome: object = None) -> Future[Any]:
    future: Future[Any] = Future()
    if state == "cancelled":
        future.cancel()
    elif state != "pending":
        future.set_running_or_notify_cancel()
    if state == "succeeded":
        future.set_result(outcome)
    if state == "failed":
        future.set_exception(LookupError(outcome))
    return future


def keys_of(futures: FutureCollection, keys: str) -> str:
    return "".join(key for key in keys if key in futures)


@pytest.mark.parametrize("state", STATES)
def test_the_collection_tells_the_state_of_any_future(state: str) -> None:
    futures, future = FutureCollection(), plain_future(state)

    futures.add("key", future)

    assert futures.state("key") == state
    assert futures._state("key") == future._state
    assert futures.done("key") is (state not in {"pending", "running"})
    assert futures.running("key") is (state == "running")
    assert futures.cancelled("key") is (state == "cancelled")


@pytest.mark.parametrize("states", [("pending", "cancelled"), ("running", "succeeded")])
def test_a_state_is_never_one_that_the_future_did_not_have(states: tuple[str, str]) -> None:
    class Changing(Future[Any]):
        """Ends while it is being looked at."""

        def end(self) -> None:
            if states[1] == "cancelled":
                self.cancel()
            elif not super().done():
                self.set_result(None)

        def running(self) -> bool:
            answer = super().running()
            self.end()
            return answer

        def cancelled(self) -> bool:
            answer = super().cancelled()
            self.end()
            return answer

    future = Changing()
    if states[0] == "running":
        future.set_running_or_notify_cancel()
    futures = FutureCollection()
    futures.add("key", future)

    assert futures.state("key") in states


def test_outcomes_are_those_of_the_future() -> None:
    futures = FutureCollection()
    failed = plain_future("failed", "on purpose")
    futures.add("succeeded", plain_future("succeeded", 8))
    futures.add("failed", failed)
    futures.add("pending", plain_future("pending"))

    assert futures.result("succeeded") == 8
    assert futures.exception("succeeded") is None
    assert futures.exception("failed") is failed.exception()
    with pytest.raises(LookupError, match="on purpose"):
        futures.result("failed")
    for wait in (futures.result, futures.exception):
        with pytest.raises(TimeoutError):
            wait("pending", timeout=0)
    assert futures.cancel("pending") is True
    assert futures.cancel("succeeded") is False
    with pytest.raises(CancelledError):
        futures.result("pending")


@pytest.mark.parametrize(
    "ask",
    [
        *("get", "pop", "state", "_state", "done", "running", "cancelled", "cancel"),
        *("result", "exception"),
    ],
)
def test_a_key_that_is_not_there_is_answered_with_none(ask: str) -> None:
    assert getattr(FutureCollection(), ask)("key") is None


def test_a_callback_on_a_key_is_one_on_its_future() -> None:
    futures, future = FutureCollection(), plain_future("running")
    called: list[Future[Any]] = []
    futures.add("key", future)

    futures.add_done_callback("key", called.append)
    futures.add_done_callback("another", called.append)
    future.set_result(None)

    assert called == [future]


def test_get_leaves_a_future_and_pop_takes_it_out() -> None:
    futures, future, other = FutureCollection(), plain_future("pending"), plain_future("pending")
    futures.add("key", future)

    assert futures.get("key") is future
    assert len(futures) == 1
    assert "key" in futures
    assert future in futures
    assert other not in futures
    assert futures.pop("key") is future
    assert len(futures) == 0
    assert "key" not in futures
    assert future not in futures


def test_the_keys_are_there_oldest_first() -> None:
    futures = FutureCollection()
    for key in ("b", ("report", 7), "a"):
        futures.add(key, plain_future("pending"))
    futures.pop("b")
    futures.add("b", plain_future("pending"))

    assert futures.keys() == [("report", 7), "a", "b"]
    assert list(futures) == futures.keys()


def test_keys_may_be_added_and_popped_while_they_are_iterated() -> None:
    futures = FutureCollection()
    for key in "abc":
        futures.add(key, plain_future("pending"))
    seen = []
    for key in futures:
        seen.append(key)
        futures.pop(key)
        futures.add(key.upper(), plain_future("pending"))

    assert seen == ["a", "b", "c"]
    assert futures.keys() == ["A", "B", "C"]


def test_a_key_is_free_again_once_it_was_popped() -> None:
    futures, first, second = FutureCollection(), plain_future("pending"), plain_future("pending")
    futures.add("key", first)
    with pytest.raises(DuplicateKey, match="under this key already; pop it first, or use anoth"):
        futures.add("key", second)
    assert futures.get("key") is first

    futures.pop("key")
    futures.add("key", second)
    futures.add("same future, another key", second)

    assert futures.get("key") is futures.get("same future, another key") is second


@pytest.mark.parametrize(
    ("key", "future", "message"),
    [
        ("key", None, "^None cannot be stored; expected a concurrent.futures.Future$"),
        ("key", 8, "^a value of the type int cannot be stored"),
        (None, Future(), "^None cannot be a key"),
        ([], Future(), "unhashable"),
    ],
    ids=["no future", "a result", "no key", "a list"],
)
def test_what_cannot_be_stored_is_refused(key: Any, future: Any, message: str) -> None:
    futures = FutureCollection()

    with pytest.raises(TypeError, match=message):
        futures.add(key, future)

    assert len(futures) == 0


def test_a_loops_own_future_cannot_be_stored() -> None:
    async def view() -> None:
        with pytest.raises(TypeError, match="expected a concurrent"):
            FutureCollection().add("key", asyncio.get_running_loop().create_future())

    asyncio.run(view())


def test_only_done_futures_are_dropped_and_the_oldest_first() -> None:
    futures = FutureCollection(max_length=3)
    unfinished = plain_future("running")
    futures.add("a", unfinished)
    for key, state in zip("bcd", ("failed", "cancelled", "succeeded"), strict=True):
        futures.add(key, plain_future(state))
    kept = [keys_of(futures, "abcde")]
    futures.add("e", plain_future("pending"))
    kept.append(keys_of(futures, "abcde"))
    unfinished.set_result(None)
    for key in "fg":
        futures.add(key, plain_future("pending"))
        kept.append(keys_of(futures, "abcdefg"))

    assert kept == ["acd", "ade", "aef", "efg"]


def test_what_is_dropped_is_handed_over_without_the_lock() -> None:
    dropped: list[Future[Any]] = []

    def on_drop(future: Future[Any]) -> None:
        dropped.append(future)
        # In this thread, the lock could be entered once more.
        assert at_once(futures.keys) == [["c"]]

    futures = FutureCollection(max_length=1, on_drop=on_drop)
    added = [plain_future("pending") for _ in "abc"]
    for key, future in zip("ab", added, strict=False):
        futures.add(key, future)
    for future in added:
        future.cancel()
    futures.add("c", added[2])

    assert dropped == added[:2]


def test_what_is_not_done_is_kept_beyond_the_length_until_it_is() -> None:
    futures = FutureCollection(max_length=1)
    for key in "abc":
        futures.add(key, plain_future("pending"))
    before = keys_of(futures, "abc")
    for key in "ab":
        futures.get(key).set_result(None)
    unchanged = keys_of(futures, "abc")

    futures.add("d", plain_future("pending"))

    assert (before, unchanged) == ("abc", "abc")
    assert keys_of(futures, "abcd") == "cd"


def test_the_newest_future_is_not_dropped_for_being_done() -> None:
    futures = FutureCollection(max_length=1)

    for key in "abc":
        futures.add(key, plain_future("succeeded"))

    assert keys_of(futures, "abc") == "c"


def test_without_a_length_all_are_kept() -> None:
    futures = FutureCollection(None)
    for key in range(100):
        futures.add(key, plain_future("succeeded"))

    assert len(futures) == 100


def test_popped_futures_do_not_count() -> None:
    futures = FutureCollection(max_length=2)
    for key in "abc":
        futures.add(key, plain_future("succeeded"))
        futures.add("popped", plain_future("succeeded"))
        futures.pop("popped")

    assert keys_of(futures, "abc") == "c"


def test_the_end_of_a_popped_future_says_nothing_of_the_one_that_took_its_key() -> None:
    futures, first = FutureCollection(max_length=1), plain_future("pending")
    futures.add("key", first)
    futures.pop("key")
    futures.add("key", plain_future("pending"))

    first.set_result(None)
    futures.add("another", plain_future("pending"))

    assert keys_of(futures, ["key", "another"]) == "keyanother"


class MeetingKey:
    """A key that two threads look up together, unless one has to wait for the other."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)

    def __hash__(self) -> int:
        with suppress(threading.BrokenBarrierError):
            self._barrier.wait(0.2)
        return 1


def test_of_threads_that_add_under_one_key_one_succeeds() -> None:
    futures, key = FutureCollection(), MeetingKey()
    added = [plain_future("pending") for _ in range(4)]

    answers = at_once(*[lambda future=future: futures.add(key, future) for future in added])

    (winner,) = [f for f, answer in zip(added, answers, strict=True) if answer is None]
    assert [type(a) for a in answers if a is not None] == [DuplicateKey] * 3
    assert futures.get(key) is winner


def test_of_threads_that_submit_under_one_key_one_starts_a_job(executor: Executor) -> None:
    ran: list[int] = []
    key = MeetingKey()

    answers = at_once(*[lambda n=n: executor.submit_stored(key, ran.append, n) for n in range(4)])
    executor.drain(WAIT)

    (n,) = [n for n, answer in enumerate(answers) if not isinstance(answer, DuplicateKey)]
    assert ran == [n]


def test_adding_and_popping_from_many_threads_loses_nothing() -> None:
    futures = FutureCollection(max_length=5)

    def use(thread: int) -> None:
        for n in range(200):
            futures.add((thread, n), future := Future())
            assert futures.get((thread, n)) is future
            future.set_result(n)
            assert futures.pop((thread, n)) in {future, None}

    assert at_once(*[lambda n=n: use(n) for n in range(4)]) == [None] * 4
    assert len(futures) == 0
    assert inside.keys_of_ended(futures) == []


# The collection of an executor


def test_a_stored_job_is_found_by_its_key(app: Flask, executors: MakeExecutor, gate: Gate) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    future = executor.submit_stored("key", pow, 2, 3)
    other = executor.options(key=("report", 7)).submit(pow, 2, 4)
    unstored = executor.submit(pow, 2, 5)
    states = [executor.futures.state("key")]
    with pytest.raises(WaitTimeout):
        executor.futures.result("key", timeout=0)
    gate.open()

    assert executor.futures.result("key", WAIT) == 8
    assert executor.futures.get("key") is future
    assert executor.futures.get(("report", 7)) is other
    assert unstored not in executor.futures
    assert [*states, executor.futures.state("key")] == ["pending", "succeeded"]


def test_a_stored_job_can_be_cancelled_by_its_key(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    future = executor.submit_stored("key", pow, 2, 3)
    seen: list[str] = []
    executor.futures.add_done_callback("key", lambda _: seen.append(current_app.name))

    assert executor.futures.cancel("key") is True

    assert future.cancelled()
    assert seen == ["app"]


def test_as_many_futures_are_kept_as_the_config_says(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, futures_max_length=2)
    gate.occupy(executor)
    for key in "abc":
        executor.submit_stored(key, pow, 2, 3)
    before = keys_of(executor.futures, "abc")
    gate.open()
    executor.drain(WAIT)
    executor.submit_stored("d", pow, 2, 3)

    assert executor.futures.max_length == 2
    assert before == "abc"
    assert keys_of(executor.futures, "abcd") == "cd"


@pytest.mark.parametrize("name", ["", "mail"])
def test_each_drop_is_logged_by_job_and_the_first_with_the_config_key(
    app: Flask, executors: MakeExecutor, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    executor = executors(app, name=name, futures_max_length=1)
    with caplog.at_level(logging.DEBUG, "app"):
        for key in ("secret-1", "secret-2", "secret-3"):
            executor.submit_stored(key, pow, 2, 3)
            executor.drain(WAIT)
        executor.futures.add("secret-4", plain_future("succeeded"))
        executor.futures.add("secret-5", plain_future("succeeded"))

    prefix = "MAIL_EXECUTOR_" if name else "EXECUTOR_"
    assert [record.levelno for record in app_log(caplog)] == [logging.DEBUG] * 4
    assert [record.getMessage() for record in app_log(caplog)] == [
        (
            f"A stored future of the job pow was dropped: {prefix}FUTURES_MAX_LENGTH is 1, and "
            "more are stored. Pop the futures that are not needed any more, or set a greater "
            "number, or None to keep all"
        ),
        "A stored future of the job pow was dropped",
        "A stored future of the job pow was dropped",
        "A stored future of no job was dropped",
    ]


def test_futures_are_dropped_although_the_app_is_gone() -> None:
    app = Flask("gone")
    app.config["EXECUTOR_FUTURES_MAX_LENGTH"] = 1
    futures = Executor(app).futures
    del app
    gc.collect()
    for key in "ab":
        futures.add(key, plain_future("succeeded"))

    assert futures.keys() == ["b"]


def test_a_drop_whose_line_cannot_be_logged_costs_only_the_line(
    app: Flask, executors: MakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    executor = executors(app, futures_max_length=1)
    app.logger.setLevel(logging.DEBUG)
    handler = Broken()
    app.logger.addHandler(handler)
    try:
        for key in "ab":
            executor.submit_stored(key, pow, 2, 3)
            executor.drain(WAIT)
    finally:
        app.logger.removeHandler(handler)
        app.logger.setLevel(logging.NOTSET)

    assert executor.futures.result("b") == 8
    assert "the disk is full" in capsys.readouterr().err


def test_each_app_has_a_collection_of_its_own(executors: MakeExecutor) -> None:
    shop, admin = Flask("shop"), Flask("admin")
    executor = executors(shop, admin)
    for app, exponent in ((shop, 3), (admin, 4)):
        with app.app_context():
            executor.submit_stored("key", pow, 2, exponent)

    with shop.app_context():
        assert executor.futures.result("key", WAIT) == 8
    with admin.app_context():
        assert executor.futures.result("key", WAIT) == 16


def test_the_default_callback_of_a_stored_job_may_pop_it(executor: Executor) -> None:
    executor.add_default_done_callback(lambda future: executor.futures.pop(future.key))

    future = executor.submit_stored("key", pow, 2, 3)
    executor.drain(WAIT)

    assert future.result() == 8
    assert "key" not in executor.futures
