"""Ids of jobs: UUIDs of version 7, which sort by time and are unique across machines.

See https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7
"""

from __future__ import annotations

import os
import re

_MILLISECOND = 1_000_000  # in nanoseconds
_RANDOM_BITS = (1 << 62) - 1
# 2 ** 64 divided by the golden ratio, as in Knuth's multiplicative hashing: spreads addresses over
# all bits, although they differ by small multiples of 16.
_ODD = 0x9E3779B97F4A7C15

_process = 0  # a random number of this process


def _choose() -> None:
    global _process  # noqa: PLW0603 - a forked process needs another one
    _process = int.from_bytes(os.urandom(8))


_choose()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_choose)


def id_of(nanoseconds: int, address: int) -> str:
    """The id of a job that was submitted at *nanoseconds* after the epoch.

    :param address: distinguishes jobs that one process submits at the same time
    """
    milliseconds, rest = divmod(nanoseconds, _MILLISECOND)
    # The 12 bits after the milliseconds are the fraction of a millisecond (method 3 of the RFC).
    fraction = rest * 4096 // _MILLISECOND
    random = (_process ^ address * _ODD) & _RANDOM_BITS
    number = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: str) -> bool:
    """Whether *text* can be the id of a job."""
    return re.fullmatch(r"[0-9a-f-]{36}", text) is not None
