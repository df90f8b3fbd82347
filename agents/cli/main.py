"""The ``dig-env`` command: its sub-commands by group, its help and its exit codes."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro

from dig_env import __version__
from dig_env.agents.cli.align import TaskData, align, eval_align
from dig_env.agents.cli.bench import bench
from dig_env.agents.cli.common import Answers, HeldOut
from dig_env.agents.cli.doctor import doctor
from dig_env.agents.cli.endpoint import Endpoint
from dig_env.agents.cli.eval import eval
from dig_env.agents.cli.export import export
from dig_env.agents.cli.external import eval_external
from dig_env.agents.cli.install_blender import install_blender
from dig_env.agents.cli.output import Output, fail, this_command
from dig_env.agents.cli.play import play
from dig_env.agents.cli.render import render
from dig_env.agents.cli.serve import serve
from dig_env.agents.cli.train import train
from dig_env.agents.training.align_stages import AlignRun
from dig_env.agents.training.settings import GRPORun
from dig_env.scenes import RenderError
from dig_env.scenes.extras import MissingExtraError
from dig_env.serve.sessions import Limits


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]) -> None:
    """Print what lets a shell complete dig-env. Where it goes: docs/cli.md.

    Args:
        shell: whose script.
    """
    make_app().cli(prog="dig-env", args=["--tyro-print-completion", shell])


GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Set up": (doctor, install_blender, completion),
    "Make pairs": (render, export),
    "Look and play": (play, serve),
    "Train": (train, align),
    "Measure": (eval, eval_align, eval_external, bench),
}
"""Every sub-command; its name is the function's, its help the function's docstring."""

GOES_ON = ("render", "train", "align")
"""Those that go on where they were stopped when they are called again."""

EXAMPLES = """\
  dig-env doctor                                          is this machine ready?
  dig-env render --preset paper --out pairs               1,600 pairs of each stage
  dig-env train --out runs/mine --minutes 5               GRPO on fresh pairs
  dig-env eval --policy runs/mine/checkpoint --stage dual what did it learn?
"""

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all went well; the job failed or found a fault; bad input; stopped with Ctrl-C."""

# What a person can mend in the command line. Other errors of the system, such as a full disk, and
# of Blender, or for lack of an extra, are failures of the job.
BAD_INPUT = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)


def make_app() -> tyro.extras.SubcommandApp:
    """All sub-commands as one program."""
    app = tyro.extras.SubcommandApp()
    for commands in GROUPS.values():
        for command in commands:
            _unwrap(command)
            app.command(command)
    for settings in (AlignRun, Answers, Endpoint, GRPORun, HeldOut, Limits, Output, TaskData):
        _unwrap(settings)
    return app


def overview() -> str:
    """What ``dig-env --help`` prints."""
    lines = ["usage: dig-env COMMAND [OPTIONS]", "", "Spot the difference as an RL environment."]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {command_name(command):16} {summary(command)}" for command in commands]
    lines += ["", "Examples:", EXAMPLES]
    lines += [
        "'dig-env --version' tells the version, 'dig-env COMMAND --help' a command's options. All",
        "take --quiet (no progress) and --json (the result as one line of JSON on stdout, all else",
        "on stderr).",
        "Exit codes: 0 done, 1 failed or found a fault, 2 bad input, 130 stopped with Ctrl-C.",
    ]
    return "\n".join(lines)


def command_name(command: Callable[..., None]) -> str:
    """As it is typed."""
    return command.__name__.replace("_", "-")


def summary(command: Callable[..., None]) -> str:
    """The first sentence of a sub-command's help."""
    first = (inspect.getdoc(command) or "").partition("\n")[0]
    return first.split(". ")[0].removesuffix(".")


def main() -> None:
    """Run the command line; an error that has a remedy is shown without a traceback."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        sys.exit(OK if arguments else USAGE)
    if arguments == ["--version"]:
        print(f"dig-env {__version__}")
        return
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        make_app().cli(prog="dig-env")
    except BAD_INPUT as error:
        fail(str(error))
        sys.exit(USAGE)
    except (RenderError, MissingExtraError, OSError) as error:
        fail(str(error))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        fail(f"stopped; go on with: {this_command()}" if arguments[0] in GOES_ON else "stopped")
        sys.exit(INTERRUPTED)


def _unwrap(described: Callable[..., Any]) -> None:
    """Join the continued lines of its arguments: tyro's help would break where the source does."""
    described.__doc__ = re.sub(r"\n {8,}", " ", inspect.cleandoc(described.__doc__ or ""))


if __name__ == "__main__":
    main()
