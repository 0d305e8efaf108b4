"""An app's host, as the runners of its jobs see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..jobs.item import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from ..backends.lazy_pool import LazyPool
    from ..jobs.item import WorkItem
    from ..queue.clock import Clock
    from ..queue.queue import JobQueue
    from ..queue.workers import Worker
    from ..records.recorder import Recorder
    from ..settings import Settings
    from .later import LaterJobs


class Dispatch(Protocol):
    """Starts jobs, as the ends of their attempts see it: `runners.dispatch.Dispatcher`."""

    def begin_again(self, item: WorkItem, delay: float) -> None:
        """Have the next attempt of *item* begin after *delay* seconds."""


class Runtime(Host, Protocol):
    """The parts of one app's executor, as its runners see them: `runners.host.AppHost`."""

    executor: object
    """The `Executor`, for receivers of signals."""
    settings: Settings
    inline: bool
    in_process: bool
    clock: Clock
    later: LaterJobs
    pool: LazyPool
    queue: JobQueue
    records_all: bool
    """Whether jobs without a key are recorded, too."""
    is_inherited: bool
    """Whether it belongs to the process from which this one was forked, and must not be used."""

    @property
    def dispatch(self) -> Dispatch:
        """The way of a job to a worker, the loop or the clock."""
        ...

    @property
    def recorder(self) -> Recorder:
        """Follows the jobs that are recorded."""
        ...

    def find_app(self) -> Flask | None:
        """The app; None if it is gone."""
        ...

    def add_exit_hook(self) -> None:
        """Have the end of the process wait for the jobs."""

    def run_apart(self, fn: Callable[..., None], *args: Any) -> None:
        """Run *fn* in a thread of its own, which nothing else can hold up."""

    def take(self, worker: Worker) -> WorkItem | None:
        """The next job for *worker*, now running; None if no job is left, and the worker over."""
        ...

    def on_worker_over(self) -> None:
        """Start the work that had to wait for the end of a worker; called without the lock."""

    def leave(self, item: WorkItem) -> None:
        """Note that a coroutine job is over."""

    def close(self, *, wait: bool) -> None:
        """Let go of pool, threads and loop."""
