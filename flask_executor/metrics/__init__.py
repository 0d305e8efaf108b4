"""Prometheus metrics of the jobs of executors, with prometheus-client: the extra ``[metrics]``.

The metrics follow the signals, and read `Executor.stats`. Without `instrument`, jobs cost nothing
more.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress

try:
    from prometheus_client import REGISTRY, CollectorRegistry
except ImportError as error:
    raise ImportError(
        "flask_executor.metrics needs the package prometheus-client; "
        "pip install 'flask-executor[metrics]'"
    ) from error

from ..exceptions import NotInitialised
from ..executor import Executor
from ..messages.shown import kind_of, shown_number
from ..remote.here import in_worker
from .counting import Metrics

__all__ = ["instrument"]

_MAX_WAIT = 1.0  # seconds that a fork waits for threads that count a job

_making = threading.Lock()
_metrics_of: weakref.WeakKeyDictionary[CollectorRegistry, Metrics] = weakref.WeakKeyDictionary()


def instrument(
    executor: Executor, registry: CollectorRegistry = REGISTRY, *, max_names: int = 100
) -> None:
    """Have the jobs of *executor* counted and timed in *registry*, for all its apps.

    Call it once the executor has an app. A second call for the same executor and registry changes
    nothing. Executors with the same name add up; an executor without a name has the label
    ``executor``.

    In multiprocess mode, which prometheus-client has where ``PROMETHEUS_MULTIPROC_DIR`` is set, the
    metrics of all processes add up.

    :param max_names: the number of names of jobs that get metrics of their own, in each process;
        jobs of other names share the name ``other``
    :raises TypeError: if *executor* is no `Executor`, or *max_names* no int
    :raises ValueError: if *max_names* is below 0, or *registry* has another metric of the same name
    :raises NotInitialised: if the executor has no app yet
    """
    if not isinstance(executor, Executor):
        raise TypeError(f"instrument() has {kind_of(executor)}; expected an Executor")
    if type(max_names) is not int:
        raise TypeError(f"max_names is {kind_of(max_names)}; expected an int")
    if max_names < 0:
        raise ValueError(f"max_names is {shown_number(max_names)}; expected 0 or more")
    if not executor.apps:
        raise NotInitialised(
            "the executor has no app yet; call executor.init_app(app) before instrument(executor)"
        )
    if in_worker():
        return
    with _making:
        metrics = _metrics_of.get(registry)
        if metrics is None:
            metrics = _metrics_of[registry] = Metrics(registry)
    metrics.watch(executor, max_names)


def _before_fork() -> None:
    for metrics in list(_metrics_of.values()):
        metrics.lock.acquire(timeout=_MAX_WAIT)


def _after_fork_in_parent() -> None:
    for metrics in list(_metrics_of.values()):
        with suppress(RuntimeError):  # The fork has not waited any longer for the lock.
            metrics.lock.release()


def _after_fork_in_child() -> None:
    for metrics in list(_metrics_of.values()):
        metrics.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    # Weak references to methods, as `threads.fork` has them, may complain as the process ends: the
    # metrics of the default registry go last.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
