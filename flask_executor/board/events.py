"""The stream of events that tells a page when to ask again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from flask import Response, current_app, request

from ..context.scope import unwrap
from ..exceptions import StoreUnavailable
from .server import is_ending, streams_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from .jobs import Jobs

# All in seconds.
_LIFE = 300.0  # Then the stream ends; a browser that still shows the page connects again.
_STEP = 0.5  # A server that ends waits so long for its streams at most.
# The pause between two looks at the records: this, or so many times as long as a look takes.
_LOOK = 1.0
_LOOK_TIMES = 10
_HEARTBEAT = 4.0  # Only writing to a stream shows that its browser has gone.


class Events:
    """The open streams of this process."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()  # guards _open
        self._open = 0

    def respond(self) -> Response:
        """Open a stream; or answer 204 if no thread is free for one: then the page polls."""
        # Not in the context of the request: its teardown, which may give back a connection to a
        # database, must not wait for the end of the stream.
        stream = self._stream(unwrap(current_app))
        response = current_app.response_class(stream, mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"  # nginx passes each event on at once
        allowed = 0 if request.method == "HEAD" else streams_allowed(request.environ)
        if not self._take(allowed):
            return Response(status=204)
        response.call_on_close(self._give_back)
        return response

    def _take(self, allowed: int) -> bool:
        with self._lock:
            if self._open >= allowed:
                return False
            self._open += 1
            return True

    def _give_back(self) -> None:
        with self._lock:
            self._open -= 1

    def _stream(self, app: Flask) -> Iterator[str]:
        pause = threading.Event()  # which nobody sets
        begin = written = time.monotonic()
        look_at = begin
        version = ""
        yield "retry: 2000\n\n"
        while not is_ending() and (now := time.monotonic()) < begin + _LIFE:
            if now >= look_at:
                seen = self._look(app)
                after = time.monotonic()
                look_at = after + max(_LOOK, _LOOK_TIMES * (after - now))
                if seen != version:
                    version, written = seen, after
                    yield f"event: changed\ndata: {version}\n\n"
            if now >= written + _HEARTBEAT:
                written = now
                yield ": still here\n\n"
            pause.wait(_STEP)

    def _look(self, app: Flask) -> str:
        with app.app_context():
            try:
                return self._jobs.version()
            except StoreUnavailable:
                return "unavailable"
