"""Flask-Caching: views and jobs share a cache."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, g, request
from flask_caching import Cache

from tests.integrations.support import in_view
from tests.support import WAIT, MakeExecutor


@pytest.fixture(params=["SimpleCache", "FileSystemCache"])
def cache(app: Flask, tmp_path: Path, request: pytest.FixtureRequest) -> Cache:
    app.config["CACHE_TYPE"] = request.param
    app.config["CACHE_DIR"] = str(tmp_path)
    app.config["FACTOR"] = 2
    return Cache(app)


def test_a_view_finds_what_a_job_has_cached_and_a_job_what_a_view_has_cached(
    app: Flask, cache: Cache, run: Callable[..., Any]
) -> None:
    def job() -> int:
        cache.set(f"{g.user}: of the job", 2)
        return cache.get(f"{g.user}: of the view")

    def view() -> tuple[Any, Any]:
        g.user = "ada"
        cache.set("ada: of the view", 1)
        found = run(job)
        return found, cache.get("ada: of the job")

    assert in_view(app, view) == (1, 2)


def test_a_memoized_function_is_called_once_for_a_view_and_its_jobs(
    app: Flask, cache: Cache, run: Callable[..., Any]
) -> None:
    calls: list[int] = []

    @cache.memoize()
    def double(n: int) -> int:
        calls.append(n)
        return current_app.config["FACTOR"] * n

    def view() -> list[int]:
        return [run(double, 1), run(double, 1), double(1), double(2), run(double, 2)]

    assert in_view(app, view) == [2, 2, 2, 4, 4]
    assert calls == [1, 2]


def test_a_job_may_be_memoized_and_be_forgotten_in_a_view(
    app: Flask, cache: Cache, executors: MakeExecutor
) -> None:
    # Flask-Caching may call a function twice if two threads are its first callers.
    executor = executors(app, max_workers=1)
    calls: list[int] = []

    @cache.memoize()
    def double(n: int) -> int:
        calls.append(n)
        return current_app.config["FACTOR"] * n

    job = executor.job(double)

    def view() -> list[list[int]]:
        results = [list(job.map([1, 2])), [job(1), job.submit(2).result(WAIT)]]
        cache.delete_memoized(double, 1)
        return [*results, list(job.map([1, 2]))]

    assert in_view(app, view) == [[2, 4]] * 3
    assert sorted(calls) == [1, 1, 2]


def test_jobs_of_each_path_have_a_cached_answer_of_their_own(
    app: Flask, cache: Cache, executors: MakeExecutor
) -> None:
    """`cached` makes its key of the path of the request, which a job has."""
    executor = executors(app, max_workers=2)
    threads: list[str] = []

    @cache.cached(key_prefix="user/%s")
    def describe() -> str:
        threads.append(threading.current_thread().name)
        return f"{request.path} {g.user}"

    @app.get("/<path>")
    def view(path: str) -> str:
        g.user = path.upper()
        return executor.submit(describe).result(WAIT)

    client = app.test_client()

    assert [client.get(path).text for path in ("/a", "/b", "/a")] == ["/a A", "/b B", "/a A"]
    assert len(threads) == 2
    assert threading.current_thread().name not in threads


@pytest.mark.parametrize("async_views", [False, True])
def test_a_memoized_async_function_runs_in_a_job_as_a_plain_function(
    app: Flask, cache: Cache, executors: MakeExecutor, async_views: bool
) -> None:
    """Flask-Caching makes a plain function of it, with `app.ensure_sync`."""
    executor = executors(app, async_views=async_views)
    calls: list[int] = []

    @cache.memoize()
    async def double(n: int) -> int:
        calls.append(n)
        return current_app.config["FACTOR"] * n

    assert [executor.submit(double, 1).result(WAIT) for _ in range(2)] == [2, 2]
    assert calls == [1]
