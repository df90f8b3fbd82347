"""Denoisers: what they leave in memory, and in processes that are forked."""

import subprocess
import sys

import numpy as np
import OpenEXR
import psutil
import pytest

from dig_env.scenes.render.passes import Denoiser, RenderPasses

FORKED_WHILE_ANOTHER_THREAD_DENOISES = """
import multiprocessing, threading, time
import numpy as np
from dig_env.scenes.render.passes import Denoiser, RenderPasses

def denoise(times):
    passes = RenderPasses(*np.ones((3, 48, 64, 3), np.float32), np.zeros((48, 64), np.uint8))
    denoiser = Denoiser(threads=2)
    for _ in range(times):
        denoiser.denoise(passes)

threading.Thread(target=denoise, args=(300,)).start()
children = []
for _ in range(4):
    time.sleep(0.3)
    children.append(multiprocessing.get_context("fork").Process(target=denoise, args=(1,)))
    children[-1].start()
for child in children:
    child.join()
    print(child.exitcode)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
def test_a_fork_waits_for_the_denoiser_and_its_child_denoises_too():
    """As where an environment renders ahead while ``AsyncVectorEnv`` forks its workers."""
    script = [sys.executable, "-c", FORKED_WHILE_ANOTHER_THREAD_DENOISES]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["0"] * 4, done.stderr


def test_a_denoiser_comes_without_torch_and_leaves_it_to_others():
    """OpenImageDenoise's package imports it where it can: 2 s and 200 MB."""
    program = (
        "import importlib.util, sys\n"
        "from dig_env.scenes.render.passes import Denoiser\n"
        "Denoiser(threads=1)\n"
        "print('torch' in sys.modules, importlib.util.find_spec('torch') is None)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False False\n"


def test_a_denoiser_leaves_nothing_in_memory():
    passes = RenderPasses(*np.ones((3, 48, 64, 3), np.float32), np.zeros((48, 64), np.uint8))
    resident = []
    for _ in range(30):
        Denoiser(threads=1).denoise(passes)
        resident.append(psutil.Process().memory_info().rss)
    assert resident[-1] - resident[9] < 100e6  # 16 MB each, if they did


def test_passes_are_read_by_the_names_of_blender_4_and_of_blender_5(tmp_path):
    rng = np.random.default_rng(0)
    color, diffuse, glossy, transmission, normal = rng.random((5, 6, 8, 3), np.float32) / 4
    ids = rng.integers(0, 9, (6, 8)).astype(np.uint8)
    names = {
        "4": ("DiffCol", "GlossCol", "TransCol", "IndexOB"),
        "5": ("Diffuse Color", "Glossy Color", "Transmission Color", "Object Index"),
    }
    for version, (diffuse_name, glossy_name, transmission_name, ids_name) in names.items():
        passes = {
            "Combined": color,
            diffuse_name: diffuse,
            glossy_name: glossy,
            transmission_name: transmission,
        }
        channels = {
            f"ViewLayer.{name}.{axis}": np.ascontiguousarray(array[..., index])
            for name, array in passes.items()
            for index, axis in enumerate("RGB")
        }
        channels |= {
            f"ViewLayer.Normal.{axis}": np.ascontiguousarray(normal[..., index])
            for index, axis in enumerate("XYZ")
        }
        channels[f"ViewLayer.{ids_name}.X"] = ids.astype(np.float32)
        path = tmp_path / f"{version}.exr"
        OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(str(path))
        read = RenderPasses.read(path)
        assert np.array_equal(read.color, color) and np.array_equal(read.normal, normal)
        assert np.allclose(read.albedo, diffuse + glossy + transmission)
        assert np.array_equal(read.ids, ids)
