"""The body of a request, which the view and its jobs can read until the request ends."""

from __future__ import annotations

import io
import os
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from flask.globals import _cv_app
from flask.signals import request_tearing_down
from werkzeug.exceptions import ClientDisconnected
from werkzeug.utils import cached_property

from ..exceptions import RequestEnded
from ..threads.conditions import RLock
from .request import current_push, request_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer
    from flask import Flask, Request


# The key under which the environ of a request keeps its shared body.
_KEY = "flask_executor.body"
_NO_BODY = frozenset({None, "", "0"})
# The bytes of a body that are kept in memory; more go to a file, as in Werkzeug's uploads.
_MAX_IN_MEMORY = 500_000


class SharedBody(io.RawIOBase):
    """Replaces `Request.stream`, so that every reader reads the whole body.

    A reader is an app context: the view has one, and so has each job. Data that one reader has
    taken from the server are kept for the others. After the request, the rest of the data is out
    of reach: the server may be reading the next request from the same connection.

    It refers to the request weakly, as the request refers to it.

    :param context: the request context; the request ends when it is popped
    """

    def __init__(self, request: Request, context: Any) -> None:
        self._kept: IO[bytes] = SpooledTemporaryFile(_MAX_IN_MEMORY)  # noqa: SIM115 - see `__del__`
        self._request = ref(request)
        self._context = ref(context)
        self._process = os.getpid()
        self._lock = RLock()
        # All of these, and what is kept, are guarded by _lock.
        self._source: Any = vars(request).get("stream")  # None until the first read opens it
        self._positions: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._is_complete = False
        self._last_push: object = None  # of a context that is being popped
        self._failure: Callable[[], Exception] | None = None

    def readable(self) -> bool:
        """Tell wrappers of the stream that they may read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read as many bytes as *buffer* has room for; fewer only at the end of the body."""
        view = memoryview(buffer).cast("B")
        data = self._read("read", len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Read the rest of the body."""
        return self._read("read", -1)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read to the end of the line; iteration uses this, too."""
        return self._read("readline", -1 if size is None else size)

    def close(self) -> None:
        """Do nothing: a wrapper that one reader drops must not close the body of the others."""

    def __del__(self) -> None:
        self._kept.close()

    def end(self, context: object) -> None:
        """Take no more from the server, as *context* is popped; this waits for a read in progress.

        If *context* is a copy of the request's context, the request goes on.
        """
        if self._process == os.getpid():
            with self._lock:
                self._last_push = current_push(context)

    def _read(self, method: str, size: int) -> bytes:
        if self._process != os.getpid():
            raise RequestEnded(
                "this process was forked from the one that serves the request, and cannot read its "
                "body; read it before the fork"
            )
        with self._lock:
            reader = _cv_app.get(None) or self
            position = self._positions.get(reader, 0)
            self._kept.seek(position)
            data: bytes = getattr(self._kept, method)(size)
            missing = size - len(data)
            if missing and not (method == "readline" and data.endswith(b"\n")):
                data += self._fetch(method, missing if size >= 0 else -1)
            self._positions[reader] = position + len(data)
            return data

    def _fetch(self, method: str, size: int) -> bytes:
        """Read from the server, and append the data to those that are kept."""
        if self._failure is not None:
            raise self._failure()
        if self._is_complete:  # To read on could exceed `max_content_length`.
            return b""
        # If a teardown function raises, Flask before 3.2 pops the context without calling `end`.
        push = current_push(self._context())
        if push is None or push is self._last_push:
            raise RequestEnded(
                "the request has ended, and its body was not read in the view; read it there "
                "(request.form, request.get_json(), request.get_data()) and pass the data to the "
                "job"
            )
        if self._source is None:
            request: Any = self._request()
            # Only now: a view may set `request.max_content_length` first.
            self._source = type(request).stream.fget(request)
        try:
            data: bytes = getattr(self._source, method)(*([size] if size >= 0 else []))
        except BaseException as error:
            # Some data may be lost: other readers must not take the rest for the whole.
            self._failure = ClientDisconnected
            if isinstance(error, Exception):
                self._failure = partial(type(error), *error.args)
            raise
        self._is_complete = not data or (method == "read" and size < 0)
        self._kept.write(data)
        return data


def share_body(context: Any) -> None:
    """Let jobs read the body of the request of *context*, if it has one that nobody has read."""
    request = context.request
    environ = request.environ
    if environ.get("CONTENT_LENGTH") in _NO_BODY and "HTTP_TRANSFER_ENCODING" not in environ:
        return
    if _KEY in environ or _is_read(request):
        return
    if not isinstance(type(request).stream, cached_property):  # A subclass has another attribute.
        return
    request.stream = environ.setdefault(_KEY, SharedBody(request, context))


def end_bodies_with_requests(app: Flask) -> None:
    """Have every request of *app* end its shared body; a second call changes nothing."""
    request_tearing_down.connect(_end_body, app)


def _end_body(_: Flask, **__: object) -> None:
    context = request_context()
    body = None if context is None else context.request.environ.get(_KEY)
    if body is not None:
        body.end(context)


def _is_read(request: Request) -> bool:
    # Without a form's content type, Werkzeug gives an empty form and leaves the body unread.
    known = vars(request)
    return "_cached_data" in known or bool(known.get("form") or known.get("files"))
