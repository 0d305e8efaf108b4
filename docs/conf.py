"""How the documentation is built: `make docs`."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from docutils import nodes
from pallets_sphinx_themes import ProjectLink
from sphinx.addnodes import pending_xref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

project = "Flask-Executor"
copyright = "The Flask-Executor authors"  # noqa: A001 - as Sphinx names it
version = release = "2.0"

extensions = ["myst_parser", "pallets_sphinx_themes", "sphinx.ext.autodoc", "sphinx_copybutton"]
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    # Names of other projects, whose pages may not be at hand when ours are built.
    (
        "py:.*",
        r"(asyncio|concurrent|contextlib|contextvars|collections|datetime|flask|queue|sqlalchemy|sys)\..*",
    ),
    # Parameters are set in the same way as names.
    ("py:obj", r"[a-z_]+"),
]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.domains"]  # of the theme

# Signatures as one writes calls. The docstrings tell units, shapes and errors.
autodoc_typehints = "none"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}

html_theme = "flask"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_theme_options = {"index_sidebar_logo": False}
html_context = {
    "project_links": [
        ProjectLink("PyPI Releases", "https://pypi.org/project/Flask-Executor/"),
        ProjectLink("Source Code", "https://github.com/flask-executor/flask-executor/"),
        ProjectLink("Issue Tracker", "https://github.com/flask-executor/flask-executor/issues/"),
    ]
}
html_sidebars = {
    "index": ["project.html", "localtoc.html", "searchbox.html"],
    "**": ["localtoc.html", "relations.html", "searchbox.html"],
}
html_title = f"Flask-Executor {version}"
html_show_sourcelink = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"


# Classes whose objects users make by calling them; other objects are given to users.
MADE_BY_USERS = {"flask_executor.Executor"}
SIGNATURES = {
    "flask_executor.FutureCollection": "(max_length=50)",
    "flask_executor.Retry": (
        "(attempts, on=Exception, delay=0.1, factor=2, max_delay=60, jitter=True)"
    ),
    "flask_executor.metrics.instrument": "(executor, registry=REGISTRY, *, max_names=100)",
}


def setup(app: Sphinx) -> None:
    """Have names lead to their entries, in docstrings and in pages."""
    app.connect("source-read", read_index_entries)
    app.connect("missing-reference", find_public)
    app.connect("doctree-read", link_config_keys)
    app.connect("autodoc-process-signature", show_signature)
    app.connect("autodoc-process-docstring", list_fields)
    app.connect("html-page-context", describe)


def read_index_entries(app: Sphinx, page: str, source: list[str]) -> None:
    """Have the comment that begins a page name its entries in the index."""
    # A directive would do, but GitHub shows directives.
    source[0] = re.sub(r"\A<!-- index: (.+) -->\n\n", r"```{index} \1\n```\n", source[0])


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Have `_templates/layout.html` show search engines the first paragraph of a page."""
    first = doctree and doctree.next_node(nodes.paragraph)
    if first:
        context["description"] = escape(" ".join(first.astext().split()).rstrip(":"))


def link_config_keys(app: Sphinx, doctree: nodes.document) -> None:
    """Have each `EXECUTOR_…` of a page lead to its entry in the reference."""
    for literal in list(doctree.findall(nodes.literal)):
        key = literal.astext()
        if not re.fullmatch("EXECUTOR_[A-Z_]+", key) or any(map(is_link, parents(literal))):
            continue
        link = pending_xref(
            "", refdomain="py", reftype="data", reftarget=key, refexplicit=True, refwarn=False
        )
        literal.replace_self(link)
        link += literal


def parents(node: nodes.Node) -> Iterator[nodes.Node]:
    """The nodes that a node is in, from the innermost."""
    while node.parent is not None:
        node = node.parent
        yield node


def is_link(node: nodes.Node) -> bool:
    """Whether no other link can be in the node."""
    return isinstance(node, (nodes.reference, nodes.title, pending_xref))


def show_signature(  # noqa: PLR0917 - as Sphinx calls it
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """Leave out how to make an object that users are given, and defaults that are no literals."""
    if name in SIGNATURES:
        return SIGNATURES[name], ""
    if signature and what in {"class", "exception"} and name not in MADE_BY_USERS:
        return "", ""
    return None


def list_fields(  # noqa: PLR0917 - as Sphinx calls it
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Have each ``:param`` of a class that users only read be an entry of its own.

    The parameters of other classes are left out if users do not make their objects, or if the
    signature above does not have them.
    """
    if what not in {"class", "exception"} or name in MADE_BY_USERS:
        return
    has_fields = is_dataclass(obj) or obj.__name__ == "Progress"
    shown = re.findall(r"\w+", SIGNATURES.get(name, ""))

    def entry(found: re.Match[str]) -> str:
        if shown:
            return found[0] if found[1] in shown else ""
        meaning = " ".join(found[2].split())
        return f"\n.. py:attribute:: {found[1]}\n\n   {meaning}" if has_fields else ""

    text = re.sub(r"(?m)^:param (\w+): (.*(?:\n +.*)*)", entry, "\n".join(lines))
    lines[:] = text.split("\n")


def find_public(app: Sphinx, env: Any, node: Any, contnode: Any) -> Any:
    """A link to `Executor.submit` from a module where that is not the full name."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].replace("current_job.", "JobInfo.")
    return env.get_domain("py").resolve_xref(
        env,
        node["refdoc"],
        app.builder,
        node["reftype"],
        f"flask_executor.{target}",
        node,
        contnode,
    )
