"""Settings of a training run in a YAML file."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from dig_env.agents.training.settings import GRPORun
from dig_env.scenes.extras import extra

with extra("train"):
    import yaml


class _Loader(yaml.SafeLoader):
    """YAML, in which 1e-6 is a number (in PyYAML it is a text, since it has no dot)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), "-+0123456789"
)


def read_run(path: str | Path) -> GRPORun:
    """A run's settings from a YAML file: fields of ``GRPORun``, those left out at their defaults.

    Args:
        path: the file. ``stages`` is a list there, ``reward`` a name or a mapping; see
            ``dig_env.resolve_reward``. ``base`` names another file, beside this one, whose settings
            hold where this one has none; mappings such as ``trl`` are joined.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not YAML, no mapping, an unknown setting, or one of the wrong kind.
    """
    given = _settings(Path(path))
    if "stages" in given:
        given["stages"] = tuple(given["stages"])
    return GRPORun(**given)


def _settings(path: Path) -> dict[str, Any]:
    """The settings of a file, on top of those of its base."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give a YAML file of settings")
    try:
        given = yaml.load(path.read_text(), Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"{path} holds {type(given).__name__}: give a mapping of settings")
    base = _settings(path.parent / str(given.pop("base"))) if "base" in given else {}
    names = [field.name for field in fields(GRPORun)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"{path}: no setting {unknown[0]!r}; there are base, {', '.join(names)}")
    _check_kinds(path, given)
    for name, value in given.items():
        both = isinstance(value, dict) and isinstance(base.get(name), dict)
        base[name] = base[name] | value if both else value
    return base


def _check_kinds(path: str | Path, given: dict[str, Any]) -> None:
    """Numbers, texts and switches are what they should be."""
    kinds = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}
    hints = get_type_hints(GRPORun)
    for name, value in given.items():
        allowed = kinds.get(hints[name])
        if allowed is not None and (
            not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
        ):
            raise ValueError(f"{path}: {name}={value!r}: give {hints[name].__name__}")
