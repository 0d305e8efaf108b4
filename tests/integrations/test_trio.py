"""Under Trio there is no loop of asyncio: the async calls say so, and the plain ones do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from flask_executor import Executor, NoRunningLoop
from tests.support import WAIT


async def map_async(executor: Executor) -> list[int]:
    return [each async for each in executor.map_async(abs, [1])]


async def in_a_group(executor: Executor) -> int:
    async with executor.group() as group:
        future = group.submit(int)
    return future.result()


async def submit_async(executor: Executor) -> int:
    return await executor.submit_async(int)


async def await_future(executor: Executor) -> int:
    return await executor.submit(int)


async def drain(executor: Executor) -> None:
    await executor.drain_async()


@pytest.mark.parametrize("use", [submit_async, await_future, map_async, in_a_group, drain])
def test_what_needs_asyncio_says_so(executor: Executor, use: Callable[[Executor], Any]) -> None:
    with pytest.raises(NoRunningLoop, match=r"an async def function that asyncio runs, or submit"):
        trio.run(use, executor)

    executor.drain(WAIT)


def test_a_callback_wakes_a_task_of_trios(executor: Executor) -> None:
    async def main() -> int:
        ended, token = trio.Event(), trio.lowlevel.current_trio_token()
        future = executor.submit(abs, -5)
        future.add_done_callback(lambda _: token.run_sync_soon(ended.set))
        await ended.wait()
        return future.result()

    assert trio.run(main) == 5
