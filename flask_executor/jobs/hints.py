"""Notes about mistakes that the exception of a failed job does not name.

A hint is added with `BaseException.add_note`, so that it is shown wherever the traceback is shown.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import FileStorage

from ..context.request import request_or_none
from ..context.scope import is_g

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Applies = Callable[[BaseException, tuple[Any, ...], dict[str, Any]], bool]


def add_hints(
    error: BaseException,
    hints: Iterable[tuple[Applies, str]],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> None:
    """Add those of *hints* that apply to *error*, which a job with these arguments raised.

    It is called in the job's app context.

    :param hints: `HINTS_HERE`, or in another process `HINTS_IN_WORKER`
    """
    for applies, hint in hints:
        if applies(error, args, kwargs or {}) and hint not in getattr(error, "__notes__", ()):
            error.add_note(hint)


# Predicates ask for exact types: other exceptions may refuse notes, or raise when they are shown.
def _reads_closed_upload(
    error: BaseException, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    if type(error) is not ValueError or "closed file" not in str(error):
        return False
    items = chain.from_iterable(each for each in args if type(each) is tuple)  # of a chunk
    request = request_or_none()
    files = {} if request is None else vars(request).get("files", {})
    return any(map(_is_closed_upload, (*args, *items, *kwargs.values(), *files.values())))


def _is_closed_upload(value: object) -> bool:
    return isinstance(value, FileStorage) and bool(getattr(value.stream, "closed", False))


def _misses_context(error: BaseException, *_: object) -> bool:
    if type(error) is RuntimeError:
        return str(error).startswith("Working outside of request context")
    return _misses_name_of_g(error)


def _misses_name_of_g(error: BaseException, *_: object) -> bool:
    return type(error) is AttributeError and is_g(error.obj)


_CLOSED_UPLOAD = (
    "the upload was closed with its request; read it in the view and pass the data: "
    "submit(fn, file.read())"
)
_NOT_COPIED = (
    "a job's g starts with names of its submitter's g: those that EXECUTOR_COPY_G lists, or by "
    "default those that do not begin with an underscore"
)
_NO_CONTEXT = (
    "request, session, g and contextvars do not travel to another process; pass the values that "
    "the job needs as its arguments"
)

HINTS_HERE: tuple[tuple[Applies, str], ...] = (
    (_reads_closed_upload, _CLOSED_UPLOAD),
    (_misses_name_of_g, _NOT_COPIED),
)
HINTS_IN_WORKER: tuple[tuple[Applies, str], ...] = ((_misses_context, _NO_CONTEXT),)
