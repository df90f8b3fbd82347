"""``dig-env serve``: the environment over HTTP."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import tyro

from dig_env.agents.cli.output import Output, Printed
from dig_env.envs import TOKEN_VARIABLE
from dig_env.scenes.extras import extra
from dig_env.serve.sessions import Limits, Sessions


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    dataset: tuple[Path, ...] = (),
    limits: tyro.conf.OmitArgPrefixes[Limits] = Limits(),
    output: Printed = Output(),
) -> None:
    """Serve DiG-v0 to gym.make("DiG-Remote-v0", url=..., token=...).

    The token is that of --token-file, else the variable DIG_ENV_TOKEN, else a new one that is
    printed.

    Args:
        host: address to listen on; 0.0.0.0 lets other machines in. Nothing is encrypted.
        port: 0 for any that is free.
        token_file: its first line is the token that clients must send.
        workers: Blender processes that all sessions share; by default one a CPU core, if they fit
            in memory.
        device: auto, cpu or gpu.
        dataset: folders that dig-env render wrote. Clients choose one by its name, without the
            folders above it.
        limits: of sessions and requests.
        output: what is printed.
    """
    with extra("serve"):
        from dig_env.agents.web import server
        from dig_env.serve.server import server_app

    datasets = {folder.resolve().name: folder for folder in dataset}
    if len(datasets) < len(dataset):
        raise ValueError("two datasets have the same name: rename a folder, or serve one of them")
    token, came_from = _token(token_file)

    def announce(url: str) -> None:
        output.say(f"DiG-v0: {url} (Ctrl-C ends it)")
        output.say(f"token: {came_from}")
        workers_of = ", ".join(f"{count} {quality}" for quality, count in sessions.workers.items())
        output.say(f"Blender processes, each when first asked for: {workers_of}")
        if datasets:
            output.say(f"datasets: {', '.join(datasets)}")
        result = {"url": url, "token": came_from, "datasets": list(datasets)}
        output.result(result | {"workers": sessions.workers})

    with (
        server.bind(host, port) as listener,
        contextlib.closing(Sessions(workers, device, datasets, limits)) as sessions,
    ):
        server.serve(server_app(sessions, token), listener, announce)


def _token(file: Path | None) -> tuple[str, str]:
    """The token, and what to say of it."""
    if file is not None:
        token, came_from = file.read_text().partition("\n")[0].strip(), f"that of {file}"
    elif os.environ.get(TOKEN_VARIABLE):
        token, came_from = os.environ[TOKEN_VARIABLE], f"that of {TOKEN_VARIABLE}"
    else:
        token = came_from = secrets.token_urlsafe(24)
    if not token:
        raise ValueError(f"{file} begins with an empty line: write the token there")
    return token, came_from
