"""Settings of ``make docs``: Sphinx reads docs/, docstrings, the notebook, the commands' help."""

import contextlib
import io
import os
import re
import sys
from unittest import mock

import gymnasium as gym

from dig_env.agents.cli.main import GROUPS, command_name, main
from dig_env.scenes.version import __version__

project = "dig-env"
author = "the dig-env authors"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["results"]
nb_execution_mode = (
    "off"  # tests/project/test_examples.py runs the notebook and compares its outputs
)
myst_heading_anchors = 4
default_role = "code"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # several classes have an attribute `size`

html_theme = "furo"
html_theme_options = {"light_css_variables": {"code-font-size": "76%"}}  # lines of 100 fit
html_title = f"dig-env {version}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False


def cut_pages(app, what, name, obj, options, lines):
    """Of an environment's docstring, which is its own page in Markdown, keep the beginning."""
    page = isinstance(obj, type) and issubclass(obj, (gym.Env, gym.Wrapper, gym.vector.VectorEnv))
    first = next((at for at, line in enumerate(lines) if re.match("#+ ", line)), None)
    if page and first is not None:
        lines[first:] = ["All of it: :doc:`/environments/README`."]


def add_commands(app, name, source):
    """The page cli.md gets the help of every command."""
    if name == "cli":
        source[0] += command_reference()


def command_reference() -> str:
    """The help of every command, in Markdown."""
    text = "\n## All commands\n"
    for group, commands in GROUPS.items():
        text += f"\n### {group}\n"
        for name in map(command_name, commands):
            text += f"\n#### dig-env {name}\n\n```text\n{command_help(name)}\n```\n"
    return text


def command_help(name: str) -> str:
    said = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS="88"),
        mock.patch.object(sys, "argv", ["dig-env", *name.split(), "--help"]),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        main()
    lines = (line.rstrip() for line in said.getvalue().strip().splitlines())
    return "\n".join(line for line in lines if not line or line.strip(" -"))  # without its rules


def setup(app):
    app.connect("autodoc-process-docstring", cut_pages)
    app.connect("source-read", add_commands)
