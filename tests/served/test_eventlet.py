"""Under eventlet: a greenlet is not blamed for the event loop of another one."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

import pytest

from tests.support import ROOT, WAIT

PREPARATION = """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is deprecated.
        import eventlet

        eventlet.monkey_patch()

    import asyncio
    import threading
    import time

    from flask import Flask

    from flask_executor import Executor, NoRunningLoop

    executor = Executor(Flask("app"))
"""


def run(program: str, hub: str | None = None) -> str:
    """Run *program* in a process of its own, where warnings are errors, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(PREPARATION) + dedent(program)],
        cwd=ROOT,
        env=os.environ | ({"EVENTLET_HUB": hub} if hub else {}),
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("hub", ["poll", "asyncio"])
def test_a_greenlet_waits_for_jobs(hub: str) -> None:
    # The hub that is made of asyncio is a loop, which runs for as long as the process.
    program = """
        print(executor.submit(pow, 2, 3).result(60), list(executor.map(abs, [-1, -2])))
        executor.submit(time.sleep, 0.01).exception(60)
        executor.drain(60)
    """

    assert run(program, hub) == "8 [1, 2]\n"


def test_a_greenlet_waits_for_jobs_while_another_runs_a_loop() -> None:
    program = """
        async def main():
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            threading.Thread(target=wait_for_jobs, args=(loop, ended)).start()
            await ended.wait()
            return await executor.submit_async(pow, 2, 4)

        def wait_for_jobs(loop, ended):
            executor.submit(time.sleep, 0.01).result(60)
            try:
                executor.submit_async(int)
            except NoRunningLoop:
                print("no loop of its own")
            loop.call_soon_threadsafe(ended.set)

        print(asyncio.run(main()))
    """

    assert run(program) == "no loop of its own\n16\n"


def test_who_blocks_the_loop_of_his_own_greenlet_is_still_warned() -> None:
    program = """
        async def main():
            try:
                executor.submit(time.sleep, 0.01).result(60)
            except RuntimeWarning as warning:
                print(warning)

        asyncio.run(main())
    """

    assert run(program).startswith("result() blocks the event loop of this thread")
