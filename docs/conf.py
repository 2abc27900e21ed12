"""Sphinx: `make docs`. The examples of all pages are run first; one that fails is a warning, and warnings fail."""

import inspect
import sys
import textwrap
from pathlib import Path

from numpydoc.docscrape_sphinx import SphinxDocString
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import nnmath_core

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import examples  # noqa: E402
import tables  # noqa: E402

project = "nnmath-core"
author = "The nnmath-core developers"
copyright = author
version = release = nnmath_core.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "mathml"]
exclude_patterns = ["_build"]
nitpicky = False
default_role = "py:obj"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # numpydoc says the types, with shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = f"nnmath-core {version}"
html_math_renderer = "mathml"
html_copy_source = False
html_sidebars = {"**": []}  # one level of pages: they all stand in the header
html_theme_options = {"show_prev_next": True, "use_edit_page_button": False, "show_toc_level": 2}


class Table(SphinxDirective):
    """``{table-of} name``: one of the tables that are made from the package."""

    required_arguments = 1

    def run(self):
        return self.parse_text_to_nodes(tables.TABLES[self.arguments[0]]())


class Documented(SphinxDirective):
    """``.. documented:: nn huber``: a public instance, with the text of its class and its signature."""

    required_arguments = 2

    def run(self):
        space, name = self.arguments
        value = getattr(getattr(nnmath_core, space), name)
        signature = inspect.signature(value)
        parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        signature = signature.replace(parameters=parameters, return_annotation=signature.empty)
        body = str(SphinxDocString(inspect.cleandoc(value.__doc__)))
        head = f".. py:function:: {name}{signature}\n   :module: nnmath_core.{space}"
        return self.parse_text_to_nodes(f"{head}\n\n{textwrap.indent(body, '   ')}")


def run_examples(app):
    for page in [HERE.parent / "README.md", *sorted(HERE.glob("**/*.md"))]:
        for failure in examples.run(page).failures:
            logging.getLogger(__name__).warning("%s", failure)


def setup(app):
    app.add_directive("table-of", Table)
    app.add_directive("documented", Documented)
    app.connect("builder-inited", run_examples)
