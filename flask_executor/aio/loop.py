"""The app's event-loop thread, and the way into an event loop from other threads."""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextlib import nullcontext
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..messages.shown import kind_of, name_of
from ..threads.conditions import LightFuture
from ..threads.pool import start_thread
from ..threads.shared_attempt import SharedAttempt
from .mailbox import Mailbox
from .running import check_patched_in_time, threads_are_greenlets

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future


T = TypeVar("T")

# Seconds that cancelled jobs and tasks have to clean up at shutdown.
GRACE = 5.0

# All greenlets share one real thread, and asyncio runs only one loop in a real thread. While our
# loop ran in a greenlet, asyncio would refuse all other loops, so no async view could be served.
_NO_LOOP_UNDER_GEVENT = (
    "the executor's event loop cannot run here: gevent has patched threads, and asyncio runs only "
    "one event loop at a time in all its greenlets; coroutine jobs, delay, timeout, retry, "
    "iterate() and EXECUTOR_ASYNC_VIEWS need it. Submit plain functions without these options, or "
    "serve the app with threads, as 'gunicorn --threads 8' does"
)


def error_of_skipped(task: asyncio.Task[Any]) -> BaseException:
    """The reason why *task* has ended without running its coroutine."""
    if task.cancelled():
        return asyncio.CancelledError()
    missing = RuntimeError("the loop's task factory made a task that did not run its coroutine")
    return task.exception() or missing


class Outcome(Protocol[T]):
    """Lets a thread wait for a coroutine; a `concurrent.futures.Future` is an example."""

    def done(self) -> bool:
        """Whether the coroutine has ended."""
        ...

    def set_result(self, result: T, /) -> None:
        """Wake the waiting thread, whose `result` call returns *result*."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Wake the waiting thread, whose `result` call raises *exception*."""

    def result(self) -> T:
        """Wait for the end, and return the result or raise the exception."""
        ...


class LoopThread:
    """An event loop in its own daemon thread, which starts at the first use.

    The thread does not start where gevent has patched threads: a use then raises `RuntimeError`.

    :param name: the thread's name
    :param loop_factory: makes the loop; None for asyncio's own
    :param is_debug: called at the start; True makes asyncio log each step that blocks the loop for
        more than 0.1 seconds
    :param on_start: called before the start
    :param on_held: called in another thread with name and place of a task that holds the loop for
        more than a second, as by `LoopWatch`; it must not hold this object. None for no watch
    """

    def __init__(
        self,
        name: str,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
        *,
        is_debug: Callable[[], bool],
        on_start: Callable[[], object],
        on_held: Callable[[str, str], object] | None = None,
    ) -> None:
        self._name = name
        self._loop_factory = loop_factory
        self._is_debug = is_debug
        self._on_start = on_start
        self._on_held = on_held
        self._starting: SharedAttempt[_Running] = SharedAttempt(f"the event loop {name!r}")
        self._running: _Running | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def start(self) -> None:
        """Start the thread, if it does not run."""
        if self._running is None:
            self._start(instead_of=None)

    def call(self, fn: Callable[[], object]) -> None:
        """Have *fn* called in the loop's thread; safe from any thread."""
        running = self._running
        while running is None or not running.mailbox.post(fn):
            running = self._start(instead_of=running)

    def call_if_running(self, fn: Callable[[], object]) -> None:
        """Do as `call` does if the loop runs; otherwise do nothing."""
        running = self._running
        if running is not None:
            running.mailbox.post(fn)

    def is_current(self) -> bool:
        """Whether the calling thread is the loop's."""
        running = self._running
        return running is not None and running.thread is threading.current_thread()

    def run(
        self,
        main: Callable[[], Coroutine[Any, Any, T]],
        *,
        name: str | None = None,
        context: Context | None = None,
        outcome: Outcome[T] | None = None,
    ) -> T:
        """Run the coroutine of *main* on the loop and wait for it; called in another thread.

        If the caller is interrupted while it waits, the coroutine is cancelled.

        :param name: the task's name
        :param context: the task's contextvars; None for a copy of the caller's
        :param outcome: gets the coroutine's outcome and waits for it; None for a new future
        """
        outcome = LightFuture() if outcome is None else outcome
        tasks: list[asyncio.Task[None]] = []
        if context is None:
            context = copy_context()
        start = partial(_start_task, main, name, context, outcome, tasks)
        try:
            self.call(start)
            return outcome.result()
        finally:
            if not outcome.done():
                self.call_if_running(lambda: [task.cancel() for task in tasks])
            # Otherwise a raised exception would hold itself through this frame.
            del outcome, start, main

    def stop(self, *, wait: bool = True) -> None:
        """Cancel the tasks that still run, close the loop and end the thread."""
        running, self._running = self._running, None
        if running is not None:
            running.mailbox.post(running.is_over.set)
            if wait and running.thread is not threading.current_thread():
                running.thread.join(GRACE)

    def _start(self, *, instead_of: _Running | None) -> _Running:
        check_patched_in_time()
        return self._starting.join(partial(self._start_here, instead_of))

    def _start_here(self, instead_of: _Running | None) -> _Running:
        if self._running is not None and self._running is not instead_of:
            return self._running
        if threads_are_greenlets():
            raise RuntimeError(_NO_LOOP_UNDER_GEVENT)
        self._on_start()
        started: Future[_Running] = LightFuture()
        thread = threading.Thread(
            target=_serve,
            args=(started, self._loop_factory, self._is_debug(), self._on_held),
            name=self._name,
            daemon=True,
        )
        try:
            start_thread(thread)
            running = started.result()
        except BaseException:
            # If a signal handler raised, the thread may run all the same.
            started.add_done_callback(_end_unused)
            raise
        # Ends the thread when this object is garbage-collected: the thread does not hold it.
        self._finalizer = weakref.finalize(self, running.mailbox.post, running.is_over.set)
        self._finalizer.atexit = False
        self._running = running
        return running


