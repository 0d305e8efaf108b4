"""The rows of the table: which work is compared, with whom, and what the ratio is meant to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """What both sides do in their rounds.

    :param name: that of the work in the sides' scripts
    :param jobs: in a round
    :param unit: of what a job took, one of `UNITS`
    :param needs_redis: whether its sides find a Redis at ``BENCHMARK_REDIS_URL``
    :param limit: what keeps ours from taking less, for the page
    """

    name: str
    title: str
    jobs: int
    unit: str = "µs"
    needs_redis: bool = False
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A work, and who else does it.

    :param theirs: their side, the name of a script in sides/; None if nothing does the same
    :param aim: what ours by theirs is meant to stay within, or ours alone, in the work's unit
    """

    work: Work
    against: str
    theirs: str | None
    aim: float
    ours: str = "ours"

    def sides(self) -> list[str]:
        """Who does the work."""
        return [self.ours] if self.theirs is None else [self.ours, self.theirs]


# How many of each make a second, or a byte; 1/s is for what is shown as jobs per second.
UNITS = {"µs": 1e6, "ms": 1e3, "B": 1, "1/s": 1}

BURST = Work(
    "burst",
    "burst of 10,000 jobs from a request",
    10_000,
    limit="Flask's app context, a future and a copy of the contextvars are half of what a "
    "job takes. The rest is what the bare pool does not do: each job has a copy of `g`, a name and "
    "an id, callbacks that run in its context, a place in the counts, and can be taken out again. "
    "Workers that take job after job from one queue, and are woken for a burst and not for a job, "
    "make up for it, with CPython 3.11 for much more than that. Flask-Executor 1.0 makes a copy of "
    "the request context for each job.",
)
GATHER = Work(
    "gather",
    "`gather` of 10,000 `submit_async`",
    10_000,
    limit="A job with its context takes fewer instructions than `run_in_executor` without one. The "
    "loop is woken once for many outcomes, and a worker for many jobs. A future of asyncio's, a "
    "callback of `gather` for each job and `gather` itself are the same for all.",
)
ONE = Work(
    "one",
    "one job at a time, `submit(fn).result()`",
    1_000,
    limit="Two threads wake each other for every job, on either side; nothing can be shared among "
    "jobs, so all that a job has beside its call counts in full. It is 1.8 times the bare "
    "pool's instructions; two fifths of what is more is the app context. A view that waits for one "
    "job at a time gains nothing by it: call the function.",
)
ONE_AWAITED = Work(
    "one-awaited",
    "one job at a time, `await submit_async(fn)`",
    1_000,
    limit="As above; the way back to the loop, the same on either side, is a large part of it.",
)
COROUTINES = Work(
    "coroutines",
    "10,000 coroutine jobs",
    10_000,
    limit="A task, a future and an app context for each job; without the last, it would take fewer "
    "instructions than `run_coroutine_threadsafe`. The loop is woken once for many jobs, and a job "
    "ends in the last step of its task, where `run_coroutine_threadsafe` has two futures tell each "
    "other how it ended.",
)
ASYNC_VIEW = Work(
    "async-view",
    "async view minus sync view, test client",
    500,
    limit="A view's coroutine changes threads twice: to the loop and back.",
)
SERVED = Work("async-view-served", "async view minus sync view, Gunicorn", 800)
MAP = Work(
    "map",
    "`map` of 100,000 items in threads, `chunksize=100`",
    100_000,
    limit="The bare pool makes a call of each item. Ours makes a job of a chunk, and leaves each "
    "item its contextvars and its app context, which are nearly all that remains.",
)
PROCESSES = Work(
    "map-processes",
    "`map` of 100,000 items in processes, `chunksize=1000`",
    100_000,
    limit="A call is pickled once more than the stdlib does it, so that what cannot travel is told "
    "by `submit`, by name, and a worker enters an app context for each chunk. Each process has a "
    "pipe of its own, where the stdlib's share two.",
)
PROCESSES_100 = Work(
    "map-processes-100", "`map` of 100,000 items in processes, `chunksize=100`", 100_000
)
MEMORY = Work(
    "memory",
    "memory of a waiting job",
    10_000,
    "B",
    limit="A future's condition, with a deque and five bound methods, is most of what a waiting "
    "call takes in the stdlib. Ours is its own lock, and makes a deque when somebody waits.",
)
READ_BACK = Work("read-back", "jobs whose results are read back", 1_000, "1/s", needs_redis=True)
IMPORT = Work(
    "import",
    "`import flask_executor` after `import flask, asyncio`",
    5,
    "ms",
    limit="It is 35 modules to find, read and execute, and asgiref, which Flask imports at its "
    "first async view. What worker processes and clusters need is imported for them. The aim is in "
    "milliseconds, and so depends on the machine more than a ratio does: where this was measured, "
    "`import flask, asyncio` took 262 ms by itself, with CPython 3.11.",
)

ROWS = (
    Row(BURST, "`ThreadPoolExecutor`, `app.app_context()` in each job", "pool", 1.0),
    Row(BURST, "Flask-Executor 1.0", "flask_executor_1", 0.15),
    Row(GATHER, "`loop.run_in_executor`, no app context", "pool", 0.6),
    Row(GATHER, "asgiref's `sync_to_async`, no app context", "asgiref_sync", 0.4),
    Row(GATHER, "`anyio.to_thread.run_sync`, no app context", "anyio_threads", 0.4),
    Row(GATHER, "`asyncio.to_thread`, no app context", "to_thread", 0.4),
    Row(ONE_AWAITED, "`asyncio.to_thread`, no app context", "to_thread", 1.0),
    Row(ONE, "`ThreadPoolExecutor`, no app context", "pool", 1.0),
    Row(COROUTINES, "asgiref's `async_to_sync` for each, no app context", "asgiref_sync", 0.08),
    Row(COROUTINES, "`run_coroutine_threadsafe`, no app context", "pool", 1.0),
    Row(ASYNC_VIEW, "stock Flask", "stock_flask", 0.25),
    Row(SERVED, "stock Flask", "stock_flask", 0.25),
    Row(MAP, "`ThreadPoolExecutor.map`, no app context", "pool", 0.35),
    Row(PROCESSES, "`ProcessPoolExecutor.map`, no app context", "pool", 1.05),
    Row(PROCESSES_100, "`ProcessPoolExecutor.map`, no app context", "pool", 1.05),
    Row(MEMORY, "`ThreadPoolExecutor`, `app.app_context()` in each job", "pool", 1.1),
    Row(IMPORT, "", None, 10),
    Row(READ_BACK, "RQ", "rq_jobs", 0.05),
    Row(READ_BACK, "Celery", "celery_jobs", 0.05),
    Row(READ_BACK, "Dramatiq", "dramatiq_jobs", 0.05),
    Row(READ_BACK, "Huey", "huey_jobs", 0.05),
    Row(READ_BACK, "SAQ", "saq_jobs", 0.05),
)


def show(value: float, unit: str) -> str:
    """Write what a job took with its unit."""
    if unit == "1/s":
        return f"{1 / value:,.0f}/s"
    return f"{value * UNITS[unit]:.{0 if unit == 'B' else 1}f} {unit}"
