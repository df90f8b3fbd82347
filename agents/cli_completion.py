"""``dig-env completion``: completion of the command line in a shell."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]) -> None:
    """Print what lets a shell complete dig-env. Where it goes: docs/cli.md.

    Args:
        shell: whose script.
    """
    from agents.cli import make_app

    make_app().cli(prog="dig-env", args=["--tyro-print-completion", shell])