class _Running:
    """A running loop thread."""

    def __init__(self, mailbox: Mailbox, is_over: asyncio.Event) -> None:
        self.thread = threading.current_thread()
        self.mailbox = mailbox
        self.is_over = is_over


def _end_unused(started: Future[_Running]) -> None:
    if started.exception() is None:
        running = started.result()
        running.mailbox.post(running.is_over.set)


def _serve(
    started: Future[_Running],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    is_debug: bool,
    on_held: Callable[[str, str], object] | None,
) -> None:
    """Run a loop until `is_over` is set; the function of the loop's thread."""
    from .watch import watched  # noqa: PLC0415 - not needed without a loop

    async def serve() -> None:
        mailbox, is_over = Mailbox.of_running_loop(), asyncio.Event()
        started.set_result(_Running(mailbox, is_over))
        await is_over.wait()
        # A task factory that wraps tasks, or raises, must not take part in closing the loop.
        asyncio.get_running_loop().set_task_factory(None)
        mailbox.close()

    try:
        if loop_factory is not None:
            loop_factory = partial(_made_by, loop_factory)
        with asyncio.Runner(debug=is_debug, loop_factory=loop_factory) as runner:
            loop = runner.get_loop()
            with nullcontext() if on_held is None else watched(loop, on_held):
                run_to_its_end(loop, serve())
    except BaseException as error:
        if not started.done():
            started.set_exception(error)
        elif not _starts_no_thread(error):
            raise


def _starts_no_thread(error: BaseException) -> bool:
    # Early releases of Python 3.12 start no thread while the interpreter ends, and asyncio wants
    # one to wait for those of `asyncio.to_thread`. Python waits for these in any case.
    return isinstance(error, RuntimeError) and "at interpreter shutdown" in str(error)


def _made_by(factory: Callable[[], object]) -> asyncio.AbstractEventLoop:
    loop = factory()
    if not isinstance(loop, asyncio.AbstractEventLoop):
        raise TypeError(
            f"the loop factory {name_of(factory)!r} returned {kind_of(loop)}; expected an event "
            "loop, such as asyncio.new_event_loop() returns"
        )
    return loop


def run_to_its_end(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T],
    context: Context | None = None,
) -> T:
    """Run *work* to its end on *loop*, which is not running, whatever other tasks raise."""
    task = loop.create_task(work, context=context)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:  # These stop a loop.
            if not task.done():
                message = {"message": "A task raised what ends a process", "exception": error}
                loop.call_exception_handler(message)
    return task.result()


def _start_task(
    main: Callable[[], Coroutine[Any, Any, T]],
    name: str | None,
    context: Context,
    outcome: Outcome[T],
    tasks: list[asyncio.Task[None]],
) -> None:
    if_skipped: list[Callable[[asyncio.Task[None]], object]] = []
    work = _give_outcome(main, outcome, tasks, if_skipped)
    try:
        task = asyncio.get_running_loop().create_task(work, name=name, context=context)
    except BaseException as error:
        _skip(work, outcome, error)
        return
    tasks.append(task)
    if not task.done():
        if_skipped.append(partial(_on_skipped, work, outcome))
        task.add_done_callback(if_skipped[0])


async def _give_outcome(
    main: Callable[[], Coroutine[Any, Any, T]],
    outcome: Outcome[T],
    tasks: list[asyncio.Task[None]],
    if_skipped: list[Callable[[asyncio.Task[None]], object]],
) -> None:
    if if_skipped:
        # If the callback stayed, it would cost one more turn of the loop after the end.
        tasks[0].remove_done_callback(if_skipped.pop())
    try:
        outcome.set_result(await main())
    except BaseException as error:
        outcome.set_exception(error)
    finally:
        # Otherwise a raised exception would hold itself through this frame.
        del outcome, main


def _on_skipped(
    work: Coroutine[Any, Any, None], outcome: Outcome[Any], task: asyncio.Task[None]
) -> None:
    if not outcome.done():
        _skip(work, outcome, error_of_skipped(task))


def _skip(work: Coroutine[Any, Any, None], outcome: Outcome[Any], error: BaseException) -> None:
    work.close()  # Otherwise Python warns that the coroutine was never awaited.
    outcome.set_exception(error)
