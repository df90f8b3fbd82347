"""How the HTML pages are filled in."""

from __future__ import annotations

import functools
from typing import Any

from dig_env.scenes.extras import extra

with extra("eval"):
    import jinja2


def render_page(template: str, **values: Any) -> bytes:
    """A page of ``agents/reporting/templates``, filled in; a missing value raises."""
    return _environment().get_template(template).render(**values).encode()


@functools.cache  # which keeps the compiled templates
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("dig_env.agents.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
