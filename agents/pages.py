"""What the HTML pages have in common: templates, pictures inside the page, drawn pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np

from agents.episodes import Episode
from dig_env import draw_pair


def render_page(template: str, **values: Any) -> bytes:
    """A page of ``agents/templates``, filled in; a value that it lacks raises."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("agents"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values).encode()


def draw_episode(episode: Episode) -> np.ndarray:
    """A pair's images side by side, true boxes green and answered ones red; (H, W, 3) uint8."""
    pair = episode.pair
    shown_a, shown_b = pair.boxes_shown
    return draw_pair(pair.image_a, pair.image_b, shown_a, episode.score.answer.boxes, shown_b)


def draw_episodes(episodes: Sequence[Episode]) -> np.ndarray:
    """Pairs below one another, as ``draw_episode`` draws them; (H, W, 3) uint8."""
    rows = []
    for episode in episodes:
        rows.append(draw_episode(episode))
        rows.append(np.full((4, rows[0].shape[1], 3), 255, dtype=np.uint8))
    return np.concatenate(rows[:-1])
