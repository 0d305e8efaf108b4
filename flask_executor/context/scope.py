"""The contexts that a job takes along and runs in."""

from __future__ import annotations

import sys
from asyncio import _get_running_loop
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from flask.ctx import _AppCtxGlobals
from flask.globals import _cv_app
from flask.signals import appcontext_popped, appcontext_tearing_down
from werkzeug.local import LocalProxy

from ..exceptions import NotInitialised
from ..messages.log import log_failure
from ..threads.sync_threads import (
    CONTEXT_THREAD,
    IN_PROCESS_THREAD,
    WAITING_THREAD,
    leave_threads_of_submitter,
)
from .body import share_body
from .request import MERGED, REQUEST_VARS, request_context
from .teardown import pop_on_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextvars import ContextVar

    from flask import Flask, Request
    from flask.ctx import AppContext

    from ..settings import Settings


T = TypeVar("T")


class Scope:
    """The contextvars and the app context that one job runs in.

    The job runs in its own copy of the caller's contextvars, and there in its own app context with
    its own ``g``. Without *app* the scope is bare: it has no Flask context at all.

    :param context: the contextvars; the app context is in them between `push` and `pop`
    :param g_values: the values that ``g`` starts with
    :param request: the request, session and URL adapter to carry, if the contextvars do not
    :param of_request: the request that the caller serves, if the job sees it
    """

    __slots__ = ("_app", "_g_values", "_pushed", "_request", "context", "of_request")

    def __init__(
        self,
        app: Flask | None,
        context: Context,
        g_values: dict[str, Any] | None = None,
        request: dict[str, Any] | None = None,
        of_request: Request | None = None,
    ) -> None:
        self._app = app
        self.context: Context = context
        self.of_request: Request | None = of_request
        self._g_values = g_values
        self._request = request
        self._pushed: AppContext | None = None

    def copy(self) -> Scope:
        """A new scope that starts as this one did, for another piece of code."""
        context = self.context.copy()
        return Scope(self._app, context, self._g_values, self._request, self.of_request)

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Call *fn* in the contextvars and in an app context, which ends with the call."""
        return self.context.run(self._call_in_app_context, fn, args)

    def push(self) -> None:
        """Enter a new app context in the current contextvars."""
        if CONTEXT_THREAD.get(None):  # of a view, or of the last job in these contextvars
            leave_threads_of_submitter()
        if self._app is None:
            return
        app_context = self._app.app_context()
        if self._g_values:
            vars(app_context.g).update(self._g_values)
        app_context.push()
        self._pushed = app_context
        if self._request:
            vars(app_context).update(self._request)

    def pop(self, exc: BaseException | None) -> None:
        """Leave the app context: teardown functions get *exc*, and their own errors are logged."""
        app_context, self._pushed = self._pushed, None
        if app_context is None:
            return
        if self._request:
            # The request is the view's: this context must not tear it down or close its uploads.
            vars(app_context).update(dict.fromkeys(self._request))
        try:
            if _get_running_loop() is None:  # the usual case, and a call into C only
                app_context.pop(exc)
            else:
                pop_on_loop(app_context, exc)
        except BaseException as error:  # the job has ended; its outcome stands
            # Log handlers see the app context and the request again, although teardown is over.
            token = _cv_app.set(app_context)
            vars(app_context).update(self._request or {})
            try:
                log_failure(app_context.app, error, "A teardown function raised after a job")
            finally:
                _cv_app.reset(token)

    def has_teardown(self) -> bool:
        """Whether leaving the app context calls teardown functions or signal receivers."""
        return self._app is not None and bool(
            self._app.teardown_appcontext_funcs
            or appcontext_tearing_down.receivers
            or appcontext_popped.receivers
        )

    def is_current(self) -> bool:
        """Whether the calling code runs in this app context; False for a bare scope."""
        return self._pushed is not None and _cv_app.get(None) is self._pushed

    def _call_in_app_context(self, fn: Callable[..., T], args: tuple[Any, ...]) -> T:
        self.push()
        try:
            return fn(*args)
        finally:
            self.pop(sys.exc_info()[1])


def unwrap(app: Flask) -> Flask:
    """The app itself; *app* may be ``current_app``, which is another app in another context."""
    return app._get_current_object() if isinstance(app, LocalProxy) else app


def is_g(value: object) -> bool:
    """Whether *value* is the ``g`` of an app context."""
    return isinstance(value, _AppCtxGlobals)


def current_app_or_none() -> Flask | None:
    """The app whose context the caller is in."""
    app_context = _cv_app.get(None)
    return None if app_context is None else app_context.app


def only_app(apps: Collection[Flask]) -> Flask:
    """The only app of *apps*, which an executor serves.

    :raises NotInitialised: if there is none, or there are several
    """
    if len(apps) == 1:
        [app] = apps
        return app
    if not apps:
        raise NotInitialised(
            "the executor has no app yet; call executor.init_app(app), or make it with "
            "Executor(app)"
        )
    names = ", ".join(sorted(repr(app.name) for app in apps))
    raise NotInitialised(
        f"the executor serves several apps ({names}) and there is no app context to tell which "
        "one is meant; use it inside 'with app.app_context():'"
    )


def capture(app: Flask, settings: Settings) -> Scope:
    """Copy the caller's contexts for a job of *app*, as *settings* say."""
    with_request = settings.push_request_context
    served = request_context() if with_request else None
    if not settings.push_app_context:
        context = _copy_context_without(REQUEST_VARS | {_cv_app})
    elif with_request:
        if served is not None:
            share_body(served)
        context = copy_context()
    else:
        context = _copy_context_without(REQUEST_VARS)
    if WAITING_THREAD.get(None) or IN_PROCESS_THREAD.get(None):  # few submitters have one
        context.run(leave_threads_of_submitter)
    if not settings.push_app_context:
        return Scope(None, context)
    return Scope(
        app,
        context,
        _g_values(app, settings.copy_g),
        _merged_request(served) if MERGED and served is not None else None,
        None if served is None else served.request,
    )


def _g_values(app: Flask, copy_g: bool | frozenset[str]) -> dict[str, Any] | None:
    app_context = _cv_app.get(None)
    if not copy_g or app_context is None or app_context.app is not app:
        return None
    values = vars(app_context.g)
    if not values:
        return None
    if copy_g is True:
        values = values.copy()  # in one step: another thread may change the same `g`
        for name in tuple(values):
            if name[:1] == "_":  # An extension's own state: a session, a locale, a user.
                del values[name]
        return values
    return {name: values[name] for name in copy_g if name in values}


def _merged_request(context: Any) -> dict[str, Any]:
    # AppContext.request and .session are read-only, so carry the attributes behind them.
    return {name: getattr(context, name) for name in ("_request", "_session", "url_adapter")}


def _copy_context_without(hidden: frozenset[ContextVar[Any]]) -> Context:
    # A copy cannot unset a variable, so set the other variables in an empty context.
    context = Context()
    for var, value in copy_context().items():
        if var not in hidden:
            context.run(var.set, value)
    return context
