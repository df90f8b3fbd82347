"""GRPO from a file of settings: the code of the demo with Qwen3-VL. Needs GPUs.

    python examples/train_qwen3_vl.py examples/qwen3_vl/lora_4b.yaml
    python examples/train_qwen3_vl.py examples/qwen3_vl/lora_4b.yaml --steps 10 --out runs/try

What the files ask of a machine, and how to run on eight GPUs: docs/qwen3_vl.md.
"""

import sys

import tyro

from dig_env.agents import train_grpo
from dig_env.agents.training.run_file import read_run
from dig_env.agents.training.settings import GRPORun


def main(arguments: list[str]) -> None:
    """Train as the file says, which comes first; further arguments are settings to change."""
    if not arguments:
        sys.exit("give a file of settings, such as examples/qwen3_vl/lora_4b.yaml")
    file, *changes = arguments
    run = tyro.cli(tyro.conf.OmitArgPrefixes[GRPORun], default=read_run(file), args=changes)
    result = train_grpo(run, lambda step: print(f"step {step.step}  {step}", flush=True))
    if result is None:  # in all but the first of several processes
        return
    print(f"checkpoint: {result.checkpoint}, report: {run.out}/report.html")


if __name__ == "__main__":
    main(sys.argv[1:])
