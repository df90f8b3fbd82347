"""The ``dig-env`` command: its sub-commands by group, its help and its exit codes."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import inspect
import operator
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from dig_env import __version__
from dig_env.agents.cli.bench import bench_make, bench_run
from dig_env.agents.cli.common import Answers, HeldOut, PairAnswers
from dig_env.agents.cli.doctor import doctor
from dig_env.agents.cli.eval import eval, eval_align, eval_external
from dig_env.agents.cli.evaluation import Endpoint
from dig_env.agents.cli.export import export
from dig_env.agents.cli.install_blender import install_blender
from dig_env.agents.cli.output import Output, command_line, fail
from dig_env.agents.cli.play import play
from dig_env.agents.cli.questions import questions
from dig_env.agents.cli.render import audit, render, render_photos
from dig_env.agents.cli.reward_checks import calibrate, redteam
from dig_env.agents.cli.serve import serve
from dig_env.agents.cli.train import align, train
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
    command_app().cli(prog="dig-env", args=["--tyro-print-completion", shell], registry=_registry())


GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Set up": (doctor, install_blender, completion),
    "Make pairs": (render, render_photos, questions, audit, export),
    "Look and play": (play, serve),
    "Train": (train, align),
    "Measure": (eval, eval_align, eval_external, bench_make, bench_run, redteam, calibrate),
}
"""Every sub-command; its name is the function's, its help the function's docstring."""

NESTED = {"bench": "DiG-Bench, a benchmark of frozen pairs."}
"""The first words of commands of two, and their help: ``bench_make`` is typed ``bench make``."""

RESUMABLE = ("render", "render-photos", "questions", "train", "align", "bench")
"""Those that resume where they were stopped when they are called again."""

EXAMPLES = """\
  dig-env doctor                                          is this machine ready?
  dig-env render --preset paper --out pairs               1,600 pairs of each stage
  dig-env train --out runs/mine --minutes 5               GRPO on fresh pairs
  dig-env eval --policy runs/mine/checkpoint --stage dual what did it learn?
"""

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all went well; the job failed or found a fault; bad input; stopped with Ctrl-C."""

# What can be fixed in the command line. Other errors of the system, such as a full disk, and
# of Blender, or for lack of an extra, are failures of the job.
BAD_INPUT = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)


def command_app(config: Path | None = None) -> tyro.extras.SubcommandApp:
    """All sub-commands as one program.

    Args:
        config: settings that ``train`` begins with instead of its defaults.
    """
    app = tyro.extras.SubcommandApp()
    nested = {word: tyro.extras.SubcommandApp() for word in NESTED}
    for commands in GROUPS.values():
        for command in commands:
            _describe(command)
            first, _, rest = command_name(command).partition(" ")
            (nested[first] if rest else app).command(name=rest or first)(command)
    for word, commands_of_two in nested.items():
        app.command(commands_of_two, name=word, help=NESTED[word])
    for settings in (AlignRun, Answers, Endpoint, GRPORun, HeldOut, Limits, Output, PairAnswers):
        _describe(settings)
    if config is not None:
        from dig_env.agents.training.run_file import read_run

        app.command(name="train")(functools.partial(train, run=read_run(config)))
    return app


def overview() -> str:
    """What ``dig-env --help`` prints."""
    lines = ["usage: dig-env COMMAND [OPTIONS]", "", "Spot the difference as an RL environment."]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {command_name(command):16} {summary(command)}" for command in commands]
    lines += ["", "Examples:", EXAMPLES]
    lines += [
        "'dig-env --version' prints the version, 'dig-env COMMAND --help' a command's options. All",
        "take --quiet (no progress) and --json (the result as one line of JSON on stdout, all else",
        "on stderr).",
        "Exit codes: 0 done, 1 failed or found a fault, 2 bad input, 130 stopped with Ctrl-C.",
    ]
    return "\n".join(lines)


def command_name(command: Callable[..., None]) -> str:
    """As it is typed."""
    name = command.__name__.replace("_", "-")
    first, _, rest = name.partition("-")
    return f"{first} {rest}" if first in NESTED else name


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
        app = command_app(_config(arguments) if arguments[0] == "train" else None)
        app.cli(prog="dig-env", registry=_registry())
    except BAD_INPUT as error:
        fail(str(error))
        sys.exit(USAGE)
    except (RenderError, MissingExtraError, OSError) as error:
        fail(str(error))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        fail(f"stopped; resume with: {command_line()}" if arguments[0] in RESUMABLE else "stopped")
        sys.exit(INTERRUPTED)


def _config(arguments: list[str]) -> Path | None:
    """The value of ``--config``, which decides the other options' defaults."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    return parser.parse_known_args(arguments)[0].config


def _describe(described: Callable[..., Any]) -> None:
    """Make its help readable.

    The continued lines of its arguments are joined, since tyro's help would break where the source
    does; and what may be left out is called optional.
    """
    described.__doc__ = re.sub(r"\n {8,}", " ", inspect.cleandoc(described.__doc__ or ""))
    hints = get_type_hints(described, include_extras=True)
    for name, parameter in inspect.signature(described).parameters.items():
        if parameter.default is None and name in hints:
            optional = tyro.conf.arg(help_behavior_hint="(optional)")
            hints[name] = Annotated[hints[name], optional]
    described.__annotations__ = hints


def _registry() -> tyro.constructors.ConstructorRegistry:
    """How types are read: "X | None" is shown as X, and "None" is read as None."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def optional(
        info: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec | None:
        members = get_args(info.type)
        if get_origin(info.type) not in (Union, UnionType) or NoneType not in members:
            return None
        rest = functools.reduce(operator.or_, (m for m in members if m is not NoneType))
        inner = tyro.constructors.PrimitiveTypeInfo.make(rest, info.markers)
        spec = tyro.constructors.ConstructorRegistry.get_primitive_spec(inner)
        if not isinstance(spec, tyro.constructors.PrimitiveConstructorSpec):
            return None
        return dataclasses.replace(
            spec,
            instance_from_str=lambda words: (
                None if words == ["None"] else spec.instance_from_str(words)
            ),
            is_instance=lambda value: value is None or spec.is_instance(value),
            str_from_instance=lambda value: (
                ["None"] if value is None else spec.str_from_instance(value)
            ),
        )

    return registry


if __name__ == "__main__":
    main()
