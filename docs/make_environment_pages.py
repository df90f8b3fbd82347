"""Write docs/environments/*.md from the environments' docstrings, in Gymnasium's format.

python docs/make_environment_pages.py

The pictures are made by docs/make_environment_pictures.py.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
from gymnasium import spaces

from dig_env import NumericView

FOLDER = Path(__file__).parent / "environments"


@dataclass(frozen=True)
class Page:
    """What a page is about.

    Attributes:
        file: its name, without ".md".
        picture: name of the picture at its head, without ".webp".
        caption: what the picture shows, in Markdown.
        more: where to read on, in Markdown.
        env_id: what is made to print its spaces.
        wrapper: what goes around it; the page is then the wrapper's.
    """

    file: str
    picture: str
    caption: str
    more: str
    env_id: str = "DiG-v0"
    wrapper: type[gym.Wrapper] | None = None

    @property
    def title(self) -> str:
        return self.wrapper.__name__ if self.wrapper else self.env_id


PAGES = (
    Page(
        "dig",
        "dig_single",
        "True boxes are green, answered ones red. The policy is `dig_env.agents.PixelDiffPolicy`, "
        "which subtracts the images. After its answer, A flashes up in the place of B.",
        "[reward](../reward.md), [rendering](../rendering.md), [datasets](../datasets.md), "
        "[training](../training.md)",
    ),
    Page(
        "dig_zoom",
        "dig_zoom",
        "The boxes of `dig_env.agents.PixelDiffPolicy` are looked at in both images, then "
        "answered. Blue is what the zoom shows.",
        "[looking closer](../zoom.md)",
        env_id="DiG-Zoom-v0",
    ),
    Page(
        "dig_align",
        "dig_align",
        "A question of each task, then its right answer. True boxes are green, and red where they "
        "are the answer.",
        "[text, coordinates and crops](../align.md)",
        env_id="DiG-Align-v0",
    ),
    Page(
        "numeric_view",
        "numeric_view",
        "What the view shows, and actions on the way from 0 to the one that `encode` gives for the "
        "true box.",
        "[DiG-v0](dig.md), [PPO on it](../results.md#4-ppo-on-the-numeric-view)",
        wrapper=NumericView,
    ),
)


def page_text(page: Page) -> str:
    """The page in Markdown."""
    env = gym.make(page.env_id)
    make = f'gymnasium.make("dig_env:{page.env_id}")'
    documented: type = type(env.unwrapped)
    if page.wrapper:
        env, documented, make = page.wrapper(env), page.wrapper, f"{page.title}({make})"
    summary, sections = _docstring(documented)
    text = f"""\
<!-- docs/make_environment_pages.py wrote this from the docstring of {documented.__name__}. -->

# {page.title}

![{page.title}]({page.picture}.webp)

*{page.caption}*

{summary}

| | |
|---|---|
| Action Space | {_cell(env.action_space)} |
| Observation Space | {_cell(env.observation_space)} |
| import | {_code(make)} |

{_with_pictures(sections, page.picture)}

Read on: {page.more}.
"""
    env.close()
    return text


def index_text() -> str:
    """The list of pages in Markdown."""
    text = "<!-- docs/make_environment_pages.py wrote this. -->\n\n# Environments\n"
    for page in PAGES:
        documented = page.wrapper or type(gym.make(page.env_id).unwrapped)
        summary, _ = _docstring(documented)
        text += f"\n## [{page.title}]({page.file}.md)\n\n{summary}\n\n"
        text += f"[![{page.title}]({page.picture}.webp)]({page.file}.md)\n"
    return text


def contents() -> dict[str, str]:
    """The text of every file, by its name."""
    return {"README.md": index_text()} | {f"{page.file}.md": page_text(page) for page in PAGES}


def _docstring(documented: type) -> tuple[str, str]:
    """Its first line, and the sections that follow."""
    summary, _, sections = (inspect.getdoc(documented) or "").partition("\n\n")
    # doctest needs an empty line at the end of an example, a page does not.
    return summary, sections.replace("\n\n```\n", "\n```\n")


def _with_pictures(sections: str, shown: str) -> str:
    """The sections; a configuration with its own heading gets its picture."""

    def with_picture(heading: re.Match) -> str:
        picture = heading[1].removesuffix("-v0").replace("-", "_").lower()
        return heading[0] + ("" if picture == shown else f"![{heading[1]}]({picture}.webp)\n\n")

    return re.sub(r"^### (.+)\n", with_picture, sections, flags=re.MULTILINE)


def _cell(space: spaces.Space) -> str:
    """A space as it prints itself, a dictionary with a line for each key."""
    if isinstance(space, spaces.Dict):
        return "<br>".join(f"{_code(key)}: {_cell(part)}" for key, part in space.items())
    if isinstance(space, spaces.Text):  # its alphabet or its list of texts is long
        return _code("Text")
    return _code(str(space))


def _code(text: str) -> str:
    """Code in a table's cell, in which a bar would end the cell and one backtick the code."""
    fence = "``" if "`" in text else "`"
    return fence + text.replace("|", r"\|") + fence


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in contents().items():
        (FOLDER / name).write_text(text)
        print(FOLDER / name)
