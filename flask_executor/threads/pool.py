"""A pool of threads, and a safe way to start a thread."""

from __future__ import annotations

import os
import threading
import weakref
from _thread import start_new_thread
from collections import deque
from contextlib import contextmanager
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from .conditions import LightEvent, LightFuture, RLock
from .unjoined import UnjoinedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future


T = TypeVar("T")

_Call = tuple["Callable[..., object]", tuple[Any, ...]]


class Threads:
    """A pool of threads; a call that finds no idle thread starts a new one.

    The stdlib's pool makes a future for each call, and the interpreter cannot end before its calls
    have ended. This pool makes no futures, and the interpreter does not wait for its threads.

    :param max_threads: how many threads there are at a time; further calls wait
    :param name: the prefix of the threads' names
    :param passes_on_daemon: whether the threads that the calls start are daemon threads
    """

    def __init__(self, max_threads: int, name: str, *, passes_on_daemon: bool) -> None:
        self._max_threads = max_threads
        self._name = name
        self._passes_on_daemon = passes_on_daemon
        self._shared = _Shared()
        # Ends the threads when the pool is garbage-collected.
        weakref.finalize(self, _dismiss, self._shared).atexit = False

    def run(self, fn: Callable[..., object], *args: Any) -> None:
        """Have a thread call *fn*, which must not raise.

        :raises RuntimeError: after `shutdown`, or if the pool has no thread and can start none
        :raises MemoryError: if there is no memory for the first thread
        """
        shared = self._shared
        with shared.lock:
            if shared.idle:
                shared.hand_over((fn, args))
                return
        self._begin((fn, args), is_new=True)

    @contextmanager
    def one_more(self) -> Generator[None]:
        """Allow one thread more while the block runs: the block may occupy a pool thread."""
        shared = self._shared
        call = None
        with shared.lock:
            self._max_threads += 1
            if shared.backlog and not shared.idle:
                call = shared.backlog.popleft()
        try:
            if call is not None:
                self._begin(call, is_new=False)
            yield
        finally:
            with shared.lock:
                self._max_threads -= 1

    def shutdown(self, *, wait: bool = True) -> None:
        """Take no more calls; the calls that were taken still run.

        :param wait: whether to wait for their end
        """
        _dismiss(self._shared)
        if wait:
            for thread in self._shared.threads.copy():
                if thread.ident is not None:  # None while it is being started for a later call.
                    thread.join()

    def _begin(self, call: _Call, *, is_new: bool) -> None:
        """Give *call* to an idle thread, to a new one, or to the next that becomes idle."""
        shared = self._shared
        thread = None
        try:
            with shared.lock:
                if shared.is_over and is_new:
                    raise RuntimeError("cannot schedule new futures after shutdown")  # noqa: TRY301
                if shared.idle:
                    shared.hand_over(call)
                    return
                if len(shared.threads) >= self._max_threads:
                    shared.backlog.append(call)
                    return
                # A thread keeps its arguments until it ends, so the inbox passes the call.
                inbox = _Inbox()
                inbox.call = call
                thread = UnjoinedThread(
                    _work,
                    (shared, inbox),
                    name=f"{self._name}_{len(shared.threads)}",
                    passes_on_daemon=self._passes_on_daemon,
                )
                shared.threads.add(thread)
                # Noted only now: some forks call no after-fork hook.
                shared.pid = os.getpid()
            # Without the lock: a garbage collection in the new thread may log a failure, and log
            # handlers may submit.
            start_thread(thread)
        except (RuntimeError, MemoryError):
            if thread is None or not shared.is_left_to_others(thread, call):
                raise
        except BaseException:  # from a signal handler; the thread may run all the same
            if thread is not None and thread.ident is None:
                shared.threads.discard(thread)
            raise


