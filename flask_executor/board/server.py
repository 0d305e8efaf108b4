"""The server that the board runs under: its threads, and whether it ends."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Other servers have at least four threads.
_STREAMS = 2
_MOST_STREAMS = 4


def streams_allowed(environ: Mapping[str, Any]) -> int:
    """How many responses may be open for minutes in this process, each of which keeps a thread.

    At most half of the threads; so none where one thread answers all requests.
    """
    # asgiref's WsgiToAsgi says that it has several threads, and calls the app in one. Other than
    # servers, it sets no SERVER_SOFTWARE.
    if not environ["wsgi.multithread"] or "SERVER_SOFTWARE" not in environ:
        return 0
    threads = getattr(getattr(_server(), "cfg", None), "threads", None)  # of Gunicorn's worker
    return _STREAMS if threads is None else min(_MOST_STREAMS, threads // 2)


def is_ending() -> bool:
    """Whether the server has been told to end, and waits for open responses.

    Servers tell nobody. But Gunicorn's worker and Uvicorn's server have the signal handler as a
    method, and note its call in an attribute.
    """
    server = _server()
    return getattr(server, "alive", True) is False or getattr(server, "should_exit", False) is True


def _server() -> object:
    return getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
