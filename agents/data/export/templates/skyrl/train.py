"""SkyRL's own entry point, which knows the environment of these rows; run.sh calls it."""

import sys

import ray
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.entrypoints.main_base import BasePPOExp
from skyrl.train.utils import validate_cfg
from skyrl.train.utils.utils import initialize_ray
from skyrl_gym.envs import register

from dig_env.agents.policies.image_tokens import without_images_of


@ray.remote(num_cpus=1)
def train(config):
    register(id="dig", entry_point="dig_env.agents.integrations.skyrl:DiGEnv")
    BasePPOExp(config).run()


if __name__ == "__main__":
    config = SkyRLTrainConfig.from_cli_overrides(sys.argv[1:])
    # A sampled image token has no image, and the next step fails.
    forbidden = without_images_of(config.trainer.policy.model.path, use_vllm=True)
    for sampling in (config.generator.sampling_params, config.generator.eval_sampling_params):
        sampling.additional_kwargs = (sampling.additional_kwargs or {}) | forbidden
    validate_cfg(config)
    initialize_ray(config)
    ray.get(train.remote(config))
