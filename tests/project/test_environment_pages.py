"""docs/environments: one page an environment, made from its docstring, with moving pictures."""

import doctest
import re
import runpy

import pytest
from paths import ROOT
from PIL import Image

DOCS = ROOT / "docs"
FOLDER = DOCS / "environments"
GIVEN = runpy.run_path(str(DOCS / "make_environment_pages.py"))["contents"]()
PAGES = sorted(set(GIVEN) - {"README.md"})
# Gymnasium's own, in its order; what else a docstring tells may stand between them.
SECTIONS = (
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Arguments",
    "Version History",
)


@pytest.mark.parametrize("name", GIVEN)
def test_a_committed_page_is_what_the_docstring_gives(name):
    assert (FOLDER / name).read_text() == GIVEN[name], "run: python docs/make_environment_pages.py"


def test_there_are_no_pages_and_no_pictures_but_those():
    pictures = {link for text in GIVEN.values() for link in links(text) if link.endswith(".webp")}
    assert {path.name for path in FOLDER.iterdir()} == set(GIVEN) | pictures


@pytest.mark.parametrize("name", GIVEN)
def test_every_link_leads_somewhere(name):
    assert all((FOLDER / link.partition("#")[0]).is_file() for link in links(GIVEN[name]))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_gymnasiums_sections(name):
    headings = re.findall("^## (.+)$", GIVEN[name], flags=re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == list(SECTIONS)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_an_example_of_an_episode(name):
    """It is the docstring's, to the letter, so that pytest's --doctest-modules runs it."""
    (block,) = re.findall(r"^```python\n(.+?)^```$", GIVEN[name], flags=re.MULTILINE | re.DOTALL)
    calls = "".join(example.source for example in doctest.DocTestParser().get_examples(block))
    assert all(call in calls for call in ("gym.make(", ".reset(", ".step(", ".close("))


@pytest.mark.parametrize("picture", sorted(FOLDER.glob("*.webp")), ids=lambda path: path.name)
def test_a_picture_moves_and_is_small(picture):
    assert Image.open(picture).n_frames > 8
    assert picture.stat().st_size < 400_000


def links(text):
    return [link for link in re.findall(r"\]\(([^)]+)\)", text) if ":" not in link]
