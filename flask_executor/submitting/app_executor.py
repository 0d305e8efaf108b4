"""An executor's part for one app: its settings, its queue, and its stored futures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from ..aio.loop import GRACE
from ..exceptions import InheritedJob
from ..jobs.callbacks import drop_callbacks
from ..jobs.collection import FutureCollection, after_fork, stored_in
from ..jobs.function import JobFunction
from ..jobs.future import JobFuture, leave_to_parent
from ..jobs.item import WorkItem
from ..jobs.mistakes import check_function, check_keywords
from ..jobs.options import NO_OPTIONS, OPTION_NAMES, OptionValues
from ..jobs.retry import Retrying
from ..queue.queue import known, stats_of
from ..runners.coroutines import call_coroutine_function
from ..runners.keys import Keys
from ..runners.later import event_of
from ..runners.transitions import on_transition
from ..threads.fork import call_in_forked_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..aio.loop import LoopThread
    from ..context.scope import Scope
    from ..events.waiting import Event
    from ..jobs.collection import Elsewhere
    from ..runners.host import AppHost
    from ..runners.transitions import Call
    from ..stats import Stats


T = TypeVar("T")

_BY_OPTIONS: Any = object()


class AppExecutor:
    """Submits the jobs of one app; it belongs to the app, and goes with it."""

    def __init__(
        self,
        executor: object,
        default_callbacks: list[Callable[[JobFuture[Any]], object]],
        host: AppHost,
    ) -> None:
        self.executor = executor
        self.host: AppHost = host
        self.futures = FutureCollection(
            host.settings.futures_max_length,
            on_drop=host.notice_dropped,
            elsewhere=_elsewhere(host),
        )
        self._default_callbacks = default_callbacks
        self._inherited: list[AppHost] = []  # in a forked process, also in a fork of a fork
        self._is_config_checked = False
        self._keys = Keys(self.futures)
        call_in_forked_children(self.after_fork)

    def loop(self) -> LoopThread:
        """The event-loop thread of this process."""
        return self.host.loop

    def after_fork(self) -> None:
        """Have no jobs but failed ones; in a forked process, whose parent runs them."""
        self._keys = Keys(self.futures)
        inherited, self.host = self.host, self.host.fresh()
        self._inherited.append(inherited)
        stored = (future.job for future in stored_in(self.futures) if isinstance(future, JobFuture))
        for item in {*known(inherited.queue), *stored}:
            if item.future is not None:
                leave_to_parent(item.future, _inherited(item))
        after_fork(self.futures, _elsewhere(self.host))

    def stats(self) -> Stats:
        """The counts of the app's jobs; they add up at any moment."""
        return stats_of(self.host.queue, self.host.pool.count())

    def submit(
        self,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: OptionValues = NO_OPTIONS,
        *,
        wait: float | None = _BY_OPTIONS,
        may_hold: bool = False,
        scope: Scope | None = None,
        event: Event | None = None,
        on_claimed: Callable[[JobFuture[Any]], object] | None = None,
    ) -> JobFuture[T]:
        """Make a job of the call and put it in the queue; by default it sees what is here now.

        :param wait: seconds to wait here for room in the queue; None for no limit; if not given,
            the ``queue_timeout`` of the options, or 0
        :param may_hold: whether to have the job itself wait for that, and not the caller
        :param scope: what the job sees instead
        :param event: the event that the option *after* names, if the caller has it
        :param on_claimed: called with the future of a new job before the job can start
        """
        is_coroutine = check_function(fn)
        if kwargs and not OPTION_NAMES.isdisjoint(kwargs):
            check_keywords(fn, kwargs)
        if isinstance(fn, JobFunction):
            options = options.over(fn.job_options)
        if options is not NO_OPTIONS:
            options.check_complete()
            event = event or event_of(options.after)
        if not self._is_config_checked:
            self._check_config()
        host = self.host
        if host.queue.is_closed:
            host.dispatch.check_open()
        scope = scope or host.capture()
        item = WorkItem(host, scope, fn, args, kwargs, options.key, options.timeout)
        if is_coroutine or not host.in_process:
            self._set_call(item, fn, is_coroutine=is_coroutine, is_later=event is not None)
        if options is not NO_OPTIONS and options.retry is not None:
            item.retry = Retrying(options.retry, scope, item.fn, item.args)
        future: JobFuture[T] = JobFuture(item)
        for callback in self._default_callbacks:
            future.add_done_callback(callback)
        if wait is _BY_OPTIONS:
            wait = options.queue_timeout or 0
        call = (future, fn, args, kwargs)
        return self._put(item, call, options, event, on_claimed, wait=wait, may_hold=may_hold)

    def _put(
        self,
        item: WorkItem,
        call: Call,
        options: OptionValues,
        event: Event | None,
        on_claimed: Callable[[JobFuture[Any]], object] | None,
        *,
        wait: float | None,
        may_hold: bool,
    ) -> JobFuture[Any]:
        """Put the job in, and return its future, or the one that is stored under its key."""
        host, key, delay = self.host, options.key, options.delay
        dispatch, admission = host.dispatch, host.queue.admission
        if host.inline:
            delay = None
        is_delayed = delay is not None or event is not None
        is_bounded = admission.is_bounded and (is_delayed or not item.runs_on_loop)
        has_pool = host.pool.pool is not None  # asked here, as nearly every job finds it open
        is_open = has_pool or dispatch.open_for(item, is_delayed=is_delayed, is_awaited=may_hold)
        is_announced = False
        try:
            # Once stored, the future can be found, and the job cancelled, by its key.
            if key is not None:
                stored = self._keys.claim(
                    host.recorder,
                    item,
                    call[0],
                    options.on_duplicate or "raise",
                    may_be_refused=admission.is_bounded,
                )
                if stored is not None:
                    self._give_up(item, call[0])
                    return stored
            if options is not NO_OPTIONS and options.group is not None:
                options.group.add(call[0])
            if on_claimed is not None:
                on_claimed(call[0])
            if is_bounded and not may_hold and item.is_pending():
                dispatch.room.reserve(item, wait, is_delayed=is_delayed)
                if item.is_pending():
                    dispatch.check_open()
            is_announced = True
            on_transition(host, item, None, "pending", call=call)
            dispatch.put(
                item,
                delay,
                may_hold=may_hold and is_bounded,
                hold_timeout=options.queue_timeout,
                is_open=is_open,
                later=None if event is None else host.later.add(item, delay, event),
            )
        except BaseException:
            if is_bounded:
                dispatch.room.give_back(item)
            self._take_back(item, is_announced=is_announced)
            raise
        return call[0]

    def _give_up(self, item: WorkItem, future: JobFuture[Any]) -> None:
        """End a job that is not needed; a thread that found its future by the key may wait."""
        if item.claim():
            drop_callbacks(future, self._default_callbacks)
            item.withdraw()
        else:
            item.release()

    def _check_config(self) -> None:
        # Here, at the first job, and not where it is read: no thread but this one can raise it.
        self._is_config_checked = True
        self.host.settings.warn_if_changed(self.host.app)

    def _take_back(self, item: WorkItem, *, is_announced: bool) -> None:
        """Forget a job whose submission has failed, unless it is in the queue all the same."""
        if item.state == "new" and item.claim():
            item.withdraw()
        if item.state != "rejected":
            return
        if item.key is not None:
            self._keys.give_back(self.host.recorder, item)
        if is_announced:
            on_transition(self.host, item, "pending", "cancelled")
        elif item.key is not None:
            self.host.recorder.drop(item)

    def _set_call(
        self, item: WorkItem, fn: Callable[..., Any], *, is_coroutine: bool, is_later: bool
    ) -> None:
        """Have *item* make the call where it is to be made: on a loop, or in another process."""
        host = self.host
        if not host.in_process:
            call = (item.timeout, fn, item.args, item.kwargs or {})
            item.fn, item.args = host.pool.remote.pack(item, *call)
            item.kwargs = None
            if is_coroutine and item.timeout is not None:
                item.timeout += GRACE  # over there it is cancelled in time, and then cleans up
        elif host.has_loop() and not (host.inline and is_later):
            item.runs_on_loop = True
        else:
            item.args = (item.name, item.timeout, fn, *item.args)
            item.fn, item.timeout = call_coroutine_function, None


def _elsewhere(host: AppHost) -> Elsewhere | None:
    """The store, which knows the jobs of other processes; None if there is none."""
    return None if host.settings.store is None else host.recorder.store


def _inherited(item: WorkItem) -> InheritedJob:
    return InheritedJob(
        f"the job {item.name!r} belongs to the process {os.getppid()}, which this one was forked "
        "from, and runs there; submit it here if it is to run here"
    )
