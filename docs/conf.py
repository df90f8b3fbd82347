"""Settings of ``make docs``: Sphinx reads docs/, the docstrings and the notebook."""

import re

import gymnasium as gym

from dig_env.scenes.version import __version__

project = "dig-env"
author = "the dig-env authors"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["results"]
nb_execution_mode = "off"  # tests/test_examples.py runs the notebook and compares its outputs
myst_heading_anchors = 4
default_role = "code"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"dig-env {version}"
html_copy_source = False
html_show_sourcelink = False


def cut_pages(app, what, name, obj, options, lines):
    """Of an environment's docstring, which is a page of its own in Markdown, keep the beginning."""
    page = isinstance(obj, type) and issubclass(obj, (gym.Env, gym.Wrapper, gym.vector.VectorEnv))
    first = next((at for at, line in enumerate(lines) if re.match("#+ ", line)), None)
    if page and first is not None:
        lines[first:] = ["All of it: :doc:`/environments/README`."]


def setup(app):
    app.connect("autodoc-process-docstring", cut_pages)


html_show_copyright = False
