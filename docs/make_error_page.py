"""Write docs/errors.md: every message that the source raises.

python docs/make_error_page.py
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "errors.md"
STOREYS = {"scenes": "the world", "dig_env": "the game", "agents": "who plays and learns"}
# Asked for by Python or by a base class; nobody is to read them.
INTERNAL = ("AttributeError", "NotImplementedError")

HEAD = """\
<!-- docs/make_error_page.py wrote this. -->

# Every error message

On the command line an error is one line, `error:` and the message; in Python it is an exception.
Each message says what was given, what is allowed and what to do. The [FAQ](faq.md) has more to say
about the commonest. Words in angle brackets stand for what differs from case to case.
"""


def template(node: ast.expr) -> str:
    """A message's text, with <names> in the place of values; "" for what is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            f"<{_name(part.value)}>" if isinstance(part, ast.FormattedValue) else part.value
            for part in node.values
        )
    return ""


def _name(value: ast.expr) -> str:
    """What stands in a message: the variable's name, or that of the list that is joined."""
    if isinstance(value, ast.Name):
        return value.id
    if isinstance(value, ast.Attribute):
        return _name(value.value) if value.attr == "__name__" else value.attr
    if isinstance(value, ast.Call) and value.args:
        return _name(value.args[0])
    if isinstance(value, ast.Subscript):
        return _name(value.value)
    if isinstance(value, ast.BoolOp):
        return _name(value.values[0])
    if isinstance(value, ast.GeneratorExp):
        return _name(value.generators[0].iter)
    return "..."


def raised(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, exception, message) of each ``raise`` of a module; the message is "" if it has none.

    A message that a function of the same module words is followed there.
    """
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        called = node.exc.func
        exception = "RenderError" if isinstance(called, ast.IfExp) else ast.unparse(called)
        texts = [template(argument) for argument in node.exc.args]
        for argument in node.exc.args:
            if isinstance(argument, ast.Call):
                function = functions.get(ast.unparse(argument.func).split(".")[-1])
                body = ast.walk(function) if function else ()
                texts += [template(line.value) for line in body if isinstance(line, ast.Return)]
        yield node.lineno, exception.split(".")[-1], next(filter(None, texts), "")


def contents() -> str:
    """The page."""
    parts = [HEAD]
    for storey, meaning in STOREYS.items():
        parts.append(f"\n## {storey}: {meaning}\n")
        for path in sorted((ROOT / storey).rglob("*.py")):
            found = sorted(raised(ast.parse(path.read_text())))
            lines = dict.fromkeys(
                f"- {exception}: ``{' '.join(message.split())}``\n"
                for _, exception, message in found
                if message and exception not in INTERNAL
            )
            if lines:
                parts.append(f"\n### {path.relative_to(ROOT)}\n\n{''.join(lines)}")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(contents())
