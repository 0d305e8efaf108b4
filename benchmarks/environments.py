"""The virtual environments that the sides run in: each has its own, made when it is first used."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from importlib.metadata import requires, version
from pathlib import Path

ROOT = Path(__file__).parent.parent

# The same for all sides that have them: those that the tests run with.
FLASK = f"Flask[async]=={version('flask')}"
ASGIREF = f"asgiref=={version('asgiref')}"
GUNICORN = f"gunicorn=={version('gunicorn')}"
REDIS = "redis[hiredis]==8.1.0"

# What pip installs for a side; the name is that of its script in sides/.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    # What the package requires is here so that the environment is made anew when that changes.
    "ours": (f"--editable={ROOT}", *(requires("Flask-Executor") or ()), FLASK, ASGIREF, GUNICORN),
    "parts": (FLASK, ASGIREF),
    "pool": (FLASK, ASGIREF),
    "flask_executor_1": ("Flask-Executor==1.0.0", FLASK, ASGIREF),
    "to_thread": (FLASK, ASGIREF),
    "asgiref_sync": (FLASK, ASGIREF),
    "anyio_threads": ("anyio==4.*", FLASK, ASGIREF),
    "stock_flask": (FLASK, ASGIREF, GUNICORN),
    "rq_jobs": ("rq==3.0.0", REDIS),
    "celery_jobs": ("celery[redis]==5.7.0", "hiredis"),
    "dramatiq_jobs": ("dramatiq[redis]==2.2.1", "hiredis"),
    "huey_jobs": ("huey==3.5.4", REDIS),
    # SAQ imports typing_extensions, and does not require it.
    "saq_jobs": ("saq[redis,hiredis]==0.26.4", "typing_extensions"),
}

VERSIONS = """
import json
from importlib.metadata import distributions
print(json.dumps({each.name: each.version for each in distributions()}))
"""


def python_of(side: str) -> Path:
    """Find the Python of a side's environment, which is made unless it is there as required."""
    # Named as the other environments are, so that git ignores it and `make clean` removes it.
    path = ROOT / f".venv-bench-{side}-{sys.implementation.cache_tag}"
    python = path / "bin" / "python"
    made = path / "made"
    requirements = "\n".join(REQUIREMENTS[side])
    if not made.exists() or made.read_text("utf-8") != requirements:
        print(f"Making {path.name}", file=sys.stderr)
        venv.create(path, clear=True, symlinks=True)
        # This environment's pip does it, as making one in each would take longer than all the rest.
        pip = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check"]
        install = ["--python", str(python), "install", *REQUIREMENTS[side]]
        subprocess.run([*pip, *install], check=True)
        made.write_text(requirements, "utf-8")
    return python


def versions_in(side: str) -> dict[str, str]:
    """List the packages in a side's environment, with their versions."""
    versions = json.loads(subprocess.check_output([python_of(side), "-E", "-c", VERSIONS]))
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))
