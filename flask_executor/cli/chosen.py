"""The executor that a command is for, and the refusal of commands that cannot work."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

import click
from flask import current_app

from ..exceptions import InvalidSetting, StoreUnavailable
from ..settings import extension_key
from ..submitting.app_executor import AppExecutor
from .words import LINE, visible

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..executor import Executor
    from ..records.face import Records
    from ..settings import Settings


class Chosen(NamedTuple):
    """The executor that a command is for.

    :param app: the app's name
    :param name: the executor's name; empty for one without a name
    """

    app: str
    name: str
    records: Records

    def __str__(self) -> str:
        of = f"app {visible(self.app, LINE)}"
        return f"{of}, executor {self.name}" if self.name else of


def choose(name: str) -> Chosen:
    """The executor of the current app that has *name*.

    :raises click.UsageError: if there is none, or its records are in memory
    """
    served = _served(name)
    with_store(served.host.settings)
    return Chosen(current_app.name, name, cast("Executor", served.executor).records)


def settings_of(name: str) -> Settings:
    """The settings of the executor of the current app that has *name*.

    :raises click.UsageError: if there is none
    """
    return _served(name).host.settings


def with_store(settings: Settings) -> str:
    """The URL of the database.

    :raises click.UsageError: if the config has none
    """
    if settings.store is None:
        key = f"{settings.prefix}STORE"
        raise click.UsageError(
            f"{key} is not set, so each process keeps the records of its jobs in its own memory, "
            "where this command cannot see them; set it to the URL of a database, such as "
            f"{key} = 'sqlite:///jobs.db'"
        )
    return settings.store


@contextmanager
def telling_if_away() -> Generator[None]:
    """Turn the error of a database that does not answer into one that click shows."""
    try:
        yield
    except StoreUnavailable as error:
        raise click.ClickException(why_away(error)) from None


def why_away(error: StoreUnavailable) -> str:
    """The message of the error, and that of the database: an operator needs the reason."""
    cause = error.__cause__
    reason = cause if isinstance(cause, InvalidSetting) else getattr(cause, "orig", None)
    return f"{error}: {visible(str(reason), LINE)}" if reason else str(error)


def _served(name: str) -> AppExecutor:
    served = current_app.extensions.get(extension_key(name))
    if isinstance(served, AppExecutor):
        return served
    app = f"the app {current_app.name!r}"
    names = sorted(
        each.host.settings.name
        for each in current_app.extensions.values()
        if isinstance(each, AppExecutor)
    )
    if not names:
        raise click.UsageError(f"{app} has no executor; call executor.init_app(app)")
    wanted = f"named '{visible(name, LINE)}'" if name else "without a name"
    known = ", ".join(f"--name {each}" if each else "the one without a name" for each in names)
    raise click.UsageError(f"{app} has no executor {wanted}; choose one of: {known}")
