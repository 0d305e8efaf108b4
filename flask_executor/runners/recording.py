"""The recorder of one app's executor, with the store that its settings name."""

from __future__ import annotations

import os
import uuid
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from ..exceptions import ExecutorClosed
from ..records.memory import MemoryStore
from ..records.record import host_name
from ..records.recorder import Recorder
from ..records.row import text_for_column
from ..threads.pool import run_apart

if TYPE_CHECKING:
    from ..jobs.item import WorkItem
    from ..records.store import RecordStore
    from .host import AppHost


# So many characters of the app's name tell the records of one app from those of another.
_MAX_NAME = 200


def make_recorder(host: AppHost) -> Recorder:
    """The recorder of *host*, in this process. It connects to no database yet."""
    ref = weakref.ref(host)

    def on_begin() -> None:
        host = ref()
        if host is not None:
            with suppress(ExecutorClosed):  # The interpreter ends; jobs that are finished go on.
                host.add_exit_hook()

    return Recorder(_store_of(host), host.settings, on_begin=on_begin)


def _cancel(item: WorkItem) -> None:
    # Apart: callbacks and signal receivers are code of the user's.
    run_apart(item.cancel)


def _store_of(host: AppHost) -> RecordStore:
    settings, app = host.settings, host.app
    if settings.store is None:
        return MemoryStore(settings.store_ttl)
    from ..records.shared import SharedStore  # noqa: PLC0415 - needs SQLAlchemy
    from ..records.sql import SqlDatabase  # noqa: PLC0415 - needs SQLAlchemy

    # Not the pid: another container may use the same one, and a later process, too.
    process = str(uuid.uuid4())
    name = text_for_column(app.name, _MAX_NAME)
    setting = f"{settings.prefix}STORE"
    database = SqlDatabase(
        settings.store,
        setting=setting,
        app=name,
        executor=settings.name,
        process=process,
        host=host_name(),
        pid=os.getpid(),
        ttl=settings.store_ttl,
        instance_path=app.instance_path,
    )
    return SharedStore(
        database,
        app=name,
        executor=settings.name,
        process=process,
        setting=setting,
        find_app=host.find_app,
        cancel=_cancel,
    )
