"""Replaces the pools of APScheduler."""

import multiprocessing

from stand_ins import ProcessStandIn, replace_pools


class _ForkedStandIn(ProcessStandIn):
    """It forks its processes.

    The tests give a job one second to start; a new interpreter may take longer to import Flask.
    """

    def __init__(self, max_workers=None, mp_context=None):
        super().__init__(max_workers, multiprocessing.get_context("fork"))


replace_pools(process=_ForkedStandIn)
