"""A Dask cluster as a pool."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import uuid
from concurrent.futures import BrokenExecutor, Future
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import distributed

from ..aio.loop import LoopThread
from ..exceptions import WorkerDied
from ..messages.shown import public_address
from ..messages.traces import drop_frames, keep_as_text
from ..remote.protocol import drop_report, reporter
from ..threads.conditions import RLock

if TYPE_CHECKING:
    from collections.abc import Callable

    OnReport = Callable[[Any], object]


_dask: Any = distributed  # only parts of it are typed

# Seconds to wait for a scheduler.
_CONNECT = 10


class DaskPool(concurrent.futures.Executor):
    """Runs calls on a Dask cluster, with a client on its own event loop.

    Dask's `Client.get_executor` takes keywords such as ``key`` for itself, and does not distinguish
    a lost scheduler from a cancelled call.

    :param address: the scheduler's address; None for a cluster of processes on this machine
    :param max_workers: how many processes that cluster has; None for one per processor
    :param name: the loop thread's name
    :raises OSError: if there is no scheduler at the address
    """

    def __init__(self, address: str | None, max_workers: int | None, name: str) -> None:
        self._loop = LoopThread(name, None, is_debug=lambda: False, on_start=lambda: None)
        # Reentrant: a garbage collection at any line may log a failure and run log handlers.
        self._lock = RLock()
        self._is_shut_down = False  # guarded by _lock
        self._is_closed = threading.Event()
        self._calls: set[Future[Any]] = set()  # guarded by _lock
        # Dask's name for the reports of this pool's calls, and who gets those of each call.
        self._topic = f"flask-executor-{uuid.uuid4()}"
        self._numbers = count()
        self._on_report: dict[int, OnReport] = {}
        self._opened = AsyncExitStack()
        try:
            self._loop.run(partial(self._open, address, max_workers))
        except BaseException:
            self._close()
            raise

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call *fn* in the cluster, even if an equal call was made before.

        :raises RuntimeError: after `shutdown`
        """
        return self.call(fn, args, kwargs, drop_report)

    def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        on_report: OnReport,
    ) -> Future[Any]:
        """Do as `submit`, and pass the reports of the running call to *on_report*.

        A report is an event of Dask's. *on_report* is called in the thread of the pool's event
        loop, before the call ends.

        :raises RuntimeError: after `shutdown`
        """
        number = next(self._numbers)
        call: Future[Any] = Future()
        call.set_running_or_notify_cancel()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._calls.add(call)
        self._on_report[number] = on_report
        fn = partial(_call_with_reports, self._topic, number, fn, args, kwargs)
        self._loop.call(partial(self._start, call, number, fn))
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Take no more calls, and leave the cluster after the last call has ended.

        :param wait: whether to wait until then
        :param cancel_futures: without effect, because no call waits here
        """
        with self._lock:
            is_first, self._is_shut_down = not self._is_shut_down, True
        if is_first and wait:
            self._close()  # in this thread: an interpreter that ends may start no other
        elif is_first:
            threading.Thread(target=self._close).start()
        if wait:
            self._is_closed.wait()

    async def _open(self, address: str | None, max_workers: int | None) -> None:
        enter = self._opened.enter_async_context
        if address is None:
            cluster = _dask.LocalCluster(
                n_workers=max_workers,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                asynchronous=True,
            )
            address = (await enter(cluster)).scheduler_address
        self._address_shown = public_address(str(address)) or "(its address cannot be shown)"
        client = _dask.Client(address, timeout=_CONNECT, set_as_default=False, asynchronous=True)
        self._client = await enter(client)
        self._client.subscribe_topic(self._topic, self._on_event)
        self.max_workers: int = sum((await self._client.nthreads()).values())

    def _on_event(self, event: tuple[float, tuple[int, Any]]) -> None:
        _, (number, report) = event
        self._on_report.get(number, drop_report)(report)

    def _start(self, call: Future[Any], number: int, fn: Callable[[], Any]) -> None:
        # The future keeps the task alive: the loop holds it only weakly.
        task = asyncio.get_running_loop().create_task(self._run(call, number, fn))
        call.add_done_callback(lambda _: task)

    async def _run(self, call: Future[Any], number: int, fn: Callable[[], Any]) -> None:
        try:
            result = await self._client.submit(fn, pure=False)
        except (_dask.CancelledError, _dask.comm.CommClosedError) as error:
            lost = BrokenExecutor(f"the connection to the scheduler {self._address_shown} was lost")
            lost.__cause__ = error
            drop_frames(lost)
            call.set_exception(lost)
        except _dask.KilledWorker as error:
            died = WorkerDied(f"the Dask workers that ran the job have died: {error}")
            died.__cause__ = error
            drop_frames(died)
            call.set_exception(died)
        except BaseException as error:
            keep_as_text(error)
            call.set_exception(error)
        else:
            call.set_result(result)
        finally:
            del self._on_report[number]
            with self._lock:
                self._calls.discard(call)

    def _close(self) -> None:
        concurrent.futures.wait(list(self._calls))
        try:
            self._loop.run(self._opened.aclose)
        finally:
            self._loop.stop()
            self._is_closed.set()


class _EventReporter:
    """Sends the reports of one call as events of Dask's; used in the worker."""

    def __init__(self, topic: str, number: int) -> None:
        self._topic = topic
        self._number = number
        self._worker = _dask.get_worker()

    def progress(self, payload: object) -> None:
        """Send a report."""
        self._worker.log_event(self._topic, (self._number, payload))


def _call_with_reports(
    topic: str, number: int, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    token = reporter.set(_EventReporter(topic, number))
    try:
        return fn(*args, **kwargs)
    finally:
        reporter.reset(token)
