"""A pool of worker processes in which a death fails one call only."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, cast

from ..exceptions import WorkerDied
from ..messages.traces import keep_as_text
from ..remote.protocol import DONE, PROGRESS, READY, BadMessage, Reporter, read_message, reporter
from ..threads.pool import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext
    from multiprocessing.process import BaseProcess

    OnProgress = Callable[[Any], object]


# Held while a process starts or a pipe is closed. Under fork, a process that starts while another
# starts inherits the other's pipe end, which then stays open after the other's death. A process
# that starts while a pipe is closed would close that file number, which may be its own pipe's.
# Reentrant: a garbage collection at any line may free a pool.
_starting = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_starting.acquire,
        after_in_child=_starting._at_fork_reinit,  # type: ignore[attr-defined] # noqa: SLF001
        after_in_parent=_starting.release,
    )

_SIGNALS = {each.value: each.name for each in signal.Signals}


class ProcessPool(concurrent.futures.Executor):
    """A pool of worker processes, each with its own pipe.

    The stdlib's pool shares its pipes among all processes: when one process dies, the pool is
    broken and all calls fail. Here the death of a process fails only the call that it was running.

    :param max_workers: how many processes there are at a time
    :param start_method: how processes are started; None for the default
    :param max_calls: after how many calls a process is replaced
    :param prepare: returns the function that a new process calls first
    """

    def __init__(
        self,
        max_workers: int,
        start_method: str | None,
        max_calls: int | None,
        prepare: Callable[[], Callable[[], object]],
        thread_name_prefix: str,
    ) -> None:
        self._context = cast("SpawnContext", multiprocessing.get_context(start_method))
        self._max_calls = max_calls
        self._prepare = prepare
        self._threads = Threads(max_workers, thread_name_prefix, passes_on_daemon=False)
        self._lock = threading.Lock()  # guards all below
        self._is_shut_down = False
        self._is_killed = False
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        # Ends the processes when the pool is garbage-collected.
        weakref.finalize(self, _stop_own, os.getpid(), self._workers).atexit = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call *fn* in an idle process or in a new one.

        :raises RuntimeError: after `shutdown`
        """
        return self.call(fn, args, kwargs)

    def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        on_progress: OnProgress | None = None,
    ) -> Future[Any]:
        """Do as `submit`, and pass the reports of the running call to *on_progress*.

        A call reports through its `Reporter`. *on_progress* is called in a thread of the pool,
        without a lock, before the call ends. If *on_progress* raises, the process is killed and
        the call fails with that exception. Without *on_progress*, reports are dropped.

        :raises RuntimeError: after `shutdown`
        """
        call = _Call(on_progress)
        self._threads.run(self._run, call, (fn, args, kwargs))
        return call

    def when_ready(self, call: Future[Any], fn: Callable[[], object]) -> None:
        """Call *fn* once a process has started, has prepared itself and has received *call*."""
        cast("_Call", call).sent.add_done_callback(lambda _: fn())

    def kill(self, call: Future[Any]) -> None:
        """Kill the process that runs *call*; unless over, the call fails with `WorkerDied`."""
        with self._lock:
            worker = cast("_Call", call).worker
            if worker is not None:
                worker.is_spent = True
                worker.process.kill()

    def kill_all(self) -> None:
        """Kill all processes that run a call, or start for one; the calls fail with `WorkerDied`.

        So do the calls that come later.
        """
        with self._lock:
            self._is_killed = True
            for worker in self._workers - {*self._idle}:
                worker.is_spent = True
                worker.process.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Take no more calls, and end each process after its current call.

        :param wait: whether to wait for that
        :param cancel_futures: without effect: the queue in front of the pool lets no call wait here
        """
        with self._lock:
            self._is_shut_down = True
            idle, self._idle = self._idle, []
        _stop(idle)
        self._threads.shutdown(wait=wait)
        if wait:
            for worker in list(self._workers):
                worker.process.join()
            with self._lock:
                self._forget_ended()

    def _run(self, call: _Call, message: tuple[Any, ...]) -> None:
        if not call.set_running_or_notify_cancel():
            return
        try:
            result = self._exchange(call, message)
        except BaseException as error:
            keep_as_text(error)  # The frames of *error* hold the message.
            call.set_exception(error)
        else:
            call.set_result(result)

    def _exchange(self, call: _Call, message: tuple[Any, ...]) -> Any:
        while True:
            worker = self._take()
            with self._lock:
                call.worker = worker
            try:
                worker.connection.send(message)
                break
            except OSError:
                pass  # The process has died.
            except BaseException:
                self._give_back(call, worker, is_usable=True)
                raise
            # A process that died while it was idle did not get the whole call: try another one.
            died = None if worker.calls else worker.death_error("as it read the job")
            self._give_back(call, worker, is_usable=False)
            if died is not None:
                raise died
        call.sent.set_result(None)
        is_usable = False
        try:
            result = worker.wait_for(DONE, "while it ran the job", call.on_progress)
            is_usable = True
        finally:
            self._give_back(call, worker, is_usable=is_usable)
        return result

    def _take(self) -> _Worker:
        with self._lock:
            if self._is_killed:
                raise WorkerDied("the worker processes were killed before one could run the job")
            if self._idle:
                return self._idle.pop()
            self._forget_ended()
        worker = _Worker(self._context, self._prepare(), self._workers)
        self._add(worker)
        try:
            worker.wait_for(READY, "before it could run the job")
        except BaseException:
            worker.stop()
            raise
        return worker

    def _add(self, worker: _Worker) -> None:
        with self._lock:
            self._workers.add(worker)
            if self._is_killed:  # while this one started
                worker.process.kill()

    def _give_back(self, call: _Call, worker: _Worker, *, is_usable: bool) -> None:
        with self._lock:
            call.worker = None
            worker.calls += 1
            if worker.calls == self._max_calls or self._is_shut_down or not is_usable:
                worker.is_spent = True
            if not worker.is_spent:
                self._idle.append(worker)
        if worker.is_spent:
            worker.stop()
            with self._lock:
                self._forget_ended()

    def _forget_ended(self) -> None:
        # Called with the lock held. Dropping the last reference to a process closes its files.
        # `Process.close` would close them, too, but then the process would raise errors in code
        # that found it among `multiprocessing.active_children`.
        self._workers -= {worker for worker in self._workers if worker.has_ended()}


class _Call(Future[Any]):
    """A call, and the process that runs it."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        super().__init__()
        self.on_progress = on_progress
        self.worker: _Worker | None = None  # guarded by the pool's lock
        self.sent: Future[None] = Future()


