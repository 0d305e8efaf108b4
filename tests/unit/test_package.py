"""What the package shows, which way its imports go, and what its distributions hold."""

from __future__ import annotations

import ast
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
from tests.support import ROOT

PACKAGE = ROOT / "flask_executor"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module may import at run time only what stands before it.
ORDER = [
    "exceptions",
    "messages.shown",
    "messages.traces",
    "messages.log",
    "signals",
    "settings",
    "threads.conditions",
    "threads.sync_threads",
    "context",
    "jobs.unawaited",
    "threads.fork",
    "threads.attempts",
    "threads.pool",
    "remote.call",
    "backends.processes",
    "aio.loop",
    "backends.dask",
    "backends.find",
    "runners.limits",
    "aio.streams",
    "jobs.collection",
    "stats",
    "queue.drains",
    "jobs.future",
    "futures",
    "runners.around",
    "runners.chunks",
    "runners.running",
    "runners.coroutines",
    "aio.views",
    "remote.worker",
    "backends.workers",
    "queue.admission",
    "queue.blocked",
    "queue.clock",
    "runners.closing",
    "queue.queue",
    "job",
    "runners.mapping",
    "app_executor",
    "executor",
    "testing",
    "__init__",
]


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
    if type(value) is not LocalProxy:  # which has that of what it stands for
        assert value.__doc__ != type(value).__doc__, "it has only its type's docstring"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_modules_before_it(path: Path) -> None:
    name = dotted(path)
    if path.name == "__init__.py" and path.parent != PACKAGE:
        assert runtime_imports(path.read_text("utf-8"), name) == set()
        return
    assert name in ORDER, f"say where {name} stands in ORDER"

    before = ORDER[: ORDER.index(name)]
    assert runtime_imports(path.read_text("utf-8"), name) <= set(before)


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("from . import app_executor", {"app_executor"}),
        ("from . import Executor", {"__init__"}),
        ("from .jobs.future import JobFuture", {"jobs.future"}),
        ("from .jobs import future", {"jobs.future"}),
        ("import flask_executor", {"__init__"}),
        ("import flask_executor.job as j", {"job"}),
        ("import flask_executor.aio.loop", {"aio.loop"}),
        ("from flask_executor import Executor, job", {"__init__", "job"}),
        ("from flask_executor.aio.loop import Loop", {"aio.loop"}),
        ("def f():\n    from . import job", {"job"}),
        (
            "if TYPE_CHECKING:\n    from . import job\nelse:\n    from .aio import loop",
            {"aio.loop"},
        ),
        ("if t.TYPE_CHECKING:\n    from .job import Job", set()),
        ("import flask\nfrom concurrent import futures", set()),
    ],
)
def test_imports_are_read_however_they_are_written(source: str, imported: set[str]) -> None:
    assert runtime_imports(source, "executor") == imported


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("from .loop import LoopThread", {"aio.loop"}),
        ("from . import loop", {"aio.loop"}),
        ("from ..jobs.future import JobFuture", {"jobs.future"}),
        ("from ..jobs import future", {"jobs.future"}),
        ("from .. import signals", {"signals"}),
        ("from ..exceptions import QueueFull", {"exceptions"}),
    ],
)
def test_imports_of_a_module_in_a_folder_are_read(source: str, imported: set[str]) -> None:
    assert runtime_imports(source, "aio.streams") == imported


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
    assert names == modules | {"flask_executor/py.typed"} | metadata


@pytest.mark.slow
def test_the_sdist_holds_all_that_a_packager_needs(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")

    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    texts = {"README.md", "CHANGES.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "pyproject.toml"}
    tests = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")}
    assert texts | tests <= names


def dotted(path: Path) -> str:
    """Return the name of a module inside the package, such as ``aio.loop``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def runtime_imports(source: str, name: str) -> set[str]:
    """Return the package's own modules that running *source*, the module *name*, imports."""
    reader = _ImportReader(name)
    reader.visit(ast.parse(source))
    return reader.modules


def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return project["version"]


class _ImportReader(ast.NodeVisitor):
    """Gathers imports, but for those under `if TYPE_CHECKING:`."""

    def __init__(self, name: str) -> None:
        self.modules: set[str] = set()
        self._folder = ["flask_executor", *name.split(".")[:-1]]

    def visit_If(self, node: ast.If) -> None:
        checked_only = ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in node.orelse if checked_only else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name.split("."))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._folder[: len(self._folder) - node.level + 1] if node.level else []
        base += node.module.split(".") if node.module else []
        for alias in node.names:
            self._add([*base, alias.name])

    def _add(self, parts: list[str]) -> None:
        if parts[0] != "flask_executor":
            return
        names = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
        self.modules.add(next((name for name in names if name in ORDER), "__init__"))
