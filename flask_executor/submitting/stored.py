"""Submitting any function under a key: the part of `Executor` that has `submit_stored`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from ..jobs.mistakes import refuse_missing_key
from ..jobs.options import OptionValues, check_key
from .any_function import Submitter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from ..jobs.future import JobFuture

P = ParamSpec("P")
T = TypeVar("T")


class StoredSubmitter(Submitter):
    """Submits any function, and stores its future under a key."""

    __slots__ = ()

    @overload
    def submit_stored(
        self,
        key: Hashable,
        fn: Callable[P, Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> JobFuture[T]: ...

    @overload
    def submit_stored(
        self, key: Hashable, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> JobFuture[T]: ...

    @overload
    def submit_stored(
        self, /, future_key: Hashable, *, fn: Callable[..., Coroutine[Any, Any, T]], **kwargs: Any
    ) -> JobFuture[T]: ...

    @overload
    def submit_stored(
        self, /, future_key: Hashable, *, fn: Callable[..., T], **kwargs: Any
    ) -> JobFuture[T]: ...

    def submit_stored(self, /, *args: Any, **kwargs: Any) -> JobFuture[Any]:
        """Do as `submit` does, and keep the future in `futures` under a key.

        Called as ``submit_stored(key, fn, *args, **kwargs)``. As in Flask-Executor 1.0, key and
        function may also be keywords, ``future_key`` and ``fn``. If both are positional, keywords
        of these names go to the job.

        :raises DuplicateKey: if a future is stored under the key; the job does not start
        """
        given = list(args[:2])
        for name in ("future_key", "fn")[len(given) :]:
            if name not in kwargs:
                if given and callable(given[0]):
                    refuse_missing_key(given[0])
                raise TypeError(f"submit_stored() is missing the argument {name!r}")
            given.append(kwargs.pop(name))
        key, fn = given
        if callable(key) and not callable(fn):
            refuse_missing_key(key)
        check_key(key)
        return self._here().submit(fn, args[2:], kwargs, OptionValues(key=key))
