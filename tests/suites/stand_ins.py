"""Executors with the signatures of the pools of `concurrent.futures`, and their replacement."""

import concurrent.futures
import itertools
import multiprocessing
import threading
from types import SimpleNamespace

from flask import Flask

from flask_executor import Executor

# Worker processes load this app by its import path.
worker_app = Flask(__name__)


class StandIn(Executor):
    """An executor that takes the arguments of a pool, and makes the config keys from them."""

    type = "thread"
    shared_app: Flask | None = None
    _numbers = itertools.count(1)

    def __init__(self, max_workers=None, **settings):
        app = self.shared_app or Flask(__name__)
        name = f"pool{next(self._numbers)}"
        settings |= {"TYPE": self.type, "MAX_WORKERS": max_workers}
        for key, value in settings.items():
            app.config[f"{name.upper()}_EXECUTOR_{key}"] = value
        super().__init__(app, name=name)


class ThreadStandIn(StandIn):
    """An executor of the type thread.

    Tests look at the set of its threads, which has no public name in the stdlib's pool.
    """

    def __init__(self, max_workers=None, thread_name_prefix=""):
        super().__init__(max_workers)

    @property
    def _threads(self):
        return {each for each in threading.enumerate() if each.name.startswith(f"{self.name}-")}


class ProcessStandIn(StandIn):
    """An executor of the type process; its jobs run in an app context of `worker_app`.

    Tests look at its processes, by their pids, and have processes of one such pool at a time.
    They also join a thread and a queue of the stdlib's pool; an executor has neither.
    """

    type = "process"
    _executor_manager_thread = SimpleNamespace(join=lambda: None)
    _call_queue = SimpleNamespace(join_thread=lambda: None)
    # They do not work here, but CPython 3.14's tests ask for their names when they are imported.
    terminate_workers = getattr(concurrent.futures.ProcessPoolExecutor, "terminate_workers", None)
    kill_workers = getattr(concurrent.futures.ProcessPoolExecutor, "kill_workers", None)

    def __init__(self, max_workers=None, mp_context=None, *, max_tasks_per_child=None):
        super().__init__(
            max_workers,
            APP="stand_ins:worker_app",
            MP_CONTEXT=mp_context and mp_context.get_start_method(),
            MAX_TASKS_PER_CHILD=max_tasks_per_child,
        )

    @property
    def _processes(self):
        # The tests of CPython 3.14 have a manager, which is a child of this process, too.
        children = multiprocessing.active_children()
        return {each.pid: each for each in children if not each.name.startswith("SyncManager-")}


def replace_pools(*, process=ProcessStandIn, shared_app=None):
    """Replace both pools of `concurrent.futures`, for code that imports them from now on.

    :param process: the class in place of `ProcessPoolExecutor`
    :param shared_app: the app of all executors, for tests whose jobs use other executors: a job has
        the context of its executor's app. None gives each executor an app of its own
    """
    StandIn.shared_app = shared_app
    concurrent.futures.ThreadPoolExecutor = ThreadStandIn
    concurrent.futures.ProcessPoolExecutor = process
