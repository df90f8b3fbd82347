"""``dig-env serve``: the environment over HTTP."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import tyro
from rich.console import Console

from dig_env.remote import TOKEN_VARIABLE
from dig_env.sessions import Limits, Sessions

console = Console(highlight=False)


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    dataset: tuple[Path, ...] = (),
    limits: tyro.conf.OmitArgPrefixes[Limits] = Limits(),
) -> None:
    """Serve DiG-v0 to gym.make("DiG-Remote-v0", url=..., token=...) until interrupted.

    The token is that of --token-file, else the variable DIG_ENV_TOKEN, else a new one that is
    printed.

    Args:
        host: address to listen at; 0.0.0.0 lets other machines in. Nothing is encrypted.
        port: 0 takes a free one.
        token_file: its first line is the token that clients must send.
        workers: Blender processes that all sessions share; by default one a CPU core.
        device: auto, cpu or gpu.
        dataset: folders that dig-env render wrote. Clients choose one by its name, without the
            folders above it.
        limits: of sessions and requests.
    """
    import uvicorn

    from dig_env.server import make_app

    datasets = {folder.resolve().name: folder for folder in dataset}
    if len(datasets) < len(dataset):
        raise ValueError("two datasets have the same name: rename a folder, or serve one of them")
    token, came_from = _token(token_file)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            f"cannot listen at {host}:{port} ({error.strerror}): give another --port, or 0 for a "
            "free one"
        ) from error
    sessions = Sessions(workers, device, datasets, limits)
    config = uvicorn.Config(
        make_app(sessions, token),
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # or a client could give itself any address, and so escape its limits
        server_header=False,
        timeout_keep_alive=75,  # longer than clients do: one that finds it closed gets no answer
        timeout_graceful_shutdown=2,
    )
    address = f"[{host}]" if family == socket.AF_INET6 else host
    console.print(f"serving DiG-v0 at http://{address}:{listening.getsockname()[1]}", markup=False)
    console.print(f"token: {came_from}", markup=False, soft_wrap=True)
    if datasets:
        console.print(f"datasets: {', '.join(datasets)}", markup=False, soft_wrap=True)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        sessions.close()


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