class _Worker:
    """A process, and our end of the pipe to it."""

    def __init__(
        self, context: SpawnContext, prepare: Callable[[], object], others: set[_Worker]
    ) -> None:
        self.calls = 0
        self.is_spent = False
        is_forked = context.get_start_method() == "fork"
        with _starting:
            self.connection, there = context.Pipe()
            inherited = [self.connection, *(other.connection for other in others.copy())]
            self.process = context.Process(
                target=_serve, args=(there, prepare, inherited if is_forked else ())
            )
            self.process.start()
            there.close()
        self._death = _death_of(self.process)

    def wait_for(self, tag: str, when: str, on_progress: OnProgress | None = None) -> Any:
        """Wait for the message with *tag*; pass the progress messages before it to *on_progress*.

        :param when: what the process is doing, for the error
        :raises WorkerDied: if the process dies first, or is killed because of another message
        """
        try:
            got, payload = read_message(self._receive(when), tag)
            while got == PROGRESS:
                if on_progress is not None:
                    on_progress(payload)
                got, payload = read_message(self._receive(when), tag)
        except BaseException as error:
            # The next message could be mistaken for the result of another call.
            self.is_spent = True
            self.process.kill()
            if isinstance(error, BadMessage):
                raise WorkerDied(
                    f"the worker process {self.process.pid} was killed {when}, because it sent "
                    f"{error}; other jobs go on"
                ) from None
            raise
        return payload

    def stop(self) -> None:
        """Have the process end after its current call."""
        with suppress(OSError):
            self.connection.send(None)
        with _starting:
            self.connection.close()
        death, self._death = self._death, self.process.sentinel
        if death != self.process.sentinel:
            os.close(death)

    def _receive(self, when: str) -> Any:
        try:
            # Processes that the job has started may live on and keep the other pipe end open.
            if self.connection in wait([self.connection, self._death]):
                return self.connection.recv()
        except (OSError, EOFError):
            pass  # The process has died.
        raise self.death_error(when)

    def has_ended(self) -> bool:
        return self.is_spent and not self.process.is_alive()

    def death_error(self, when: str) -> WorkerDied:
        # The process has closed its pipe end; its exit code should be there in a moment.
        self.process.join(1)
        self.process.kill()
        self.process.join(1)
        code = self.process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"killed by {_SIGNALS.get(-code, f'signal {-code}')}"
        return WorkerDied(
            f"the worker process {self.process.pid} died ({how}) {when}; other jobs go on"
        )


def _death_of(process: BaseProcess) -> int:
    """A file descriptor that is ready once the process has died."""
    try:
        return os.pidfd_open(cast("int", process.pid))
    except (AttributeError, OSError):  # Not every system has or allows it.
        return process.sentinel


def _stop_own(pid: int, workers: Iterable[_Worker]) -> None:
    if pid == os.getpid():  # In a forked process, the workers are the parent's.
        _stop(workers)


def _stop(workers: Iterable[_Worker]) -> None:
    for worker in list(workers):
        worker.stop()


def _serve(
    connection: Connection, prepare: Callable[[], object], inherited: Iterable[Connection]
) -> None:
    """Run calls until the parent sends None; the main function of a worker process."""
    _let_go_of_the_parent(inherited)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(BaseException):  # Each call will fail with the same error and report it.
        prepare()
    sending = threading.Lock()
    with suppress(OSError, EOFError):  # The parent has gone.
        connection.send((READY, None))
        while (message := connection.recv()) is not None:
            fn, args, kwargs = message
            reporter.set(call := Reporter(connection, sending))
            call.done(fn(*args, **kwargs))
            del message, fn, args, kwargs


def _let_go_of_the_parent(inherited: Iterable[Connection]) -> None:
    # Ctrl-C reaches every process of a terminal, but only the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A forked worker inherits the signal handlers of a server,
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # the pipes to other workers,
    for connection in inherited:
        if not connection.closed:
            connection.close()
    # and the lists of the parent's pools. At exit the worker would wake the threads of these pools.
    # That takes locks which, if they were held at the fork, are never released.
    for module, pools in (("thread", "_threads_queues"), ("process", "_threads_wakeups")):
        if f"concurrent.futures.{module}" in sys.modules:
            getattr(sys.modules[f"concurrent.futures.{module}"], pools).clear()


def _end_with_parent() -> None:
    # Once the parent has been killed, nobody needs the job any more.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
