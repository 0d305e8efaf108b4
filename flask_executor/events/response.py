"""Jobs that start once the response to a request has been sent."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from weakref import finalize, ref

from flask.signals import (
    got_request_exception,
    request_finished,
    request_started,
    request_tearing_down,
)
from werkzeug.wsgi import ClosingIterator

from ..context.request import current_push, request_context
from ..threads.conditions import RLock
from ..threads.pool import run_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flask import Flask, Response

    from .waiting import Waiting


# The key under which a request keeps its `PendingResponse`, and an app notes that it is watched.
_KEY = "flask_executor.response"
# The key of a weak reference from a request to its context, and not to a copy of the context.
_CONTEXT_KEY = "flask_executor.context"

# The reason in the log for a job that does not start although nobody decided so. The function of a
# streamed response may have submitted it, when nothing follows the response any more.
_NO_RESPONSE = "its request ended without a response to wait for"


class PendingResponse:
    """The response that one request will be answered with, and the jobs that wait for it.

    The steps of a request, in Flask's order:

    - The view, a before_request function or an error handler raises: the jobs that wait are
      cancelled. An error handler may submit others.
    - The response is complete, after all after_request functions: it is followed to its end.
    - The request is torn down. If there is no response by then, there will be none: the jobs that
      wait are cancelled.
    - The server closes the response when it has been sent: the jobs that wait start.

    :param context: the request's context
    """

    def __init__(self, context: object) -> None:
        self._context = ref(context)  # The context refers to this object, by its request.
        self._lock = RLock()
        self._waiting: list[Waiting] = []  # guarded by _lock, as all below
        self._is_complete = False
        self._is_torn_down = False
        self._is_sent_with_teardown = False
        self._is_sent = False

    def is_for(self, context: object) -> bool:
        """Whether *context* is that of the request, and not a copy of it in another thread."""
        return self._context() is context

    def has_no_response(self) -> bool:
        """Whether the context was left without a response, so that there will be none."""
        return self._is_torn_down and not self._is_complete

    def check_open(self, *, is_over: bool) -> None:
        """Refuse a job that comes too late.

        :param is_over: whether the request has been torn down, as a thread that outlasts it finds
        :raises RuntimeError: if the response has been sent, or nothing tells when it is
        """
        if is_over and not self._is_complete:
            raise RuntimeError(
                "after='response' is too late: the request has ended; submit without 'after'"
            )
        if self._is_sent:
            raise RuntimeError(
                "after='response' is too late: the response of this request has been sent; submit "
                "without 'after'"
            )

    def add(self, waiting: Waiting) -> None:
        """Have *waiting* start once the response has been sent."""
        with self._lock:
            self._waiting.append(waiting)
            is_sent, has_no_response = self._is_sent, self.has_no_response()
        # Another thread may have ended the request since `check_open`.
        if is_sent:
            self.on_sent()
        elif has_no_response:
            self._cancel(_NO_RESPONSE)

    def waiting(self) -> list[Waiting]:
        """The jobs that wait."""
        with self._lock:
            return list(self._waiting)

    def on_raised(self) -> None:
        """Cancel the jobs that wait: they were submitted before something has raised."""
        self._cancel()

    def on_complete(self, response: Response, *, is_test: bool, has_body: bool) -> None:
        """Follow *response*, which is sent next.

        :param is_test: whether a test client may have sent the request. It does not close the
            response; there, the end of the body, or of the request, stands for that
        :param has_body: whether the body is read at all
        """
        self._is_complete = True
        followed: object = response
        if response.direct_passthrough:
            # Werkzeug hands the body itself to the server, and keeps nothing else.
            followed = ClosingIterator(response.response, self.on_sent)  # type: ignore[arg-type]
            response.response = followed
        else:
            response.call_on_close(self.on_sent)
        # Some servers and middleware do not close a response: asgiref's WsgiToAsgi drops it.
        finalize(followed, self._on_dropped).atexit = False
        if is_test and has_body and response.is_streamed:
            body: Any = response.response
            close = getattr(body, "close", None)  # Werkzeug calls it, read or not.
            response.response = ClosingIterator(_noting_end(body, self.on_sent), close)
        elif is_test:
            self._is_sent_with_teardown = True

    def on_torn_down(self) -> None:
        """Note that the request is over, but for the sending of its response."""
        self._is_torn_down = True
        if self.has_no_response():
            self._cancel(_NO_RESPONSE)
        elif self._is_sent_with_teardown:
            self.on_sent()

    def on_sent(self) -> None:
        """Start the jobs that wait."""
        self._is_sent = True
        for waiting in self._take():
            waiting.start()

    def _on_dropped(self) -> None:
        if self._waiting:
            # Apart, as a garbage collection may run where a lock is held. Without a teardown,
            # something has raised on the way to the server.
            run_apart(self.on_sent if self._is_torn_down else self.on_raised)

    def _cancel(self, why: str = "") -> None:
        for waiting in self._take():
            waiting.cancel(why)

    def _take(self) -> list[Waiting]:
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken


def pending_response() -> PendingResponse:
    """The response that the calling code's request will be answered with.

    :raises RuntimeError: outside a request, or if the request has ended
    """
    context = request_context()
    if context is None:
        raise RuntimeError(
            "after='response' needs a request, and there is none here; submit without 'after' "
            "outside a view"
        )
    _watch(context.app)
    known = vars(context.request)
    own = known.get(_CONTEXT_KEY, ref(context))() or context
    pending: PendingResponse = known.setdefault(_KEY, PendingResponse(own))
    if pending.has_no_response() and not pending.is_for(context):
        pending = known[_KEY] = PendingResponse(context)  # One of the two is a copy of the other.
    pending.check_open(is_over=current_push(context) is None)
    return pending


def refuse_to_wait(what: str, is_waited_for: Callable[[Waiting], bool]) -> None:
    """Refuse to wait for jobs that wait for the response of the calling code's request.

    Another thread that has a copy of the request's context may wait: the request goes on.

    :param what: the call that would wait
    :param is_waited_for: whether that call would wait for this job
    :raises RuntimeError: if it would wait for one of the jobs
    """
    pending, _context = _own_pending()
    for each in () if pending is None else pending.waiting():
        if is_waited_for(each):
            raise RuntimeError(
                f"{what} would never end: the job {each.item.name!r} starts after the response of "
                "this request"
            )


def _watch(app: Flask) -> None:
    """Follow the requests of *app* from now on; a second call changes nothing.

    Flask has signals for the complete response, the end of a request and exceptions that nobody
    handles. It has none for an exception that becomes a response: abort(404), or an error handler.
    All exceptions pass `Flask.handle_user_exception`, a public method to override. It is wrapped.
    """
    if _KEY in app.extensions:
        return
    request_started.connect(_on_started, app)
    request_finished.connect(_on_complete, app)
    got_request_exception.connect(_on_raised, app)
    request_tearing_down.connect(_on_torn_down, app)
    handle: Callable[..., Any] = app.handle_user_exception

    def handle_user_exception(*args: Any) -> Any:
        _on_raised(app)
        return handle(*args)

    app.handle_user_exception = handle_user_exception  # type: ignore[assignment, method-assign]
    app.extensions[_KEY] = True  # Last: of two threads that come here at once, both do it.


def _on_started(_: Flask, **__: object) -> None:
    # A thread with a copy of the context may be the first to submit, and leave the copy long before
    # the request has its response.
    context: Any = request_context()
    vars(context.request)[_CONTEXT_KEY] = ref(context)


def _on_raised(_: Flask, **__: object) -> None:
    pending, _context = _own_pending()
    if pending is not None:
        pending.on_raised()


def _on_complete(app: Flask, response: Response, **_: object) -> None:
    pending, context = _own_pending()
    if pending is not None:
        # Of other responses, Werkzeug sends no body.
        has_body = context.request.method != "HEAD" and (
            response.status_code >= HTTPStatus.OK
            and response.status_code not in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
        )
        pending.on_complete(response, is_test=app.testing, has_body=has_body)


def _on_torn_down(_: Flask, **__: object) -> None:
    pending, context = _own_pending()
    if pending is not None:
        pending.on_torn_down()
    known = {} if context is None else vars(context.request)
    if _CONTEXT_KEY in known and known[_CONTEXT_KEY]() is context:
        del known[_CONTEXT_KEY]


def _own_pending() -> tuple[PendingResponse | None, Any]:
    context = request_context()
    pending = None if context is None else vars(context.request).get(_KEY)
    return (pending if pending is not None and pending.is_for(context) else None), context


def _noting_end(body: Iterable[bytes], on_end: Callable[[], None]) -> Iterator[bytes]:
    try:
        yield from body
    finally:
        on_end()
