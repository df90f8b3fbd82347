"""``dig-env play``: play in the browser, and inspect datasets and evaluations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dig_env.agents.cli.common import StageName
from dig_env.agents.cli.output import Output, Printed
from dig_env.scenes import RenderSettings
from dig_env.scenes.extras import extra

if TYPE_CHECKING:
    from starlette.applications import Starlette


def play(
    path: Annotated[Path | None, tyro.conf.Positional] = None,
    stage: StageName = "single",
    seed: int = 0,
    width: int = 320,
    height: int = 240,
    quality: str = "standard",
    reward: str = "full",
    out: Path = Path("runs/play.jsonl"),
    host: str = "127.0.0.1",
    port: int = 8000,
    output: Printed = Output(),
) -> None:
    """Play in the browser, or look through pairs and evaluations there.

    Args:
        path: look through this instead: a folder that dig-env render wrote, or a file that dig-env
            eval --out wrote. Only host and port matter then.
        stage: to begin with: single, dual, mixed, subtle, cluttered, nuisance, extreme, or
            tabletop or shelf with _single, _dual or _mixed; or MODULE:NAME for one that your module
            registers. The page can change it.
        seed: of the draw of pairs, from the test split.
        width: image width in pixels.
        height: image height in pixels.
        quality: draft, standard or high.
        reward: name of the reward: full, paper, dense, strict, format, iou, f1 or exact.
        out: file of answers; the same command adds to it.
        host: address to listen on; 0.0.0.0 lets the network in, without a password.
        port: 0 for any that is free.
        output: what is printed.
    """
    with extra("play"):
        from dig_env.agents.web.server import bind, serve

    listener = bind(host, port)
    settings = RenderSettings(width, height, quality)
    opened = (
        _inspector(path)
        if path is not None
        else _player(settings, stage, seed, reward, out, output)
    )

    def announce(url: str) -> None:
        output.say(f"{what}: {url} (Ctrl-C ends it)")
        output.result({"url": url})

    with listener, opened as (app, what):
        serve(app, listener, announce)


@contextlib.contextmanager
def _player(
    settings: RenderSettings, stage: str, seed: int, reward: str, out: Path, output: Output
) -> Iterator[tuple[Starlette, str]]:
    with extra("play"):
        from dig_env.agents.web.play import Player, play_app

    out.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(Player(settings, seed, reward, out)) as player:
        output.say(f"answers: {out}")
        yield play_app(player, stage), "play"


@contextlib.contextmanager
def _inspector(path: Path) -> Iterator[tuple[Starlette, str]]:
    with extra("play"):
        from dig_env.agents.web.inspector import inspector_app, open_collection

    with contextlib.closing(open_collection(path)) as collection:
        yield inspector_app(collection), str(path)
