"""The config keys of one executor for one app, read and checked once."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from werkzeug.utils import import_string

from .exceptions import InvalidSetting
from .messages.keys import complaints
from .messages.shown import shown_number, shown_setting
from .messages.warn import warn_caller

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from flask import Flask


_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Settings:
    """The settings of one executor; a field's config key is *prefix* and its name in capitals.

    Strings, as environment variables give them, are parsed strictly.

    :param prefix: ``EXECUTOR_``, or ``<NAME>_EXECUTOR_`` for a named executor
    :param name: the executor's name
    """

    prefix: str = "EXECUTOR_"
    name: str = ""
    type: str = "thread"
    max_workers: int | None = None
    push_app_context: bool = True
    push_request_context: bool = True
    copy_g: bool | frozenset[str] = True
    futures_max_length: int | None = 50
    propagate_exceptions: bool = False
    async_views: bool = False
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    max_pending: int | None = None
    shutdown_timeout: float | None = None
    exit_on_sigterm: bool = False
    app: str | None = None
    dask_address: str | None = None
    mp_context: str | None = None
    max_tasks_per_child: int | None = None
    store: str | None = None
    store_ttl: float = 86400
    store_errors: str = "text"
    store_records: str = "stored"

    # No dataclass: making one of so many fields takes as long as importing several modules.
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"the setting {name!r} was read in init_app, and cannot be changed")

    @classmethod
    def from_app(cls, app: Flask, name: str = "") -> Settings:
        """Read the keys of the executor called *name*; an absent one gets its default.

        Warns of keys that look like misspelt ones.

        :raises InvalidSetting: if a key has a value that it cannot have
        """
        prefix = f"{name.upper()}_EXECUTOR_" if name else "EXECUTOR_"
        defaults = cls()
        values: dict[str, Any] = {}
        for attribute, parse in _PARSERS.items():
            key = prefix + attribute.upper()
            value: object = app.config.setdefault(key, getattr(defaults, attribute))
            try:
                values[attribute] = parse(value)
            except ValueError as error:
                raise InvalidSetting(f"{key} is {shown_setting(value)}; expected {error}") from None
        for complaint in complaints(list(app.config), prefix, [a.upper() for a in _PARSERS]):
            warn_caller(complaint, UserWarning)
        return cls(prefix=prefix, name=name, **values)

    def warn_if_changed(self, app: Flask) -> None:
        """Warn of each key of *app* that has another value now than `from_app` has read.

        Warn also of keys without the executor's name, if the app has no executor without a name.
        """
        for attribute, parse in _PARSERS.items():
            key, read = self.prefix + attribute.upper(), getattr(self, attribute)
            try:
                is_changed = key in app.config and parse(app.config[key]) != read
            except ValueError:
                is_changed = True
            if is_changed:
                text = f"{key} was changed after init_app, without effect; set it before init_app"
                warn_caller(text, UserWarning)
        if self.name and extension_key("") not in app.extensions:
            self._warn_of_unnamed_keys(app)

    def _warn_of_unnamed_keys(self, app: Flask) -> None:
        for attribute in map(str.upper, _PARSERS):
            if f"EXECUTOR_{attribute}" in app.config:
                text = (
                    f"EXECUTOR_{attribute} is not read by the executor {self.name!r}; its key is "
                    f"{self.prefix}{attribute}"
                )
                warn_caller(text, UserWarning)


def extension_key(name: str) -> str:
    """The key in ``app.extensions`` of the app's part of the executor called *name*."""
    return f"flask_executor.{name}"


def check_name(name: object) -> None:
    """Refuse a value that is no name of an executor.

    :raises TypeError: if *name* is no str
    :raises ValueError: if it has other characters than letters, digits and underscores
    """
    expected = (
        f"the executor's name is {shown_setting(name)}; expected only letters, digits and "
        "underscores"
    )
    if not isinstance(name, str):
        raise TypeError(expected)
    if not re.fullmatch(r"\w*", name):
        raise ValueError(expected)


def check_seconds(name: str, value: object) -> None:
    """Refuse a value that is not a number of seconds; None, for no limit, is accepted.

    :raises TypeError: if *value* is not a number
    :raises ValueError: if no thread can wait that long
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"{name} is {shown_number(value)}; expected a number of seconds, or None for no limit"
        )
    if not value <= threading.TIMEOUT_MAX:  # true of nan, too
        raise ValueError(
            f"{name} is {shown_number(value)}; expected a number of seconds, or None for no limit"
        )


def check_wait(name: str, value: object) -> None:
    """Refuse a value that is no time to wait; None is accepted.

    :raises TypeError: if *value* is not a number
    :raises ValueError: if it is below 0, or no thread can wait that long
    """
    check_seconds(name, value)
    if isinstance(value, (int, float)) and value < 0:
        raise ValueError(f"{name} is {shown_number(value)}; expected 0 seconds or more, or None")


def check_timeout(timeout: object) -> None:
    """Refuse a value that is no timeout of a job; None, for no limit, is accepted.

    :raises TypeError: if *timeout* is not a number
    :raises ValueError: if it is not above 0, or no thread can wait that long
    """
    check_seconds("timeout", timeout)
    if isinstance(timeout, (int, float)) and timeout <= 0:
        raise ValueError(
            f"timeout is {shown_number(timeout)}; expected more than 0 seconds, or None"
        )


def check_duration(name: str, value: object) -> None:
    """Refuse a value that is not a number of seconds, 0 or more; None is refused, too.

    :raises TypeError: if *value* is not a number
    :raises ValueError: if it is below 0, or no thread can wait that long
    """
    expected = f"{name} is {shown_number(value)}; expected a number of seconds, 0 or more"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(expected)
    if not 0 <= value <= threading.TIMEOUT_MAX:  # true of nan, too
        raise ValueError(expected)


def check_positive(name: str, value: object) -> None:
    """Refuse a value that is not a number above 0.

    :raises TypeError: if *value* is not a number
    :raises ValueError: if it is not above 0
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {shown_number(value)}; expected a number above 0")
    if not value > 0:  # true of nan, too
        raise ValueError(f"{name} is {shown_number(value)}; expected a number above 0")


