"""How Sphinx builds the site of this folder: ``make docs``. Nothing is fetched from a network."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

from upicker import __version__

project = "UPicker"
author = copyright = "The UPicker developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
source_suffix = {".md": "markdown"}
nitpicky = True  # a name that leads nowhere is an error under -W, as `make docs` has it

# Headings have the anchors that GitHub gives them, so that one link works in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

default_role = "literal"  # `this` in docstrings
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # types stand in the docstrings, in words
autodoc_member_order = "bysource"
autosummary_generate = False  # numpydoc loads it; the pages say themselves what is documented
numpydoc_show_class_members = False

highlight_language = "bash"  # blocks without a language are commands

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"UPicker {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False

# Files beside this folder that are pages of the site, too: each is included by the page that is named here.
PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/RESULTS.md": "all-results.md",
}
ROOT = Path(__file__).resolve().parents[1]


def retargeted(text: str, folder: Path) -> str:
    """Return a text of some folder with its relative links as the site has them, where all pages lie in one folder."""

    def replace(found: re.Match[str]) -> str:
        path = (folder / found[2]).resolve()
        inside = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        return found[1] + PAGES.get(inside, inside.removeprefix("docs/") if inside.startswith("docs/") else found[2])

    return re.sub(r"(\]\()(?!\w+:|#)([^)#\s]+)", replace, text)


def formula(translator: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw by themselves: MathJax would be fetched from a network."""
    block = isinstance(node, nodes.math_block)
    translator.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Let links work on the site as they do in the repository, and formulas without a network."""
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))

    def of_page(app: Any, page: str, content: list[str]) -> None:
        content[0] = retargeted(content[0], Path(__file__).parent)

    def of_included(app: Any, path: Path, page: str, content: list[str]) -> None:
        content[0] = retargeted(content[0], (Path(app.srcdir) / path).parent)

    app.connect("source-read", of_page)
    app.connect("include-read", of_included)
