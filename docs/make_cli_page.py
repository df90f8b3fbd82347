"""Write docs/cli.md: what the command line says of itself, and what holds for all of it.

python docs/make_cli_page.py
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

from dig_env.agents.cli.main import GROUPS, command_name, main

PAGE = Path(__file__).parent / "cli.md"

HEAD = """\
# The command line

<!-- Made by docs/make_cli_page.py. -->

```text
{overview}
```

## Output

Results go to stdout: tables, then where files lie. Progress bars with the time that remains, notes
and errors go to stderr; where that is no terminal, a line now and then takes the bar's place.

- `--quiet` leaves progress and notes out. Errors are still told.
- `--json` prints the result as one line of JSON on stdout, and nothing else there. Its "files" says
  where things lie. After an error stdout is empty.

```sh
dig-env eval --policy pixeldiff --episodes 20 --json --quiet
```

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | the job failed, or found a fault: `doctor`, `render --audit`, `bench redteam` |
| 2 | bad input: an unknown option, a value out of range, a file that is not there |
| 130 | stopped with Ctrl-C; `render`, `train` and `align` then say how to go on |

## Reports

Every training, evaluation and benchmark leaves a page that needs nothing else, neither a server nor
the network, and its main plot as a PNG of the same name beside it: curves and changes of stage,
parts of the reward, the worst and the best pairs, settings, versions and seeds. A run under way
writes it after ten seconds, then once a minute, and when it is stopped.

`train`, `align` and `python examples/warmup/warmup.py` write it to `OUT/report.html`; `eval`,
`eval-align`, `eval-external` and `bench` beside the JSON file of `--out`, with the ending .html.

## Completion

Once, for bash, zsh or fish:

<!-- not run: these files are your shell's; tests/test_cli.py lets bash complete -->
```sh
dig-env completion bash > ~/.local/share/bash-completion/completions/dig-env
dig-env completion zsh > ~/.zfunc/_dig-env       # with fpath+=~/.zfunc before compinit in ~/.zshrc
dig-env completion fish > ~/.config/fish/completions/dig-env.fish
```

## Commands
"""


def contents() -> str:
    """The page, from the help of today."""
    parts = [HEAD.format(overview=_help())]
    for group, commands in GROUPS.items():
        parts.append(f"\n### {group}\n")
        for name in map(command_name, commands):
            parts.append(f"\n#### dig-env {name}\n\n```text\n{_help(name)}\n```\n")
    return "".join(parts)


def _help(*command: str) -> str:
    said = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS="100"),
        mock.patch.object(sys, "argv", ["dig-env", *command, "--help"]),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        main()
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


if __name__ == "__main__":
    PAGE.write_text(contents())
