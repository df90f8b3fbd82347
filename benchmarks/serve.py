"""Load on ``dig-env serve``: many clients at once, on stored pairs and on live ones.

python benchmarks/serve.py --out docs/results/serve.json
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import tyro

from dig_env.agents.reporting.report import write_results
from dig_env.envs import TOKEN_VARIABLE
from dig_env.scenes import RenderSettings, available_cores, render_dataset

ANSWER = "[[0, 0, 500, 500], [500, 500, 1000, 1000]]"
LIVE = {"width": 64, "height": 48, "quality": "draft"}
SERVE = "from dig_env.agents.cli.main import main; main()"


def main(
    clients: tuple[int, ...] = (64,),
    episodes: int = 5,
    live_episodes: int = 2,
    stored: int = 20,
    out: Path = Path("docs/results/serve.json"),
) -> None:
    """Time episodes of the mixed stage, with policies that answer at once.

    Args:
        clients: how many at once, each with its own session and thread.
        episodes: of each client, on stored pairs at 320x240 standard.
        live_episodes: of each client, on pairs that are rendered as they are asked for.
        stored: pairs in the dataset, few enough for the server to keep all of them decoded.
        out: file for the results.
    """
    rows = []
    load = round(os.getloadavg()[0], 1)  # processes that want a core before this begins
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder, "pairs")
        render_dataset(pairs, {"mixed": stored}, "train", RenderSettings())
        cases: tuple[tuple[str, dict[str, Any], int], ...] = (
            ("stored, 320x240", {"dataset": "pairs"}, episodes),
            ("live, 64x48 draft", LIVE, live_episodes),
        )
        for name, options, count in cases:
            for number in clients:
                row = {"pairs": name, "clients": number} | _loaded(pairs, options, number, count)
                rows.append(row)
                print(", ".join(f"{key} {value}" for key, value in row.items()))
    results = {
        "command": "python benchmarks/serve.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "load_of_others": load,
        "rows": rows,
    }
    bars = {row["pairs"]: row["episodes_per_second"] for row in rows}
    write_results(out, results, "episodes a second", bars)


def _loaded(pairs: Path, options: dict[str, Any], clients: int, episodes: int) -> dict[str, Any]:
    """One case, with its own server."""
    command = [sys.executable, "-uc", SERVE, "serve", "--port=0", "--json", "--device=cpu"]
    command += ["--dataset", str(pairs), "--requests-per-s=100000"]
    os.environ[TOKEN_VARIABLE] = "of the benchmark"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            return _measured(url, options, clients, episodes, server.pid)
        finally:
            server.send_signal(signal.SIGINT)


def _measured(
    url: str, options: dict[str, Any], clients: int, episodes: int, pid: int
) -> dict[str, Any]:
    resets: list[float] = []
    steps: list[float] = []
    errors: list[str] = []
    begin = threading.Barrier(clients + 1, timeout=600)

    def play(seed: int) -> None:
        env = gym.make("dig_env:DiG-Remote-v0", url=url, stage="mixed", **options)
        env.reset(seed=seed)  # the server's workers start
        begin.wait()
        try:
            for _ in range(episodes):
                started = time.perf_counter()
                env.reset()
                between = time.perf_counter()
                env.step(ANSWER)
                resets.append(between - started)
                steps.append(time.perf_counter() - between)
        except Exception as error:
            errors.append(repr(error))
        finally:
            env.close()

    players = [threading.Thread(target=play, args=(seed,)) for seed in range(clients)]
    for player in players:
        player.start()
    begin.wait()
    started = time.perf_counter()
    most = 0.0
    while any(player.is_alive() for player in players):
        most = max(most, _megabytes(pid))
        time.sleep(0.5)
    elapsed = time.perf_counter() - started
    return {
        "episodes": len(steps),
        "errors": len(errors),
        "episodes_per_second": round(len(steps) / elapsed, 1),
        "reset_ms_p50": round(1000 * float(np.percentile(resets, 50)), 1),
        "reset_ms_p95": round(1000 * float(np.percentile(resets, 95)), 1),
        "step_ms_p50": round(1000 * float(np.percentile(steps, 50)), 1),
        "step_ms_p95": round(1000 * float(np.percentile(steps, 95)), 1),
        "server_megabytes": round(most),
    }


def _megabytes(pid: int) -> float:
    """Memory of the server and its Blender workers, each shared page counted once."""
    server = psutil.Process(pid)
    total = 0.0
    for process in (server, *server.children(recursive=True)):
        try:
            total += process.memory_full_info().pss / 1e6
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    tyro.cli(main)
