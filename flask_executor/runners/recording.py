"""The recorder of one app's executor, with its store."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from ..exceptions import ExecutorClosed
from ..records.memory import MemoryStore
from ..records.recorder import Recorder

if TYPE_CHECKING:
    from ..records.store import RecordStore
    from .host import AppHost


def make_recorder(host: AppHost) -> Recorder:
    """The recorder of *host*, in this process. It connects to no database yet."""
    ref = weakref.ref(host)

    def on_begin() -> None:
        host = ref()
        if host is not None:
            with suppress(ExecutorClosed):  # The interpreter ends; jobs that are finished go on.
                host.add_exit_hook()

    return Recorder(_store_of(host), host.settings, on_begin=on_begin)


def _store_of(host: AppHost) -> RecordStore:
    return MemoryStore(host.settings.store_ttl)
