"""docs/errors.md lists each message that can be raised; docs/faq.md quotes real ones."""

import ast
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = runpy.run_path(str(ROOT / "docs" / "make_error_page.py"))
SOURCES = {
    path.relative_to(ROOT): ast.parse(path.read_text())
    for storey in PAGE["STOREYS"]
    for path in sorted((ROOT / storey).rglob("*.py"))
}
# They hand on a message that is raised, or worded, elsewhere and listed there.
HANDED_ON = {
    ("scenes/difficulty.py", "DifficultyError"),
    ("agents/adapters/trl_zoom.py", "ValueError"),
    ("dig_env/remote.py", "error_here"),
}


def test_the_committed_page_is_what_the_source_raises():
    assert (ROOT / "docs/errors.md").read_text() == PAGE["contents"](), (
        "run: python docs/make_error_page.py"
    )


def test_whatever_is_raised_says_something():
    mute = {
        (str(path), exception)
        for path, tree in SOURCES.items()
        for _, exception, message in PAGE["raised"](tree)
        if not message and exception not in PAGE["INTERNAL"]
    }
    assert mute <= HANDED_ON


def test_a_message_is_found_in_whatever_form_it_is_raised():
    source = """
def obituary():
    return f"{name!r} died, {', '.join(words)}"
def fails(known):
    if known: raise gym.error.ResetNeeded("one " "two")
    raise OSError(code, f"of {len(known)}") from None
    raise WorkerDied(obituary())
"""
    assert [found[1:] for found in PAGE["raised"](ast.parse(source))] == [
        ("OSError", "of <known>"),
        ("WorkerDied", "<name> died, <words>"),
        ("ResetNeeded", "one two"),
    ]


def test_what_the_faq_quotes_is_said_somewhere():
    quoted = re.findall("^### `(.+)`$", (ROOT / "docs/faq.md").read_text(), flags=re.MULTILINE)
    said = {
        PAGE["template"](node)
        for tree in SOURCES.values()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Constant, ast.JoinedStr))
    }
    assert len(quoted) >= 30
    assert [text for text in quoted if not any(text in message for message in said)] == []
