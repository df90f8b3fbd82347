"""Which GPUs the render workers see, and which number each worker has among them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "DIG_ENV_RENDER_GPUS"
"""Environment variable: the GPUs that render, such as "6,7", as nvidia-smi numbers them; "-1" for
none. Where it is not set, those that this process sees."""
KERNELS_TIMEOUT_S = 1800.0
"""For a worker's first picture on a GPU, for which kernels are compiled, or waited for."""


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that show a worker its GPUs, and no others.

    CUDA, and so OptiX, reads CUDA_VISIBLE_DEVICES, and HIP reads its like. CUDA counts from the
    fastest GPU, unless it is told to count as nvidia-smi does (CUDA C++ Programming Guide,
    "CUDA Environment Variables").
    """
    gpus = environment.get(VARIABLE)
    if not gpus:
        return {}
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return order | dict.fromkeys(("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"), gpus)


def first_worker(environment: Mapping[str, str], workers: int) -> int:
    """Number of a renderer's first worker, so that those of several processes take turns.

    Args:
        environment: torchrun and Accelerate set LOCAL_RANK, a process's number on its machine.
        workers: of each process's renderer.
    """
    rank = environment.get("LOCAL_RANK", "")
    return int(rank) * workers if rank.isdecimal() else 0


def kernels_lock() -> Path:
    """File that a worker locks during its first picture on a GPU: one a user, as the drivers'
    caches of kernels are."""
    return Path(tempfile.gettempdir()) / f"dig-env-kernels-{os.getuid()}.lock"
