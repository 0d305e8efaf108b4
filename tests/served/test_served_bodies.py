"""Jobs and the body of their request, under servers that read it in different ways.

Jobs that are to read after the response wait for a byte in a named pipe, which the test writes when
it has the response. So requests follow each other on one connection, where the server allows that.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import IO
from urllib.parse import quote

import pytest

from tests.served.servers import APPS, served
from tests.support import WAIT

GUNICORN = "gunicorn -b 127.0.0.1:0 --no-control-socket"
UVICORN = "uvicorn --port 0 --reset-contextvars"

# Each takes a free port, and logs its address. The last value: whether it keeps connections alive.
SERVERS = {
    "gunicorn-sync": (f"{GUNICORN} served_bodies:app", False),
    "gunicorn-gthread": (f"{GUNICORN} --threads 4 served_bodies:app", True),
    "werkzeug": ("flask --app served_bodies run --port 0", False),
    "asgiref": (f"{UVICORN} served_bodies:asgiref_app", True),
    "a2wsgi": (f"{UVICORN} served_bodies:a2wsgi_app", True),
}

# More than a server reads at once. Gunicorn closes a connection with more than 64 KiB of it unread.
TEXT = "".join(f"line {n} of the text\n" for n in range(1500))
BIG = TEXT * 20
FORM = "application/x-www-form-urlencoded"
PART = '--end\r\nContent-Disposition: form-data; name="text"; filename="a.txt"'
BODIES = {
    "form": (FORM, f"text={quote(TEXT)}"),
    "json": ("application/json", json.dumps({"text": TEXT})),
    "data": ("text/plain", TEXT),
    "pieces": ("text/plain", TEXT),
    "lines": ("text/plain", TEXT),
    "files": (
        "multipart/form-data; boundary=end",
        f"{PART}\r\n\r\n{TEXT}\r\n--end--\r\n",
    ),
}


class Client:
    """Sends all requests over one connection, if the server keeps it alive."""

    def __init__(self, host: str, port: int, *, kept_alive: bool) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=WAIT)
        self._kept_alive = kept_alive
        self._connection.connect()

    def request(self, method: str, path: str, kind: str = "", body: str = "") -> str:
        before = self._connection.sock
        headers = {"Content-Type": kind} if kind else {}
        self._connection.request(method, path, body.encode() if kind else None, headers)
        response = self._connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, text
        if self._kept_alive:
            assert self._connection.sock is before is not None
        return text

    def post(self, path: str, way: str) -> str:
        return self.request("POST", path.replace("WAY", way), *BODIES[way])

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module", params=SERVERS)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    command, kept_alive = SERVERS[request.param]
    with served(command, APPS) as at:
        client = Client(at.base_url.host, at.base_url.port, kept_alive=kept_alive)
        yield client
        client.close()


@pytest.mark.parametrize("way", BODIES)
def test_jobs_read_the_body_while_the_request_lasts(client: Client, way: str) -> None:
    expected = ["a.txt" if way == "files" else TEXT] * 3

    for _ in range(3):
        assert json.loads(client.post("/now/WAY", way)) == expected


def test_jobs_read_a_big_body(client: Client) -> None:
    for _ in range(3):
        assert json.loads(client.request("POST", "/now/data", "text/plain", BIG)) == [BIG] * 3


@pytest.mark.parametrize("way", BODIES)
def test_after_the_response_jobs_read_what_the_view_has_read(
    client: Client, pipe: IO[str], way: str
) -> None:
    expected = "a.txt" if way == "files" else TEXT

    assert client.post(f"/first/WAY?pipe={pipe.name}", way) == expected
    pipe.write("go\n")

    assert json.loads(client.request("GET", "/outcomes")) == [expected] * 3


@pytest.mark.parametrize("way", BODIES)
def test_after_the_response_an_unread_body_raises_and_the_next_requests_are_whole(
    client: Client, pipe: IO[str], way: str
) -> None:
    for _ in range(3):
        assert client.post(f"/late/WAY?pipe={pipe.name}", way) == "submitted"
        pipe.write("go\n")
        # Now the jobs and the server would read from the same connection.
        in_time = json.loads(client.post("/now/WAY", way))
        outcomes = json.loads(client.request("GET", "/outcomes"))

        assert in_time == ["a.txt" if way == "files" else TEXT] * 3
        assert outcomes == ["RequestEnded"] * 3
