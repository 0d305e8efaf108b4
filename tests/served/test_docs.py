"""The examples of README.md and docs/ work, their links lead somewhere, their tables are true."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_overloads
from unittest import mock

import pytest
from flask import Flask, request, request_started

import flask_executor
from flask_executor import Executor, exceptions, signals, testing
from flask_executor.settings import Settings
from tests.support import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
# There jobs, callbacks or teardown functions fail on purpose, and the log is to say so.
PAGES_THAT_LOG_ERRORS = {"context.md", "errors.md"}

RunPage = Callable[[Path], dict[str, Any]]

CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


@dataclass
class Block:
    """A fenced block of code, and the line of its page that it begins after."""

    page: Path
    line: int
    language: str
    source: str

    def run(self, namespace: dict[str, Any]) -> None:
        if self.language == "pycon":
            self._run_session(namespace)
        else:
            # With the lines before it, a traceback shows the line of the page.
            code = compile("\n" * self.line + self.source, self.page, "exec", dont_inherit=True)
            exec(code, namespace)

    def _run_session(self, namespace: dict[str, Any]) -> None:
        session = doctest.DocTestParser().get_doctest(
            self.source, {}, self.page.name, str(self.page), self.line
        )
        session.globs = namespace
        report: list[str] = []
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
        results = runner.run(session, out=report.append, clear_globs=False)
        assert results.attempted, "a pycon block without >>>"
        assert not results.failed, "".join(report)


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Flask]]:
    """Collect the apps that get an executor, and in the end close what they have opened."""
    apps, executors = [], []
    init_app = Executor.init_app

    def recording_init_app(executor: Executor, app: Flask) -> None:
        apps.append(app)
        executors.append(executor)
        init_app(executor, app)

    monkeypatch.setattr(Executor, "init_app", recording_init_app)
    yield apps
    for executor in executors:
        executor.shutdown()
    for app in apps:
        if "sqlalchemy" in app.extensions:
            with app.app_context():
                app.extensions["sqlalchemy"].engine.dispose()


@pytest.fixture
def run_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, apps: list[Flask]
) -> Iterator[RunPage]:
    """Run the blocks of a page one after the other, as a module, and return its namespace."""

    def run(page: Path) -> dict[str, Any]:
        context = copy_context()
        module = ModuleType("page_" + re.sub(r"\W", "_", page.stem))
        module.__file__ = str(page)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        # Worker processes import it.
        code = [block.source for block in blocks(page) if block.language == "python"]
        (tmp_path / f"{module.__name__}.py").write_text("\n".join(code), "utf-8")
        for block in blocks(page):
            if block.language in {"python", "pycon"}:
                context.run(block.run, vars(module))
            for app in apps:
                # A page calls its app as it goes; in a module of its own, all views come first.
                app._got_first_request = False
        return vars(module)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with mock.patch.dict(os.environ):
        yield run


@pytest.fixture
def called_views() -> Iterator[set[tuple[Flask, str]]]:
    """Collect the views that requests are dispatched to."""
    called = set()

    def record(app: Flask) -> None:
        called.add((app, request.endpoint))

    with request_started.connected_to(record):
        yield called


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_work(
    page: Path,
    run_page: RunPage,
    apps: list[Flask],
    called_views: set[tuple[Flask, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    namespace = run_page(page)
    for name in [name for name in namespace if name.startswith("test_")]:
        namespace[name]()

    views = {(app, view) for app in apps for view in app.view_functions if view != "static"}
    assert views <= called_views, "there are views that no example calls"
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert bool(errors) == (page.name in PAGES_THAT_LOG_ERRORS), errors


@pytest.mark.slow
def test_the_testing_page_works_as_a_module_of_tests(tmp_path: Path) -> None:
    page = tmp_path / "test_page.py"
    source = "\n".join(b.source for b in blocks(DOCS / "testing.md") if b.language == "python")
    test = "def test_fails(): create_app().test_client().post('/signup/ada')"
    page.write_text(f"{source}\n\n{test}\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:randomly", page.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    [error] = re.findall("^ERROR .*", done.stdout, re.MULTILINE)
    assert error.startswith("ERROR test_page.py::test_fails - ValueError")
    assert "FAILED" not in done.stdout
    assert "1 job failed and nobody asked for its outcome: send_welcome" in done.stdout


def test_the_asgi_app_of_the_deployment_page_ends_after_its_jobs(run_page: RunPage) -> None:
    namespace = run_page(DOCS / "deployment.md")
    gate = threading.Event()
    future = namespace["executor"].submit(gate.wait)

    async def serve() -> list[str]:
        received, sent = asyncio.Queue(), asyncio.Queue()
        app = asyncio.create_task(namespace["asgi"]({"type": "lifespan"}, received.get, sent.put))
        received.put_nowait({"type": "lifespan.startup"})
        first = await sent.get()
        received.put_nowait({"type": "lifespan.shutdown"})
        for _ in range(10):
            await asyncio.sleep(0)
        assert sent.empty()
        gate.set()
        await app
        return [first["type"], sent.get_nowait()["type"]]

    try:
        assert asyncio.run(serve()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert future.done()
    finally:
        gate.set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_its_language(page: Path) -> None:
    languages = {block.language for block in blocks(page)}

    assert languages <= {"python", "pycon", "sh", "js", "ini", "text"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(prose(page)) if "://" not in link]

    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize(
    "contents", [ROOT / "README.md", DOCS / "index.md"], ids=["README", "index"]
)
def test_every_page_is_in_the_contents(contents: Path) -> None:
    linked = {(contents.parent / link).resolve() for link in LINK.findall(prose(contents))}

    assert set(DOCS.glob("*.md")) - {DOCS / "index.md"} <= linked


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", DOCS / "configuration.md"], ids=lambda p: p.name
)
def test_the_config_table_has_every_key_with_its_default(page: Path) -> None:
    rows = re.findall(r"^\| `(EXECUTOR_\w+)` \| `([^`]+)` \|", prose(page), re.MULTILINE)
    keys = [name for name in Settings.__annotations__ if name not in {"prefix", "name"}]

    assert [(key, ast.literal_eval(default)) for key, default in rows] == [
        (f"EXECUTOR_{key.upper()}", getattr(Settings, key)) for key in keys
    ]


def test_the_table_of_errors_has_every_class_with_its_builtin_base() -> None:
    row = re.compile(r"^\| `([A-Z]\w+)` \| `(?:queue\.)?(\w+)`[,\w` ]* \|", re.MULTILINE)
    classes = [getattr(exceptions, name) for name in exceptions.__all__]

    assert dict(row.findall(prose(DOCS / "errors.md"))) == {
        each.__name__: each.__bases__[1].__name__
        for each in classes
        if each is not exceptions.FlaskExecutorError
    }


def test_the_table_of_signals_has_every_signal() -> None:
    rows = re.findall(r"^\| `(job_\w+)` \|", prose(DOCS / "errors.md"), re.MULTILINE)

    assert sorted(rows) == sorted(signals.__all__)


@pytest.mark.parametrize("name", [*flask_executor.__all__, *testing.__all__])
def test_the_api_page_has_every_public_name(name: str) -> None:
    assert re.search(rf"`{name}\b", prose(DOCS / "api.md"))


def test_the_page_of_the_benchmarks_says_what_the_results_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    page = importlib.import_module("page")

    text = page.render()

    assert (DOCS / "benchmarks.md").read_text("utf-8") == text, "run benchmarks/page.py"
    shown = set(re.findall(r"\(images/(benchmarks-.+)\)", text))
    assert shown == {path.name for path in (DOCS / "images").glob("benchmarks-*")}


@pytest.mark.parametrize("cls", ["Executor", "Options", "Job", "FutureCollection"])
def test_the_api_page_has_every_method_as_it_is_called(cls: str) -> None:
    text = prose(DOCS / "api.md")
    methods = inspect.getmembers(getattr(flask_executor, cls), inspect.isfunction)

    missing = [
        name
        for name, method in methods
        if not name.startswith("_")
        # Or as one of its overloads is called, where they have no parameters in common.
        and not any(
            f".{name}{parameters(each)}`" in text for each in (method, *get_overloads(method))
        )
    ]
    assert not missing


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(page, text.count("\n", 0, match.start(2)), match[1], match[2])
        for match in CODE.finditer(text)
    ]


def prose(page: Path) -> str:
    """Return the text of a page but for its blocks of code."""
    return CODE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of the headings, for links to lead to."""
    headings = (heading.lower() for heading in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def parameters(method: Any) -> str:
    """Return the parameters as one writes them, without self and annotations."""
    signature = inspect.signature(method)
    plain = [each.replace(annotation=each.empty) for each in signature.parameters.values()][1:]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty))
