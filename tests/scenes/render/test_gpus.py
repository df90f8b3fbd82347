"""One GPU a worker. Cycles' lists of GPUs are written down here; no test has a GPU."""

import collections
import select
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

import dig_env.scenes.render.renderer as renderer_module
from dig_env.scenes import Renderer, RenderSettings
from dig_env.scenes.render.gpus import VARIABLE, first_worker, worker_environment
from dig_env.scenes.render.process import WORKER_SCRIPT

sys.path.append(str(WORKER_SCRIPT.parent))  # the worker's own modules are scripts beside it
from gpus import gpu_of, turn


def listed(*names):
    """The entries of OptiX, named as Cycles' cuda/device.cpp and optix/device.cpp name them."""
    return [
        SimpleNamespace(name=name, id=f"CUDA_{name}_0000:{bus:02x}:00_OptiX", type="OPTIX")
        for bus, name in enumerate(names, start=1)
    ]


def test_workers_take_gpus_in_turn():
    gpus = listed("NVIDIA L4", "NVIDIA L4", "NVIDIA L4")
    assert [gpu_of(worker, gpus)[0] for worker in range(5)] == [*gpus, *gpus[:2]]
    assert gpu_of(4, gpus)[1] == "GPU 2 of 3 (CUDA_NVIDIA L4_0000:02:00_OptiX)"
    assert gpu_of(7, gpus[:1])[0] is gpus[0]


def test_gpus_of_another_model_or_with_a_screen_are_left_alone():
    """Their pictures need not be the same bytes, and a data set names one device."""
    gpus = listed("NVIDIA L4", "NVIDIA T400", "NVIDIA L4", "NVIDIA L4 (Display)")
    assert [gpu_of(worker, gpus)[0] for worker in range(3)] == [gpus[0], gpus[2], gpus[0]]


def test_the_workers_of_torchruns_ranks_take_turns_too():
    gpus = listed(*["NVIDIA L4"] * 4)
    used = collections.Counter()
    for rank in range(4):
        first = first_worker({"LOCAL_RANK": str(rank)}, workers=2)
        used.update(gpu_of(first + slot, gpus)[1] for slot in range(2))
    assert sorted(used.values()) == [2, 2, 2, 2]
    assert first_worker({}, workers=2) == 0


def test_only_what_is_asked_for_is_changed_of_what_a_worker_sees():
    assert worker_environment({"CUDA_VISIBLE_DEVICES": "0,1"}) == {}
    assert worker_environment({"CUDA_VISIBLE_DEVICES": "0,1", VARIABLE: "6,7"}) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "6,7",
        "HIP_VISIBLE_DEVICES": "6,7",
    }


def test_a_worker_sees_the_gpus_of_the_variable_and_its_trainer_sees_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv(VARIABLE, "6,7")
    # "auto" asks Cycles for GPUs, and finds none.
    with Renderer(RenderSettings(64, 48, "draft", device="auto")) as renderer:
        assert renderer.versions["device"] == "CPU" and renderer.worker_gpus == [""]
        (pid,) = renderer.worker_pids
        assert psutil.Process(pid).environ()["CUDA_VISIBLE_DEVICES"] == "6,7"


def test_each_place_tells_once_which_gpu_its_workers_have(capsys):
    worker = SimpleNamespace(gpu="GPU 2 of 3 (0000:02:00)", versions={"device": "OPTIX NVIDIA L4"})
    place = renderer_module._Slot(number=4)
    place.tell_gpu(worker)
    place.tell_gpu(worker)
    renderer_module._Slot(number=5).tell_gpu(SimpleNamespace(gpu="", versions={"device": "CPU"}))
    (line,) = capsys.readouterr().err.splitlines()
    assert "worker 4: OPTIX NVIDIA L4, GPU 2 of 3" in line and "kernels" in line


HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from gpus import turn
with turn(sys.argv[2]):
    print("its turn", flush=True)
    sys.stdin.read()
"""


def holder(path):
    """A process that has or waits for its turn until its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, WORKER_SCRIPT.parent, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_workers_wait_for_whoever_compiles_kernels_even_if_it_is_killed(tmp_path):
    with holder(tmp_path / "kernels.lock") as first:
        assert first.stdout.readline()
        with holder(tmp_path / "kernels.lock") as second:
            assert not select.select([second.stdout], [], [], 0.5)[0]
            first.kill()
            assert second.stdout.readline()


def test_a_turn_ends_with_the_picture_even_if_that_fails(tmp_path):
    path = str(tmp_path / "kernels.lock")
    with pytest.raises(RuntimeError), turn(path):
        raise RuntimeError("no picture")
    with holder(path) as next_one:
        assert next_one.stdout.readline()
        next_one.stdin.close()


def test_where_nothing_can_be_locked_no_one_waits(tmp_path):
    with turn(str(tmp_path / "missing" / "kernels.lock")):
        pass
