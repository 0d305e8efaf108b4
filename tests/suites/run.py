"""Run the tests of other projects with Flask-Executor in place of the code that they test.

Each SUITE.toml says what is replaced and which tests fail, with the reasons. A suite fails if a
test fails that is not listed, or if a listed test passes. The tests belong to the installed version
of a package and come from its sdist, or belong to the Python that runs this script.

The exit status is 1 if a suite failed; else 75 if the tests of a suite are not there; else 0.
"""

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from suite import Suite

HERE = Path(__file__).parent
OK, FAILED, NOT_TESTED = 0, 1, 75
PYTEST = ["-p", "no:cacheprovider", "-p", "outcomes", "-p", "timeout", "--timeout=60"]


class NotThereError(Exception):
    """The tests of a suite cannot be had here."""


def main():
    paths = {path.stem: path for path in sorted(HERE.glob("*.toml"))}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"{', '.join(paths)}; all, if none is given"
    )
    chosen = parser.parse_args().suites or list(paths)
    if unknown := [name for name in chosen if name not in paths]:
        parser.error(f"{unknown[0]!r} is no suite; expected {', '.join(paths)}")
    with tempfile.TemporaryDirectory(prefix="sdists-") as sdists:
        statuses = [report(paths[name], Path(sdists)) for name in chosen]
    sys.exit(FAILED if FAILED in statuses else max(statuses))


def report(path, sdists):
    """Run the suite of the file *path*, print how it went, and return the exit status.

    :param sdists: the folder for the sdists that suites share
    """
    suite = Suite.read(path)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:
        try:
            output, outcomes = run(suite, path, Path(folder), sdists)
        except NotThereError as error:
            print(f"{suite.name}: NOT TESTED: {error}", flush=True)
            return NOT_TESTED
    complaints = list(suite.complaints(outcomes))
    if complaints:
        print(output)
    for complaint in complaints:
        print(f"{suite.name}: {complaint}")
    counts = [list(outcomes.values()).count(each) for each in ("passed", "failed", "skipped")]
    print(
        f"{suite.name}: {'FAILED' if complaints else 'ok'}:",
        "{}: {} passed, {} failed, {} skipped,".format(suite.tested, *counts),
        f"in {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return FAILED if complaints else OK


def run(suite, path, folder, sdists):
    """Run the tests in a process of their own; returns what it printed, and each test's outcome."""
    outcomes = folder / "outcomes.json"
    environment = os.environ | {
        "PYTHONPATH": str(HERE),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
        "SUITE": str(path),
        "SUITE_OUTCOMES": str(outcomes),
    }
    if suite.package:
        folder, tests = unpack(suite, folder, sdists), suite.tests
    else:
        find(suite.tests)
        tests = ["--rootdir=.", "--pyargs", *suite.tests]
    plugins = [f"-p{name}" for name in [*suite.plugins, suite.adapter]]
    # -P: a package in the sdist must not be imported instead of the installed one.
    process = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *PYTEST, *plugins, *tests],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if process.returncode not in {0, 1} or not outcomes.exists():
        sys.exit(f"{process.stdout}\n{suite.name}: pytest ended with {process.returncode}")
    return process.stdout, json.loads(outcomes.read_text(encoding="utf-8"))


def unpack(suite, folder, sdists):
    """Unpack the sdist of the installed version in *folder*, and return the folder in it."""
    requirement = suite.tested.replace(" ", "==")
    sdist = download(requirement, sdists / requirement)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


@functools.cache
def download(requirement, folder):
    """Download the sdist into *folder*, and return the file there; suites may share it."""
    options = ["--no-binary=:all:", "--no-deps", "--no-build-isolation", f"--dest={folder}"]
    process = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", *options, requirement],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if process.returncode:
        raise NotThereError(f"pip cannot download the sdist of {requirement}:\n{process.stdout}")
    [sdist] = folder.glob("*.tar.gz")
    return sdist


def find(modules):
    """Check that this Python has its tests; Debian, for one, has them in a package of their own."""
    for module in modules:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise NotThereError(f"{sys.executable} has no module {module}")


if __name__ == "__main__":
    main()
