"""A decorated function and its options as a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..aio.functions import is_coroutine_function
from .options import NO_OPTIONS, OptionValues

if TYPE_CHECKING:
    from collections.abc import Callable


class JobFunction:
    """A function, and how it runs as a job.

    :param options: the options of each submission that does not give its own
    """

    def __init__(self, fn: Callable[..., Any], options: OptionValues = NO_OPTIONS) -> None:
        self.fn = fn
        self.job_options = options
        self.is_coroutine_function: bool = is_coroutine_function(getattr(fn, "__func__", fn))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function, here and now."""
        return self.fn(*args, **kwargs)


def gives_coroutine(fn: Callable[..., Any]) -> bool:
    """Whether a call of *fn* returns a coroutine."""
    if isinstance(fn, JobFunction):
        return fn.is_coroutine_function
    return is_coroutine_function(fn)
