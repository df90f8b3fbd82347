"""Tables that a terminal, a report and a page of the docs show alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Cells as text.

    Attributes:
        header: a name for each column.
        rows: as many cells each.
        title: what the table is about.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default_factory=list)
    title: str = ""


def interval_cells(interval: Sequence[float]) -> tuple[str, str]:
    """[mean, low, high] as the texts of two cells."""
    mean, low, high = interval
    return f"{mean:.3f}", f"{low:.3f} to {high:.3f}"


def markdown(table: Table) -> str:
    """As Markdown, without the title."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fill_tables(page: str, tables: Mapping[str, Callable[[], Table]]) -> str:
    """The page with today's tables between ``<!-- table: NAME -->`` and ``<!-- end -->``.

    Raises:
        ValueError: the page asks for a table that there is not.
    """

    def filled(match: re.Match[str]) -> str:
        if match[1] not in tables:
            raise ValueError(f"no table {match[1]!r}; the tables are {', '.join(tables)}")
        return f"<!-- table: {match[1]} -->\n{markdown(tables[match[1]]())}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", filled, page, flags=re.DOTALL)
