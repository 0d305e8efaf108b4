"""What the package shows, which way its imports go, and what its distributions hold."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from werkzeug.local import LocalProxy

import flask_executor
from tests.rooms import BOXES, MODULES, PACKAGE, PICTURE, ROOMS, draw, imports, room_of
from tests.support import ROOT

FILES = [*PACKAGE.glob("board/static/*"), *PACKAGE.glob("board/templates/*")]


def test_all_lists_every_public_name() -> None:
    public = {
        name
        for name, value in vars(flask_executor).items()
        if not (name.startswith("_") or inspect.ismodule(value) or name == "annotations")
    }

    assert set(flask_executor.__all__) == public


@pytest.mark.parametrize("name", flask_executor.__all__)
def test_every_public_name_has_a_docstring(name: str) -> None:
    value = getattr(flask_executor, name)

    assert value.__doc__
    if not issubclass(type(value), LocalProxy):  # which has that of what it stands for
        assert value.__doc__ != type(value).__doc__, "it has only its type's docstring"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_from_its_own_room_and_those_before_it(path: Path) -> None:
    name = room_of(path)
    room = next((n for n, names in enumerate(ROOMS) if name in names), None)
    assert room is not None, f"say in ROOMS where {path.name} belongs"

    allowed = set().union(*ROOMS[: room + 1])
    wrong = [f"{path}:{line}" for line, other in imports(path) if other not in allowed]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("from . import executor", ["executor"]),
        ("from . import Executor", ["__init__"]),
        ("from .jobs.future import JobFuture", ["jobs"]),
        ("from .jobs import future", ["jobs"]),
        ("import flask_executor", ["__init__"]),
        ("import flask_executor.aio.loop", ["aio"]),
        ("from flask_executor import Executor, job", ["__init__", "job"]),
        ("def f():\n    from . import job", ["job"]),
        ("if TYPE_CHECKING:\n    from .aio import loop", ["aio"]),
        ("import flask\nfrom concurrent import futures", []),
    ],
)
def test_imports_are_read_however_they_are_written(
    tmp_path: Path, source: str, rooms: list[str]
) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)

    assert [room for _, room in imports(path, folder=())] == rooms


def test_imports_of_a_module_in_a_folder_are_read(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("from .loop import Loop\nfrom ..jobs import future\nfrom .. import signals")

    assert list(imports(path, folder=("aio",))) == [(1, "aio"), (2, "jobs"), (3, "signals")]


def test_the_picture_shows_each_room_and_the_imports_as_they_are() -> None:
    rooms = [room for box in BOXES for room in sorted(box.rooms)]

    assert sorted(rooms) == sorted(set().union(*ROOMS) - {"__init__"})
    assert PICTURE.read_text("utf-8") == draw(), "run tests/rooms.py"


def test_the_import_leaves_out_what_few_apps_need() -> None:
    code = "import sys, flask_executor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    few_need = {
        "flask_executor.records",
        "flask_executor.board",
        "flask_executor.cli",
        "flask_executor.metrics",
        "flask_executor.remote.worker",
        "sqlalchemy",
        "prometheus_client",
        "rich",
        "dask",
    }
    assert few_need.isdisjoint(done.stdout.split())


def test_jobs_without_a_key_import_no_records() -> None:
    code = """
import asyncio, sys, flask, flask_executor
executor = flask_executor.Executor(flask.Flask("app"))

async def main():
    executor.submit(int).result()
    await executor.submit_async(int)

asyncio.run(main())
print(*sys.modules)
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "flask_executor.records" not in done.stdout.split()


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both distributions: the sdist from a copy of the tree, the wheel from the sdist."""
    tmp_path = tmp_path_factory.mktemp("build")
    tree, dist = tmp_path / "tree", tmp_path / "dist"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "dist"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    return dist


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    info = f"flask_executor-{version()}.dist-info"
    modules = {path.relative_to(ROOT).as_posix() for path in MODULES}
    metadata = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")}
    metadata.add(f"{info}/entry_points.txt")
    files = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"html", "css", "js", "svg"} == {name.rpartition(".")[2] for name in files}
    assert names == modules | files | {"flask_executor/py.typed"} | metadata


@pytest.mark.slow
def test_the_sdist_holds_all_that_a_packager_needs(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")

    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    texts = {"README.md", "CHANGES.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "pyproject.toml"}
    texts |= {path.relative_to(ROOT).as_posix() for path in FILES}
    tests = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")}
    assert texts | tests <= names


def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return project["version"]
