"""Flask alone, whose async views run on a loop that each request makes for itself."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask
from serving import serve
from views import add_views, more_for_async, request_in_test_client, served

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round


@contextmanager
def async_views() -> Generator[Round]:
    """Request views with no server in between."""
    yield partial(more_for_async, partial(request_in_test_client, make_app_with_views()))


@contextmanager
def served_async_views() -> Generator[Round]:
    """Request views of a server."""
    with served("stock_flask:make_app_with_views()") as request_all:
        yield partial(more_for_async, request_all)


def make_app_with_views() -> Flask:
    """Make an app."""
    return add_views(Flask(__name__))


if __name__ == "__main__":
    serve({"async-view": async_views, "async-view-served": served_async_views})
