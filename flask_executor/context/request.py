"""The request of the calling code, for all versions of Flask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask.globals
from flask.ctx import AppContext
from flask.globals import _cv_app

if TYPE_CHECKING:
    from contextvars import ContextVar

    from flask import Request


# Flask 3.2 merges the request context into the app context, so pushing an app context hides the
# request. Before Flask 3.2, the request has its own variable, which the push does not change.
MERGED = hasattr(AppContext, "has_request")
REQUEST_VARS: frozenset[ContextVar[Any]] = (
    frozenset() if MERGED else frozenset({flask.globals._cv_request})
)

_cv_request: ContextVar[Any] = _cv_app if MERGED else flask.globals._cv_request


def request_context() -> Any | None:
    """The context with the request of the calling code; None if there is no request."""
    context = _cv_request.get(None)
    return context if getattr(context, "has_request", True) else None


def request_or_none() -> Request | None:
    """The request of the calling code."""
    context = request_context()
    return None if context is None else context.request


def current_push(context: Any | None) -> object:
    """Identifies the push of a request context; None if the context is not pushed.

    The request ends with its last pop. A streamed response and a test client may push the context
    once more after that: then the request goes on until the next last pop.
    """
    if context is None:
        return None
    return context._cv_token if MERGED else next(iter(context._cv_tokens), None)
