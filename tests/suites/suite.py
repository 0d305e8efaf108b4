"""The tests of one project, as its TOML file describes them."""

import importlib.metadata
import re
import sys
import tomllib
from dataclasses import dataclass, field

# A test is named without its folder: ``test_wait.py::ThreadPoolWaitTests::test_20369``.


@dataclass(kw_only=True)
class Suite:
    """The tests of one project.

    :param name: the name of the TOML file
    :param replaces: the code that Flask-Executor replaces
    :param tests: the paths in the sdist, or the names of the installed modules
    :param package: the package whose sdist has the tests; empty for tests that are installed
    :param adapter: the pytest plugin that replaces the code
    :param plugins: the pytest plugins that the tests need
    :param left_out: tests that are not run, with the reasons; ``*`` stands for any characters
    :param fails: tests that fail, with the reasons
    """

    name: str
    replaces: str
    tests: list[str]
    package: str = ""
    adapter: str
    plugins: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    fails: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path):
        return cls(name=path.stem, **tomllib.loads(path.read_text(encoding="utf-8")))

    @property
    def tested(self):
        """The project and its version."""
        if self.package:
            return f"{self.package} {importlib.metadata.version(self.package)}"
        return "CPython {}.{}.{}".format(*sys.version_info)

    def is_left_out(self, test):
        return _is_listed(test, self.left_out)

    def complaints(self, outcomes):
        """Say which tests have another outcome than the file says."""
        for test, outcome in outcomes.items():
            if outcome == "failed" and not _is_listed(test, self.fails):
                yield f"{test} failed"
            if outcome == "passed" and _is_listed(test, self.fails):
                yield f"{test} passed; remove it from [fails] in {self.name}.toml"


def _is_listed(test, patterns):
    return any(re.fullmatch(".*".join(map(re.escape, each.split("*"))), test) for each in patterns)
