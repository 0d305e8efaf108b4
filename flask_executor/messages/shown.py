"""Values in messages and log lines: by name, type or number, and never by their contents.

Arguments, results, keys and addresses may be secret, and so may the text of an exception about
them. A name may contain anything: a newline in a name would forge a line of the log.
"""

from __future__ import annotations

import re
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


# The greatest length of a setting that is shown as it is.
_SHORT = 100

_ADDRESS = (  # Compiled at its first use: compiling takes longer than importing this module.
    r"((?:[a-z][a-z0-9+.-]*://)?)"  # scheme
    r"(?:.*@)?"  # user and password
    r"((?:\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+)(?::[0-9]+)?)"  # host and port
)


def name_of(fn: Callable[..., Any]) -> str:
    """The name of *fn* in the log, the signals and `current_job`."""
    if type(fn) is FunctionType and fn.__name__.isprintable() and fn.__name__:
        return fn.__name__  # the fast path, for nearly every job
    while isinstance(fn, partial):
        fn = fn.func
    name = getattr(fn, "__name__", None)
    if type(name) is str and name and name.isprintable():
        return name
    return _on_one_line(name if name and isinstance(name, str) else type(fn).__name__)


def kind_of(value: object) -> str:
    """The kind of *value*."""
    return "None" if value is None else f"a value of the type {_type_name(value)}"


def shown_number(value: object) -> str:
    """A number as it is, and the kind of any other value."""
    return repr(value) if type(value) in {int, float, bool} else kind_of(value)


def shown_setting(value: object) -> str:
    """A number or a short string as it is, and the kind of any other value."""
    if type(value) is str and len(value) <= _SHORT:
        return repr(value)
    return shown_number(value)


def public_address(address: str) -> str | None:
    """An address without user and password; None if they cannot be separated from the rest."""
    parts = re.fullmatch(_ADDRESS, address)
    return parts and "".join(parts.groups())


def _type_name(value: object) -> str:
    kind = type(value)
    name = kind.__qualname__
    return _on_one_line(name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}")


def _on_one_line(text: str) -> str:
    return repr(str.__str__(text))[1:-1]
