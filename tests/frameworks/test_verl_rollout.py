"""verl's own rollouts of exported pairs, with a stand-in for the engine alone, which needs a GPU.

Runs in .venv-frameworks.
"""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from qwen3_vl import build_processor
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput
from verl_runs import composed


@pytest.fixture(scope="module")
def processor():
    return build_processor()


class Server:
    """What verl's rollout asks, in place of the GPU's engine; it keeps what it was asked."""

    async def generate(self, **asked):
        self.asked = asked
        return TokenOutput(token_ids=[5, 6])


def test_rollouts_forbid_the_tokens_that_stand_for_images(verl_run, processor):
    """By the agent loop that the export names, as verl's workers make and run it."""
    ((_, _, path, _, *given), _, *_) = verl_run("run.sh")
    config = composed(Path(path.removeprefix("--config-path=")), given)
    agent = config.actor_rollout_ref.rollout.agent
    loops = {loop.name: loop for loop in OmegaConf.load(agent.agent_loop_config_path)}
    server = Server()
    loop = instantiate(
        loops[agent.default_agent_loop],
        trainer_config=DictConfigWrap(config),
        server_manager=server,
        tokenizer=processor.tokenizer,
        processor=processor,
        dataset_cls=RLHFDataset,
        data_config=DictConfigWrap(config.data),
        hf_model_type="qwen3_vl",
    )
    row = {"raw_prompt": [{"role": "user", "content": "No images: those need torchvision."}]}
    output = loop.loop.run_until_complete(loop.run({"temperature": 0.5}, **row))
    assert output.response_ids == [5, 6]
    names = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    forbidden = processor.tokenizer.convert_tokens_to_ids(list(names))
    assert server.asked["sampling_params"] == {
        "temperature": 0.5,
        "logit_bias": dict.fromkeys(sorted(forbidden), -100.0),
    }
