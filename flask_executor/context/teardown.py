"""The end of a job's app context where an event loop runs."""

from __future__ import annotations

import asyncio
import threading
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask
    from flask.ctx import AppContext


def pop_on_loop(app_context: AppContext, exc: BaseException | None) -> None:
    """Leave *app_context* in the thread of a running loop; its teardown functions get *exc*.

    There Flask cannot call async functions. So asyncio sees no running loop meanwhile, and async
    teardown functions run on another loop. The running loop waits for them, as it does for plain
    ones.
    """
    loop = asyncio.get_running_loop()
    if not has_async_teardown(app_context.app) or _is_elsewhere(loop):
        app_context.pop(exc)
        return
    asyncio._set_running_loop(None)
    try:
        app_context.pop(exc)
    finally:
        asyncio._set_running_loop(loop)


def has_async_teardown(app: Flask) -> bool:
    """Whether *app* has async functions that its app contexts end with."""
    return any(map(iscoroutinefunction, app.teardown_appcontext_funcs))


def _is_elsewhere(loop: asyncio.AbstractEventLoop) -> bool:
    # asyncio shows the loop of one greenlet to all greenlets of the thread.
    return getattr(loop, "_thread_id", None) not in {None, threading.get_ident()}
