"""Put a trained model where the package looks for it, in half the space.

    python examples/warmup/publish.py runs/pipeline/checkpoint tiny

The weights are rounded to float16 in the file and read back as float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dig_env.agents.policies.mllm import EMBEDDED, MLLMPolicy
from dig_env.scenes.files import write_folder_whole


def publish(model: str | Path, name: str) -> Path:
    """Write a model's folder to `EMBEDDED[name]`.

    Args:
        model: folder of a `dig_compact` model and its processor.
        name: "tiny" or "tiny-start".

    Returns:
        The folder written.
    """
    policy = MLLMPolicy.from_pretrained(model, dtype="float32")
    weights = {key: value.half() for key, value in policy.model.state_dict().items()}

    def save(folder: Path) -> None:
        # The configuration still says float32, and that is what the model is loaded as.
        policy.model.save_pretrained(folder, state_dict=weights)
        policy.processor.save_pretrained(folder)

    write_folder_whole(EMBEDDED[name], save)
    return EMBEDDED[name]


if __name__ == "__main__":
    print(publish(*sys.argv[1:]))
