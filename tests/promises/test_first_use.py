"""The first use of an executor, by several threads or an event loop, while its pool is opened."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from flask import Flask

from flask_executor import Executor, Stats
from flask_executor.threads.shared_attempt import SharedAttempt
from tests import inside
from tests.support import WAIT, MakeExecutor, at_once


class Factory:
    """Makes a pool of threads as soon as the test lets it, or fails."""

    in_process = True

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_called, self.may_go_on = threading.Semaphore(0), threading.Event()
        self.error: Exception | None = None

    def __call__(self, _: object) -> ThreadPoolExecutor:
        self.calls.append(threading.current_thread().name)
        self.is_called.release()
        assert self.may_go_on.wait(WAIT)
        if self.error is not None:
            raise self.error
        return ThreadPoolExecutor(2)


factory: Factory


@pytest.fixture
def slow(app: Flask, executors: MakeExecutor) -> Iterator[Executor]:
    """An executor whose pool takes as long to open as the test likes."""
    global factory  # noqa: PLW0603 - EXECUTOR_TYPE is the path of a global
    factory = Factory()
    yield executors(app, type=f"{__name__}:factory")
    factory.may_go_on.set()


def in_thread(call: Callable[[], object]) -> Future[object]:
    ended: Future[object] = Future()

    def run() -> None:
        try:
            ended.set_result(call())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run).start()
    return ended


def test_nothing_but_its_callers_waits_for_a_pool_that_opens(slow: Executor) -> None:
    async def on_loop() -> str:
        return "on the loop"

    submitting = in_thread(lambda: slow.submit(int, "7").result(WAIT))
    assert factory.is_called.acquire(timeout=WAIT)

    assert in_thread(slow.stats).result(WAIT) == Stats(0, 0, 0, 0, 0, 0, 0)
    assert in_thread(slow.submit(on_loop).result).result(WAIT) == "on the loop"
    delayed = slow.options(delay=60).submit(int)
    assert in_thread(delayed.cancel).result(WAIT) is True
    assert not submitting.done()
    factory.may_go_on.set()
    assert submitting.result(WAIT) == 7


def test_all_who_come_meanwhile_share_one_opening(slow: Executor) -> None:
    submitting = [in_thread(lambda: slow.submit(int, "7").result(WAIT)) for _ in range(3)]
    assert factory.is_called.acquire(timeout=WAIT)
    factory.may_go_on.set()

    assert [each.result(WAIT) for each in submitting] == [7] * 3
    assert len(factory.calls) == 1


def test_all_who_come_meanwhile_share_one_error_and_the_next_one_tries_again(
    app: Flask, slow: Executor
) -> None:
    factory.error = OSError("no pool to be had")
    first = in_thread(lambda: slow.submit(int))
    assert factory.is_called.acquire(timeout=WAIT)
    others = [in_thread(lambda: slow.submit(int)) for _ in range(2)]
    while inside.count_who_wait_for_the_pool(app) < 2:  # both wait for the first one
        time.sleep(0.001)
    factory.may_go_on.set()

    errors = {id(each.exception(WAIT)) for each in [first, *others]}
    assert errors == {id(factory.error)}
    assert len(factory.calls) == 1
    factory.error = None
    assert slow.submit(int, "7").result(WAIT) == 7
    assert slow.stats() == Stats(2, 1, 0, 0, 1, 0, 0)


def test_an_event_loop_goes_on_while_the_pool_opens_for_a_job_it_awaits(slow: Executor) -> None:
    async def main() -> list[int]:
        first, second = slow.submit_async(int, "7"), slow.submit_async(int, "8")
        while not factory.calls:
            await asyncio.sleep(0.001)
        factory.may_go_on.set()
        return [await first, await second]

    assert asyncio.run(main()) == [7, 8]
    assert len(factory.calls) == 1


def test_an_event_loop_goes_on_while_the_pool_opens_for_map_async(slow: Executor) -> None:
    async def main() -> list[int]:
        results = slow.map_async(int, "789")
        first = asyncio.ensure_future(anext(results))
        while not factory.calls:
            await asyncio.sleep(0.001)
        factory.may_go_on.set()
        return [await first, *[each async for each in results]]

    assert asyncio.run(main()) == [7, 8, 9]


def test_a_pool_that_cannot_be_opened_fails_what_an_event_loop_awaits(slow: Executor) -> None:
    factory.error = OSError("no pool to be had")
    factory.may_go_on.set()

    async def main() -> None:
        with pytest.raises(OSError, match="no pool"):
            await slow.submit_async(int)
        with pytest.raises(OSError, match="no pool"):
            await anext(slow.map_async(int, "7"))

    asyncio.run(main())

    slow.drain(WAIT)
    assert slow.stats() == Stats(0, 1, 0, 0, 0, 1, 0)


def test_a_submit_on_an_event_loop_warns_that_it_waits_for_the_pool(slow: Executor) -> None:
    factory.may_go_on.set()

    async def main() -> int:
        with pytest.warns(RuntimeWarning, match="until the pool is open; await submit_async"):
            future = slow.submit(int, "7")
        return await future

    assert asyncio.run(main()) == 7


def test_a_delayed_job_does_not_open_the_pool_in_the_loops_thread(slow: Executor) -> None:
    async def tick() -> str:
        return threading.current_thread().name

    delayed = slow.options(delay=0.001).submit(int, "7")
    assert factory.is_called.acquire(timeout=WAIT)

    loop_thread = slow.submit(tick).result(WAIT)
    assert loop_thread not in factory.calls
    factory.may_go_on.set()
    assert delayed.result(WAIT) == 7
    slow.drain(WAIT)
    assert slow.stats().pending == 0


def test_a_delayed_job_whose_pool_cannot_be_opened_fails(slow: Executor) -> None:
    factory.error = OSError("no pool to be had")
    factory.may_go_on.set()

    with pytest.raises(OSError, match="no pool"):
        slow.options(delay=0.001).submit(int, "7").result(WAIT)
    slow.drain(WAIT)
    assert slow.stats() == Stats(0, 1, 0, 0, 0, 1, 0)


def test_a_factory_that_uses_its_executor_is_told_so(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type=f"{__name__}:uses_its_executor")
    uses_its_executor.executor = executor  # type: ignore[attr-defined]

    with pytest.raises(RuntimeError, match="is used by the code that makes it"):
        executor.submit(int)


def uses_its_executor(_: object) -> None:
    uses_its_executor.executor.submit(int)  # type: ignore[attr-defined]


uses_its_executor.in_process = True  # type: ignore[attr-defined]


@pytest.mark.usefixtures("fast_switching")
def test_threads_that_use_a_new_executor_in_different_ways_at_once_all_get_results() -> None:
    async def double(n: int) -> int:
        return 2 * n

    async def stream(executor: Executor) -> list[int]:
        return [each async for each in executor.map_async(abs, [-1, -2])]

    for _ in range(30):
        executor = Executor(Flask("app"))
        results = at_once(
            lambda executor=executor: asyncio.run(stream(executor)),
            lambda executor=executor: executor.submit(abs, -3).result(WAIT),
            lambda executor=executor: executor.submit(double, 2).result(WAIT),
            lambda executor=executor: executor.options(delay=0).submit(abs, -5).result(WAIT),
            lambda executor=executor: executor.stats().workers > 0,
        )
        executor.shutdown()

        assert results == [[1, 2], 3, 4, 5, True]


@pytest.mark.slow
def test_a_scheduler_that_is_away_holds_up_its_callers_once_and_nobody_else(
    app: Flask, executors: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.CONNECT_TIMEOUT, 1)
    with socket.socket() as deaf:  # Nobody listens at its port, nor takes it meanwhile.
        deaf.bind(("127.0.0.1", 0))
        address = "tcp://{}:{}".format(*deaf.getsockname())
        executor = executors(app, type="dask", dask_address=address)
        submitting = [in_thread(lambda: executor.submit(abs, -1)) for _ in range(3)]
        while inside.count_who_wait_for_the_pool(app) < 2:
            time.sleep(0.001)

        assert in_thread(executor.stats).result(WAIT).submitted == 0
        assert not any(each.done() for each in submitting)
        errors = [each.exception(WAIT) for each in submitting]

    assert isinstance(errors[0], OSError)
    assert errors[1:] == errors[:1] * 2


def test_an_attempt_that_is_interrupted_is_made_again_by_one_who_waits() -> None:
    attempt: SharedAttempt[str] = SharedAttempt("this")
    is_made, may_go_on = threading.Event(), threading.Event()

    def make_and_be_interrupted() -> str:
        is_made.set()
        assert may_go_on.wait(WAIT)
        raise KeyboardInterrupt

    first = in_thread(lambda: attempt.join(make_and_be_interrupted))
    assert is_made.wait(WAIT)
    second = in_thread(lambda: attempt.join(lambda: "made"))
    while not inside.count_who_wait(attempt):
        time.sleep(0.001)
    may_go_on.set()

    assert second.result(WAIT) == "made"
    assert isinstance(first.exception(WAIT), KeyboardInterrupt)
