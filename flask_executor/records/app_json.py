"""The JSON of results."""

from __future__ import annotations

import json
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from ..context.scope import Scope, current_app_or_none

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

T = TypeVar("T")


class AppJson:
    """The JSON of an app's provider, which runs in an app context of the app.

    Once the app is gone, it is the JSON of the standard library.

    :param find_app: returns the app, which this must not keep alive; None if it is gone
    """

    def __init__(self, find_app: Callable[[], Flask | None]) -> None:
        self._find_app = find_app

    def dumps(self, value: Any) -> str:
        """The JSON of *value*."""
        text: str = self.call(self._provider().dumps, value)
        return text

    def loads(self, text: str) -> Any:
        """The value whose JSON is *text*."""
        return self.call(self._provider().loads, text)

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Call *fn* in an app context, so that what it writes or reads needs no context each."""
        app = self._find_app()
        if app is None or current_app_or_none() is app:
            return fn(*args)
        return Scope(app, Context()).call(fn, *args)

    def _provider(self) -> Any:
        app = self._find_app()
        return json if app is None else app.json
