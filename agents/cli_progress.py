"""Progress of long commands: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

console = Console(highlight=False)


@contextlib.contextmanager
def progress_of(unit: str, every: int) -> Iterator[Callable[[int, int], None]]:
    """Yields what is to be told (done, total) as the work goes on.

    Args:
        unit: what is counted, such as "pairs".
        every: as many of them make a line where there is no terminal.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    said = 0
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:

        def tell(done: int, total: int) -> None:
            nonlocal said
            if not progress.task_ids:
                # What is there already must not count as speed.
                progress.add_task("", completed=done, total=total)
            progress.update(progress.task_ids[0], completed=done)
            if not console.is_terminal and (done // every > said // every or done == total):
                console.print(f"{done} of {total} {unit}")
            said = done

        yield tell
