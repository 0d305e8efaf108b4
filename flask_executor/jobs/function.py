"""A decorated function and its options as a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..aio.functions import is_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Callable


class JobFunction:
    """A function, and how it runs as a job.

    :param timeout: seconds that the function may run; None for no limit
    """

    def __init__(self, fn: Callable[..., Any], *, timeout: float | None = None) -> None:
        self.fn = fn
        self.timeout = timeout
        self.is_coroutine_function: bool = is_coroutine_function(fn)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function, here and now."""
        return self.fn(*args, **kwargs)


def gives_coroutine(fn: Callable[..., Any]) -> bool:
    """Whether a call of *fn* returns a coroutine."""
    if isinstance(fn, JobFunction):
        return fn.is_coroutine_function
    return is_coroutine_function(fn)
