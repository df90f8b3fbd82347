"""Every error says something, and docs/faq.md quotes real messages."""

import ast
import re

from paths import ROOT

SOURCES = {
    path.relative_to(ROOT): ast.parse(path.read_text())
    for storey in ("scenes", "dig_env", "agents")
    for path in sorted((ROOT / storey).rglob("*.py"))
}
# Asked for by Python or by a base class; nobody is to read them.
INTERNAL = ("AttributeError", "NotImplementedError")


def texts() -> list[str]:
    """The source's texts, with <...> in the place of values."""
    found = []
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", None) for part in node.values)
                found.append("".join(p if isinstance(p, str) else "<...>" for p in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_no_exception_is_raised_without_a_message():
    mute = [
        f"{path}:{node.lineno}"
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and not (node.exc.args or node.exc.keywords)
        and ast.unparse(node.exc.func).split(".")[-1] not in INTERNAL
    ]
    assert mute == []


def test_what_the_faq_quotes_is_said_somewhere():
    quoted = re.findall("^### `(.+)`$", (ROOT / "docs/faq.md").read_text(), flags=re.MULTILINE)
    said = texts()
    assert len(quoted) >= 10
    missing = []
    for text in quoted:
        text = re.sub("<[^>]*>", "<...>", text)
        if not any(text in message for message in said):
            missing.append(text)
    assert missing == []
