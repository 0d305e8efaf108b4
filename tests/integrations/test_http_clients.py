"""aiohttp and httpx: one client for all coroutine jobs and async views, with its connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import httpx
import pytest
from flask import Flask

from flask_executor import Executor
from tests.support import WAIT, MakeExecutor, at_once


class Upstream(ThreadingHTTPServer):
    """A server that keeps connections open, and counts them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers with the path; the answer to /together waits until four have come."""

    protocol_version = "HTTP/1.1"
    together = threading.Barrier(4, timeout=WAIT)

    def do_GET(self) -> None:
        if self.path == "/together":
            self.together.wait()
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def executor(app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app, async_views=True)


Get = Callable[[str], Awaitable[str]]


class Aiohttp:
    """A client session, which needs a running loop when it is made."""

    async def open(self, url: str) -> None:
        self.client = aiohttp.ClientSession(url)

    async def get(self, path: str) -> str:
        async with self.client.get(path) as response:
            return await response.text()

    async def close(self) -> None:
        await self.client.close()


class Httpx:
    """A client, which can be made anywhere."""

    async def open(self, url: str) -> None:
        self.client = httpx.AsyncClient(base_url=url, timeout=WAIT)

    async def get(self, path: str) -> str:
        return (await self.client.get(path)).text

    async def close(self) -> None:
        await self.client.aclose()


@pytest.fixture(params=[Aiohttp, Httpx])
def client(
    executor: Executor, upstream: Upstream, request: pytest.FixtureRequest
) -> Iterator[Aiohttp | Httpx]:
    """A client that is opened and closed on the executor's loop."""
    client = request.param()
    executor.submit(client.open, upstream.url).result(WAIT)
    yield client
    executor.submit(client.close).result(WAIT)


def test_requests_and_their_jobs_one_after_the_other_use_one_connection(
    app: Flask, executor: Executor, upstream: Upstream, client: Aiohttp | Httpx
) -> None:
    @app.get("/<name>")
    async def view(name: str) -> list[str]:
        return [await client.get(f"/{name}"), await executor.submit_async(client.get, "/of-job")]

    answers = [app.test_client().get(f"/{name}").json for name in ("ada", "grace")]

    assert answers == [["/ada", "/of-job"], ["/grace", "/of-job"]]
    assert executor.submit(client.get, "/later").result(WAIT) == "/later"
    assert upstream.connections == 1


def test_plain_views_use_the_client_in_coroutine_jobs(
    app: Flask, executors: MakeExecutor, upstream: Upstream, client: Aiohttp | Httpx
) -> None:
    executor: Executor = app.extensions["executor"]
    app.add_url_rule("/", view_func=lambda: executor.submit(client.get, "/plain").result(WAIT))

    assert [app.test_client().get("/").text for _ in range(3)] == ["/plain"] * 3
    assert upstream.connections == 1


def test_requests_and_jobs_at_a_time_have_connections_of_their_own(
    app: Flask, executor: Executor, upstream: Upstream, client: Aiohttp | Httpx
) -> None:
    @app.get("/")
    async def view() -> list[str]:
        job = executor.submit_async(client.get, "/together")
        return list(await asyncio.gather(client.get("/together"), job))

    get = lambda: app.test_client().get("/").json  # noqa: E731

    assert at_once(get, get) == [["/together"] * 2] * 2
    assert upstream.connections == 4


@pytest.mark.parametrize("kind", [Aiohttp, Httpx])
def test_a_client_is_closed_on_its_loop_before_the_loop_ends(
    app: Flask, executor: Executor, upstream: Upstream, kind: type[Aiohttp | Httpx]
) -> None:
    client, ended = kind(), []

    async def keep_open() -> None:
        # A task of its own: it is cancelled at the end, after all jobs.
        await client.open(upstream.url)
        try:
            await asyncio.Event().wait()
        finally:
            await client.close()
            ended.append(asyncio.get_running_loop())

    async def start() -> asyncio.AbstractEventLoop:
        app.task = asyncio.create_task(keep_open())
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    loop = executor.submit(start).result(WAIT)
    assert executor.submit(client.get, "/").result(WAIT) == "/"
    executor.shutdown()

    assert ended == [loop]
    assert client.client.closed if kind is Aiohttp else client.client.is_closed
