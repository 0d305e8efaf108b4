"""The rights of users of the board, and the check that a user meant a request."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from flask import current_app, request, session

from ..messages.shown import kind_of, shown_setting
from .problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    Authorize = Callable[[], Any]

_SESSION_KEY = "_flask_executor_board"
HEADER = "X-CSRF-Token"
FIELD = "csrf_token"


def check_authorize(authorize: object) -> None:
    """Refuse a value that cannot be called.

    :raises TypeError: if *authorize* is neither a function nor None
    """
    if not (authorize is None or callable(authorize)):
        raise TypeError(
            f"authorize is {kind_of(authorize)}; expected a function without arguments that "
            "returns True, False or 'read'"
        )


def access_of(authorize: Authorize | None) -> Literal["all", "read"]:
    """The rights of the user of the current request: "all", or only "read".

    :param authorize: a function, or a coroutine function; None for all in debug mode
    :raises Problem: if the user may not see the jobs
    :raises TypeError: if *authorize* returns something else than True, False or "read"
    """
    if authorize is None:
        if current_app.debug:
            return "all"
        raise Problem(
            403,
            "Nobody may see this page yet",
            "Outside of debug mode it needs a function that says who may: "
            "board(executor, authorize=…).",
        )
    answer = current_app.ensure_sync(authorize)()
    if answer is True:
        return "all"
    if answer == "read" and isinstance(answer, str):
        return "read"
    if answer is False:
        raise Problem(403, "You may not see this page", "Ask those who run the app.")
    raise TypeError(
        f"authorize returned {shown_setting(answer)}; expected True, False or 'read'. bool(…) "
        "makes True or False of a value"
    )


def csrf_token() -> str:
    """The token of this session, which no other session has; empty without a secret key.

    It is made at the first call.
    """
    if not current_app.secret_key:
        return ""
    token = session.get(_SESSION_KEY)
    if not isinstance(token, str):
        token = session[_SESSION_KEY] = secrets.token_urlsafe(32)
    return token


def check_action() -> None:
    """Refuse a request that changes something, unless a page of this app and session sent it.

    :raises Problem: if the token is missing or wrong, or another site sent the request
    """
    if not _is_same_origin():
        raise Problem(
            403, "Another site sent this request", "Go to the page of the job, and try it there."
        )
    if not current_app.secret_key:
        raise Problem(
            400, "Nothing can be changed here", "The app has no SECRET_KEY, so it has no sessions."
        )
    expected = session.get(_SESSION_KEY)
    given = request.headers.get(HEADER) or request.form.get(FIELD, "")
    if not isinstance(expected, str) or not hmac.compare_digest(given.encode(), expected.encode()):
        raise Problem(
            400,
            "The request has no valid token",
            f"The page is from another session: reload it, and try again. A program sends the "
            f"token in the header {HEADER}, with the cookie of its session.",
        )


def _is_same_origin() -> bool:
    """Whether a page of this host sent the request; true if its client does not say.

    Browsers leave out ``Sec-Fetch-Site`` if the page came by HTTP. A proxy may speak HTTP with this
    server for a page that came by HTTPS, so the scheme is not compared.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host
