"""What the sub-commands print: results to stdout, as text or JSON; all else to stderr."""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import rich.table
import tyro
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dig_env.agents.reporting.table import Table

_stdout, _stderr = Console(highlight=False), Console(highlight=False, stderr=True)
if not _stdout.is_terminal:
    _stdout.width = 120  # in a file no table is wrapped


@dataclass(frozen=True)
class Output:
    """What is printed.

    Attributes:
        quiet: print the result and errors, no progress and no notes.
        json: print the result as one line of JSON; all else goes to stderr.
    """

    quiet: bool = False
    json: bool = False

    def note(self, text: str) -> None:
        """A line about what is under way."""
        if not self.quiet:
            _stderr.print(text, markup=False, soft_wrap=True)

    def say(self, text: str | Text) -> None:
        """A line of the result as text."""
        if not self.json:
            _stdout.print(text, markup=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        """A table of the result as text."""
        if self.json:
            return
        shown = rich.table.Table(
            *table.header, title=table.title or None, title_justify="left", box=box.SIMPLE_HEAD
        )
        for row in table.rows:
            shown.add_row(*row)
        _stdout.print(shown, markup=False)

    def result(self, values: dict[str, Any], **files: Path) -> None:
        """The end: where the files are, or, with ``json``, everything as JSON.

        Args:
            values: the result as JSON values.
            files: paths by what is there, such as report=...; "files" in the JSON.
        """
        for name, path in files.items():
            self.say(f"{name}: {path}")
        if self.json:
            print(json.dumps(values | {"files": {name: str(path) for name, path in files.items()}}))

    @contextlib.contextmanager
    def progress(self, unit: str, every: int) -> Iterator[Callable[..., None]]:
        """A bar with the time that remains; a line now and then where there is no terminal.

        Yields the function to call as the work proceeds: ``update(done, total, text="")``.

        Args:
            unit: what is counted, such as "pairs".
            every: as many of them make a line where there is no terminal.
        """
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
        lines = not self.quiet and not _stderr.is_terminal
        said = 0
        with Progress(
            *columns,
            TextColumn("{task.description}"),
            console=_stderr,
            transient=True,
            disable=self.quiet or lines,
        ) as progress:

            def update(done: int, total: int, text: str = "") -> None:
                nonlocal said
                if not progress.task_ids:
                    # What is there already must not count as speed.
                    progress.add_task(text, completed=done, total=total)
                progress.update(progress.task_ids[0], completed=done, total=total, description=text)
                if lines and (done // every > said // every or (done == total and said < done)):
                    self.note(f"{done} of {total} {unit}  {text}".rstrip())
                said = done

            yield update

    @contextlib.contextmanager
    def counting(self, unit: str, total: int) -> Iterator[Callable[..., None]]:
        """The same for what is done one by one: yields what is to be called after each."""
        done = itertools.count(1)
        with self.progress(unit, every=max(1, total // 10)) as update:
            yield lambda *_: update(next(done), total)


Printed = Annotated[Output, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff]
"""The last argument of every sub-command."""


def command_line() -> str:
    """The command line that runs, as it would be typed."""
    return shlex.join(["dig-env", *sys.argv[1:]])


def fail(text: str) -> None:
    """Print why the command ends."""
    _stderr.print("[red]error:[/] ", end="")
    _stderr.print(text, markup=False, soft_wrap=True)
