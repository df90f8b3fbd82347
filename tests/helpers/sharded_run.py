"""A run file's run on the small Qwen3-VL in processes that share its weights, on the CPU.

accelerate shards on accelerators alone, although PyTorch (FSDP2) does so anywhere; lifting that one
restriction is all that is done to it here.
"""

import os
from dataclasses import replace
from pathlib import Path

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from qwen3_vl import miniature, register

from dig_env.agents import train_grpo
from dig_env.agents.training.run_file import read_run

RUNS = Path("examples/qwen3_vl")


def launch_with(file: str) -> None:
    """Set the environment that `accelerate launch` sets, and let FSDP be on the CPU."""
    arguments = launch_command_parser().parse_args(["--config_file", file, "script.py"])
    wanted = prepare_multi_gpu_env(_validate_launch_command(arguments)[0])
    os.environ |= {
        key: value for key, value in wanted.items() if key.startswith(("FSDP_", "ACCELERATE_"))
    }
    start = AcceleratorState.__init__

    def start_sharded(self, *args, fsdp_plugin=None, **kwargs):
        start(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            fsdp_plugin.set_mixed_precision(self.mixed_precision)
            self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = start_sharded


def train(model: str, out: str, fsdp: str, name: str, eval_pairs: int) -> None:
    """Train two steps.

    Args:
        model: the small model's folder.
        out: where to.
        fsdp: the file for `accelerate launch`, or "none" for a whole model in each process.
        name: of the run file.
        eval_pairs: to be evaluated on.
    """
    register()
    if fsdp != "none":
        launch_with(fsdp)
    run = miniature(read_run(RUNS / f"{name}.yaml"), model, out)
    shown = {"steps": 2, "learning_rate": 1e-3, "minutes": None, "eval_pairs": eval_pairs}
    train_grpo(replace(run, **shown))
