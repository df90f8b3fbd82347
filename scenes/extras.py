"""What to say where a feature needs more packages than the base install has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class MissingExtraError(ModuleNotFoundError):
    """A package that an extra brings is not installed; the message says what to run."""


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Wrap imports of packages that come with ``pip install 'dig-env[name]'``.

    Where two are nested, the outer one is named: it knows which feature was asked for.

    Raises:
        MissingExtraError: one of the packages is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed; run: pip install 'dig-env[{name}]'", name=error.name
        ) from error
