"""The calls of one app to its workers, in the process that submits them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .call import dumps_call
from .worker import call_coroutine_item, prepare, run, setup_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from ..jobs.info import JobInfo
    from ..settings import Settings
    from .call import Reply
    from .worker import WorkerSetup


class RemoteCalls:
    """Packs the calls of one app for its workers in other processes.

    :param find_app: gives the app, which must not be kept
    :param knows_main: whether workers have the ``__main__`` module of this process
    """

    def __init__(
        self, find_app: Callable[[], Flask], settings: Settings, *, knows_main: bool
    ) -> None:
        self._find_app = find_app
        self._settings = settings
        self._knows_main = knows_main
        self._setup: WorkerSetup | None = None

    def pack(
        self,
        job: JobInfo,
        timeout: float | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Callable[..., Reply], tuple[WorkerSetup, bytes]]:
        """The function that a worker calls to run the job, and its arguments.

        :raises NotPicklable: if the call cannot be sent
        :raises AppNotFound: if workers cannot find the app
        """
        call = dumps_call(job, timeout, fn, args, kwargs, knows_main=self._knows_main)
        return run, (self._setup_here(), call)

    def for_items(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function that runs the coroutine function *fn* for one item of a chunk."""
        return partial(call_coroutine_item, fn)

    def prepare(self) -> Callable[[], object]:
        """The function that a worker calls first."""
        return partial(prepare, self._setup_here())

    def _setup_here(self) -> WorkerSetup:
        if self._setup is None:
            app, knows_main = self._find_app(), self._knows_main
            self._setup = setup_for(app, self._settings, knows_main=knows_main)
        return self._setup
