"""A training run's folder: the settings that it was begun with, and where it resumes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig_env.scenes.files import write_whole

if TYPE_CHECKING:
    from dig_env.agents.training.align_stages import AlignRun
    from dig_env.agents.training.settings import GRPORun

    Run = GRPORun | AlignRun

SETTINGS = "run.json"
CHECKPOINTS = "trainer"
"""Folder of the trainer's own checkpoints; it goes when the run has finished."""
RESUMABLE_CHANGES = ("out", "workers", "minutes", "save_every", "wandb")
"""Settings that may differ when a run is resumed."""


def check_settings(run: Run) -> None:
    """Refuse a folder that holds a run with other settings.

    Raises:
        ValueError: the message names what differs.
    """
    path = Path(run.out, SETTINGS)
    if path.is_file() and (different := _different(json_or_none(path), _values(run))):
        raise ValueError(
            f"{run.out} holds a run with {different}: give its settings to resume it or get its "
            f"result, or another --out, or delete {run.out}"
        )


def write_settings(run: Run) -> None:
    """Note the settings in the run's folder, which is made if absent."""
    Path(run.out).mkdir(parents=True, exist_ok=True)
    write_whole(Path(run.out, SETTINGS), json.dumps(_values(run), indent=1).encode() + b"\n")


def latest_checkpoint(out: str, last_file: str) -> Path | None:
    """The newest whole checkpoint of an unfinished run.

    Args:
        out: the run's folder.
        last_file: JSON file that is written last into a checkpoint; one without it was cut off.
    """
    files = Path(out, CHECKPOINTS).glob(f"checkpoint-*/{last_file}")
    whole = [file.parent for file in files if isinstance(json_or_none(file), dict)]
    return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def json_or_none(path: Path) -> Any:
    """A file's JSON value; None if it has none."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def _values(run: Run) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(run)))


def _different(then: Any, now: dict[str, Any]) -> str:
    """What an earlier run's settings have otherwise, setting by setting; "" if nothing."""
    if not isinstance(then, dict):
        return "settings that cannot be read"
    return ", ".join(
        f"{name}={then[name]!r}, not {now[name]!r}"
        if name in then and name in now
        else f"no {name}, as one of another version"
        if name in now
        else f"{name}={then[name]!r}, which this version does not know"
        for name in (*now, *(then.keys() - now.keys()))
        if name not in RESUMABLE_CHANGES
        and (name not in then or name not in now or then[name] != now[name])
    )
