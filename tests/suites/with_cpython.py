"""Replaces the pools in CPython's tests of concurrent.futures."""

import multiprocessing
import re

from stand_ins import replace_pools
from test.support import script_helper

# Some tests run scripts in processes of their own.
_HEAD = "import sys; sys.path.insert(0, {path!r}); import stand_ins; stand_ins.replace_pools()\n"
_assert_python_ok = script_helper.assert_python_ok


def _with_stand_ins(*arguments, **environment):
    *options, script = arguments
    # The scripts import a pool by the name of the class that the tests got.
    script = re.sub(r"\b(Thread|Process)StandIn\b", r"\1PoolExecutor", script)
    return _assert_python_ok(*options, _HEAD.format(path=_HERE) + script, **environment)


_HERE = __file__.rpartition("/")[0]
script_helper.assert_python_ok = _with_stand_ins
# The processes of a pool start faster from a server that has imported Flask.
multiprocessing.set_forkserver_preload(["stand_ins"])
replace_pools()