def start_thread(thread: threading.Thread) -> None:
    """Start *thread*, which inherits no contextvars of the calling thread.

    :raises RuntimeError: if the system, or an interpreter that ends, starts no more threads
    :raises MemoryError: if there is no memory for its stack
    """
    if threading.current_thread() is not threading.main_thread():
        _start(thread)
        return
    # If a signal handler raised inside `Thread.start`, a lock would stay held for which the new
    # thread waits. Signal handlers run in the main thread only, so another thread starts it.
    errors: list[BaseException] = []
    is_over = LightEvent()
    start_new_thread(_start_for_another, (thread, errors, is_over))
    is_over.wait()
    if errors:
        raise errors.pop()


def run_apart(fn: Callable[..., object], *args: Any) -> None:
    """Call *fn* in a thread of its own, which nothing else can hold up."""
    try:
        start_thread(UnjoinedThread(fn, args))
    except (RuntimeError, MemoryError):  # as the interpreter ends
        fn(*args)


def call_apart(fn: Callable[..., T], *args: Any) -> Future[T]:
    """Do as `run_apart` does, and return a future of the outcome."""
    outcome: Future[T] = LightFuture()
    run_apart(settle, outcome, fn, args)
    return outcome


def settle(outcome: Future[T], fn: Callable[..., T], args: tuple[Any, ...]) -> None:
    """Call *fn*, and give what it returns or raises to the future *outcome*."""
    try:
        outcome.set_result(fn(*args))
    except BaseException as error:
        outcome.set_exception(error)


def _start(thread: threading.Thread) -> None:
    # If threads inherit their creator's contextvars, this one inherits none.
    Context().run(thread.start)


def _start_for_another(
    thread: threading.Thread, errors: list[BaseException], is_over: LightEvent
) -> None:
    try:
        _start(thread)
    except BaseException as error:
        errors.append(error)
    finally:
        is_over.set()


class _Inbox:
    """Lets a thread wait for its next call.

    No `queue.SimpleQueue`: gevent may have patched that class and not threads.
    """

    def __init__(self) -> None:
        self.call: _Call | None = None
        self.has_come = threading.Lock()
        self.has_come.acquire()


class _Shared:
    """The state that a pool and its threads share: the threads do not hold the pool."""

    def __init__(self) -> None:
        # Reentrant: a garbage collection at any line may free a pool.
        self.lock = RLock()  # guards all below
        # A thread also adds itself: it is removed if a signal handler raises while it is started.
        self.threads: set[threading.Thread] = set()
        self.idle: list[_Inbox] = []
        self.backlog: deque[_Call] = deque()
        self.is_over = False
        self.pid = 0  # of the process that has the threads; 0 if there are none

    def hand_over(self, call: _Call | None) -> None:
        """Give *call* to an idle thread; None ends the thread. Called with the lock held."""
        # No call comes before `release`: a signal handler could raise there and lose the thread.
        inbox = self.idle[-1]
        del self.idle[-1]
        inbox.call = call
        inbox.has_come.release()

    def is_left_to_others(self, thread: threading.Thread, call: _Call) -> bool:
        """Whether other threads make the *call* of *thread*, which could not be started."""
        with self.lock:
            self.threads.discard(thread)
            if all(other.ident is None for other in self.threads):
                return False
            if self.idle:
                self.hand_over(call)
            else:
                self.backlog.append(call)
            return True

    def next_call(self, inbox: _Inbox) -> _Call | None:
        """Wait for an idle thread's next call; None if the thread is to end."""
        with self.lock:
            if self.backlog:
                return self.backlog.popleft()
            if self.is_over:
                return None
            self.idle.append(inbox)
        inbox.has_come.acquire()
        call, inbox.call = inbox.call, None
        return call


def _work(shared: _Shared, inbox: _Inbox) -> None:
    shared.threads.add(threading.current_thread())
    call, inbox.call = inbox.call, None
    while call is not None:
        fn, args = call
        del call
        fn(*args)
        del fn, args
        call = shared.next_call(inbox)


def _dismiss(shared: _Shared) -> None:
    if shared.pid not in {0, os.getpid()}:
        return  # A forked process does not have the threads, and the lock may stay held.
    with shared.lock:
        shared.is_over = True
        while shared.idle:
            shared.hand_over(None)
