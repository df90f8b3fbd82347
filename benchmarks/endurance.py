"""Ten thousand pairs through one pool, and two hundred faults to its workers.

python benchmarks/endurance.py soak --out docs/results/soak.json
python benchmarks/endurance.py chaos --out docs/results/chaos.json
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import tyro

import dig_env.scenes.render.renderer as renderer_module
from dig_env.agents.reporting.report import write_results
from dig_env.scenes import STAGES, Pair, Renderer, RenderSettings, available_cores, plan_pair

app = tyro.extras.SubcommandApp()
SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV)


@app.command
def soak(
    pairs: int = 10_000,
    settings: RenderSettings = RenderSettings(64, 48, "draft", "cpu"),
    out: Path = Path("docs/results/soak.json"),
) -> None:
    """Compare memory and speed of the last thousand pairs with the first.

    Args:
        pairs: in all.
        settings: image size and quality.
        out: file for the results.
    """
    plans = (plan_pair(seed, STAGES["mixed"]) for seed in range(pairs + 100))
    me = psutil.Process()
    thousands: list[dict[str, float]] = []
    with Renderer(settings, None) as renderer:
        print(renderer)
        stream = renderer.imap(plans)
        for _ in range(100):
            next(stream)
        for _ in range(pairs // 1000):
            begun = time.perf_counter()
            workers_mb, own_mb = [], []
            for index in range(1000):
                next(stream)
                if index % 50 == 0:
                    workers_mb.append(sum(worker.resident_bytes for worker in renderer._processes))
                    own_mb.append(me.memory_info().rss)
            thousands.append(
                {
                    "pairs_per_s": round(1000 / (time.perf_counter() - begun), 2),
                    "workers_mb": round(float(np.median(workers_mb)) / 2**20, 1),
                    "own_mb": round(float(np.median(own_mb)) / 2**20, 1),
                }
            )
            print(thousands[-1], flush=True)
    first, last = thousands[0], thousands[-1]
    table = {
        "command": "python benchmarks/endurance.py soak",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "settings": [settings.width, settings.height, settings.quality],
        "recycle_after": renderer_module.RECYCLE_AFTER,
        "last_over_first": {name: round(last[name] / first[name], 3) for name in first},
        "thousands": thousands,
    }
    print(table["last_over_first"])
    write_results(out, table, "last thousand over first", table["last_over_first"])


@app.command
def chaos(
    faults: int = 200,
    timeout_s: float = 2.0,
    seed: int = 0,
    settings: RenderSettings = RenderSettings(64, 48, "draft", "cpu"),
    out: Path = Path("docs/results/chaos.json"),
) -> None:
    """Hit random workers at random moments, and compare every pair with an undisturbed run.

    Args:
        faults: SIGKILL, SIGSTOP and SIGSEGV, drawn evenly.
        timeout_s: after which a worker counts as hung.
        seed: of what is hit when.
        settings: image size and quality.
        out: file for the results.
    """
    injected = {fault.name: 0 for fault in SIGNALS}
    digests: dict[int, str] = {}
    over = threading.Event()
    longest_s = 0.0
    with Renderer(settings, None) as renderer:
        renderer_module.render_timeout_s = lambda settings: timeout_s  # a hang is soon noticed
        print(renderer)
        arguments = (renderer, faults, random.Random(seed), injected, over)
        threading.Thread(target=inject, args=arguments, daemon=True).start()
        endless = itertools.takewhile(lambda _: not over.is_set(), itertools.count())
        plans = (plan_pair(index, STAGES["mixed"]) for index in endless)
        begun = last = time.monotonic()
        for index, pair in enumerate(renderer.imap(plans)):
            assert pair.plan.seed == index, "lost, doubled or out of order"
            digests[index] = digest(pair)
            longest_s, last = max(longest_s, time.monotonic() - last), time.monotonic()
        seconds = time.monotonic() - begun
    print(f"{len(digests)} pairs under {injected}; now the same ones undisturbed")
    with Renderer(settings, None) as renderer:
        calm = renderer.imap(plan_pair(index, STAGES["mixed"]) for index in range(len(digests)))
        wrong = [pair.plan.seed for pair in calm if digest(pair) != digests[pair.plan.seed]]
    table = {
        "command": "python benchmarks/endurance.py chaos",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "settings": [settings.width, settings.height, settings.quality],
        "faults": injected,
        "pairs": len(digests),
        "wrong_lost_or_doubled": len(wrong),
        "seconds": round(seconds, 1),
        "timeout_s": timeout_s,
        "longest_wait_for_a_pair_s": round(longest_s, 2),
    }
    print(table)
    write_results(out, table, "workers struck", injected)


def inject(
    renderer: Renderer,
    faults: int,
    rng: random.Random,
    injected: dict[str, int],
    over: threading.Event,
) -> None:
    """Hit workers until there were so many faults; they are counted in ``injected``."""
    while sum(injected.values()) < faults:
        time.sleep(rng.uniform(0.1, 1.5))
        living = renderer.worker_pids
        if living:
            fault = rng.choice(SIGNALS)
            try:
                os.kill(rng.choice(living), fault)
            except ProcessLookupError:
                continue
            injected[fault.name] += 1
    over.set()


def digest(pair: Pair) -> str:
    """SHA-256 of all that a pair holds."""
    parts = [array.tobytes() for array in (pair.image_a, pair.ids_a, pair.image_b, pair.ids_b)]
    labels = repr((pair.differences, pair.certificate, pair.plan)).encode()
    return hashlib.sha256(b"".join([*parts, labels])).hexdigest()


if __name__ == "__main__":
    app.cli()
