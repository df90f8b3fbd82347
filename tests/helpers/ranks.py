"""The processes of one distributed run, started as torchrun does, but without its imports.

They are forked from a server that has imported the trainer already, which costs 12 s a process.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

from torch.distributed import TCPStore

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["trl.trainer.grpo_trainer", "dig_env.agents", "qwen3_vl"])
TIMEOUT_S = 400


class Job:
    """Processes of one run. Once one fails or is killed, the others are killed."""

    def __init__(self, output: Path, count: int, work: Callable[..., object], *args: object):
        self.output = output
        # It lives here, as with torchrun: no free port has to be guessed.
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        everywhere = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
        }
        self.processes = [
            CONTEXT.Process(target=_run, args=(everywhere, rank, output, work, args))
            for rank in range(count)
        ]
        for process in self.processes:
            process.start()

    def wait(self) -> str:
        """What they printed, once all have ended well."""
        deadline = time.monotonic() + TIMEOUT_S
        left = {process.sentinel: process for process in self.processes}
        while left:
            ended = wait(left, timeout=max(0.0, deadline - time.monotonic()))
            codes = [left.pop(sentinel).exitcode for sentinel in ended]
            if any(codes) or not ended:
                self.kill()
                raise AssertionError(f"exit codes {codes}:\n{self.output.read_text()}")
        return self.output.read_text()

    def kill_when(self, path: Path) -> None:
        """Kill all of them as soon as there is such a file."""
        while not path.exists():
            assert all(process.is_alive() for process in self.processes), self.output.read_text()
            time.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


def _run(everywhere, rank, output, work, args) -> None:
    os.environ |= everywhere | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    with open(output, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout.reconfigure(line_buffering=True)
        work(*args)
