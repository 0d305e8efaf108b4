"""The watch over an event loop: it notices a task that blocks all others."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..messages.traces import is_of_this_package
from ..threads.conditions import LightEvent
from ..threads.pool import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType


# Seconds between two looks.
_PAUSE = 0.25
# So many looks in a row at one task show that it has held the loop for more than a second. A single
# long wait would not show it: the whole process may have been stopped, for one of the pauses.
_LOOKS = 6
# Seconds that the end of a loop waits for the watch, which may be in a slow log handler.
_GRACE = 5.0

_STDLIB = f"{Path(os.__file__).parent}{os.sep}"
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class LoopWatch:
    """Notices a task that holds an event loop for more than a second.

    :param loop: the loop, which runs
    :param thread: the ident of its thread
    :param on_held: called with the task's name and the line of code that runs, as ``file:line``
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: int,
        on_held: Callable[[str, str], object],
    ) -> None:
        self._loop = loop
        self._thread = thread
        self._on_held = on_held
        # Weak, so that a task that has ended goes at once, with all that its context holds.
        self._task: weakref.ref[asyncio.Task[Any]] | None = None
        self._looks = 0  # in a row, at this task
        self._has_turned = True  # Whether the loop has gone on since the first of them.

    def look(self) -> None:
        """Compare the current task with that of the last look; not in the loop's thread.

        An idle loop is not woken.
        """
        task = asyncio.current_task(self._loop)
        if task is None:
            self._task = None
            return
        if self._has_turned or self._task is None or self._task() is not task:
            self._task, self._looks, self._has_turned = weakref.ref(task), 1, False
            self._loop.call_soon_threadsafe(self._note_turn)
            return
        self._looks += 1
        if self._looks == _LOOKS:
            name, place = _name_of(task), _place_in(self._thread)
            if not self._has_turned:  # Otherwise the place may be in another task's code.
                self._on_held(name, place)

    def _note_turn(self) -> None:
        self._has_turned = True


@contextmanager
def watched(
    loop: asyncio.AbstractEventLoop, on_held: Callable[[str, str], object]
) -> Generator[None]:
    """Have a thread watch *loop*, which runs in the calling thread, until the end of the block.

    :param on_held: as for `LoopWatch`
    """
    watch, is_over = LoopWatch(loop, threading.get_ident(), on_held), LightEvent()
    name = f"{threading.current_thread().name}-watch"
    thread = threading.Thread(target=_keep_looking, args=(watch, is_over), name=name, daemon=True)
    try:
        start_thread(thread)
    except (RuntimeError, MemoryError):  # The loop can do without.
        yield
        return
    try:
        yield
    finally:
        is_over.set()
        thread.join(_GRACE)


def _keep_looking(watch: LoopWatch, is_over: LightEvent) -> None:
    while not is_over.wait(_PAUSE):
        watch.look()


def _name_of(task: asyncio.Task[Any]) -> str:
    """The name of the job or view; of any other task, the name of its coroutine function."""
    name = task.get_name()
    if name.startswith("Task-"):  # asyncio's own, which is another one for each task
        name = getattr(task.get_coro(), "__qualname__", name)
    return name


def _place_in(thread: int) -> str:
    """The line that *thread* runs: of the app's own code, if that is on the stack."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - documented
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    if not frames:
        return "an unknown line"
    nearest = min(frames, key=_distance)  # the innermost of these
    place = f"{nearest.f_code.co_filename}:{nearest.f_lineno}"
    return place if place.isprintable() else ascii(place)


def _distance(frame: FrameType) -> int:
    path = frame.f_code.co_filename
    if any(folder in path for folder in _INSTALLED):
        return 1
    return 2 if path.startswith((_STDLIB, "<frozen ")) or is_of_this_package(frame) else 0
