"""A Dask cluster as a pool."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from concurrent.futures import BrokenExecutor, Future
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import distributed

from ..aio.loop import LoopThread
from ..exceptions import WorkerDied
from ..messages.shown import public_address
from ..messages.traces import drop_frames, keep_as_text

if TYPE_CHECKING:
    from collections.abc import Callable


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
        self._lock = threading.Lock()
        self._is_shut_down = False  # guarded by _lock
        self._is_closed = threading.Event()
        self._calls: set[Future[Any]] = set()  # guarded by _lock
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
        call: Future[Any] = Future()
        call.set_running_or_notify_cancel()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._calls.add(call)
        self._loop.call(partial(self._start, call, partial(fn, *args, **kwargs)))
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
        self.max_workers: int = sum((await self._client.nthreads()).values())

    def _start(self, call: Future[Any], fn: Callable[[], Any]) -> None:
        # The future keeps the task alive: the loop holds it only weakly.
        task = asyncio.get_running_loop().create_task(self._run(call, fn))
        call.add_done_callback(lambda _: task)

    async def _run(self, call: Future[Any], fn: Callable[[], Any]) -> None:
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
            with self._lock:
                self._calls.discard(call)

    def _close(self) -> None:
        concurrent.futures.wait(list(self._calls))
        try:
            self._loop.run(self._opened.aclose)
        finally:
            self._loop.stop()
            self._is_closed.set()