def check_count(name: str, value: object) -> None:
    """Refuse a value that is not an int above 0.

    :raises TypeError: if *value* is not an int
    :raises ValueError: if it is below 1
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {shown_number(value)}; expected an int above 0")
    if value < 1:
        raise ValueError(f"{name} is {shown_number(value)}; expected an int above 0")


# A parser returns the value of its field, or raises ValueError with the expected values.


def _backend_name(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError("the name of a backend, such as 'thread', or an import path")


def _app_path_or_none(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ValueError(
        "where to find the app, such as 'package.module:app' or 'package.module:create_app()', "
        "or None"
    )


def _address_or_none(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ValueError("the address of a scheduler, such as 'tcp://127.0.0.1:8786', or None")


def _url_or_none(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value  # `check_url` reads it. A URL is not shown here: it may hold a password.
    raise ValueError("the URL of a database, such as 'sqlite:///jobs.db', or None")


def _start_method_or_none(value: object) -> str | None:
    if value is None:
        return None
    import multiprocessing  # noqa: PLC0415 - slow to import, and few apps need it

    methods = multiprocessing.get_all_start_methods()
    if isinstance(value, str) and value in methods:
        return value
    raise ValueError(f"one of {', '.join(map(repr, methods))}, or None for the default")


def _switch(value: object) -> bool:
    if _is_switch(value):
        return str(value).lower() in _TRUE
    raise ValueError("True or False, or a string such as 'true' or 'false'")


def _is_switch(value: object) -> bool:
    # An int, too, because Flask's `from_prefixed_env` turns the string "1" into 1.
    return isinstance(value, (bool, int, str)) and str(value).lower() in _TRUE | _FALSE


def _count_or_none(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("an int above 0, or None")


def _loop_factory_or_none(value: object) -> Any:
    if value is None:
        return None
    expected = "the import path of a loop factory, such as 'asyncio:new_event_loop', or None"
    if not isinstance(value, str) or not value:
        raise ValueError(expected)
    try:
        found: object = import_string(value)
    except ImportError as error:
        reason = getattr(error, "exception", error)  # Werkzeug's text has many lines.
        raise ValueError(f"{expected}; it cannot be imported: {reason}") from error
    if callable(found):
        return found
    raise ValueError(expected)


def _seconds_or_none(value: object) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value) if isinstance(value, str) else value
        check_seconds("", seconds)
        if isinstance(seconds, (int, float)) and seconds >= 0:
            return seconds
    except (TypeError, ValueError):
        pass
    raise ValueError("a number of seconds, 0 or more, or None for no limit")


def _seconds_above_0(value: object) -> float:
    try:
        seconds = _seconds_or_none(value)
    except ValueError:
        seconds = None
    if seconds:
        return seconds
    raise ValueError("a number of seconds above 0")


def _one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError(" or ".join(map(repr, words)))

    return parse


def _switch_or_names(value: object) -> bool | frozenset[str]:
    if _is_switch(value):
        return _switch(value)
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    if isinstance(value, (list, tuple, set, frozenset)):
        names = frozenset(name for name in value if isinstance(name, str) and name.isidentifier())
        if len(names) == len(value):
            return names
    raise ValueError(
        "True, False, or the names to carry, such as ('user', 'tenant') or 'user,tenant'"
    )


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "type": _backend_name,
    "max_workers": _count_or_none,
    "push_app_context": _switch,
    "push_request_context": _switch,
    "copy_g": _switch_or_names,
    "futures_max_length": _count_or_none,
    "propagate_exceptions": _switch,
    "async_views": _switch,
    "loop_factory": _loop_factory_or_none,
    "max_pending": _count_or_none,
    "shutdown_timeout": _seconds_or_none,
    "exit_on_sigterm": _switch,
    "app": _app_path_or_none,
    "dask_address": _address_or_none,
    "mp_context": _start_method_or_none,
    "max_tasks_per_child": _count_or_none,
    "store": _url_or_none,
    "store_ttl": _seconds_above_0,
    "store_errors": _one_of("text", "type"),
    "store_records": _one_of("stored", "all"),
}
