"""verl's own code on exported pairs: dataset, reward manager, configuration.

Runs in .venv-frameworks. Not run here: verl's filter of overlong prompts, which needs torchvision
(through qwen-vl-utils), and that has no build beside a CPU torch.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import verl.trainer.config
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from qwen3_vl import build_processor
from verl.trainer.ppo.core_algos import compute_gdpo_outcome_advantage
from verl.trainer.ppo.reward import get_custom_reward_fn, load_reward_manager
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl_runs import composed, response

from dig_env import PARTS, REWARDS, instruction, resolve_reward, score
from dig_env.agents.data.export import ExportSettings, export_dataset


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def test_verls_dataset_gives_the_pairs_pixels_in_a_chat(verl_export, verl_pairs, processor):
    config = composed(verl_export, ["data.filter_overlong_prompts=false"]).data
    for stage in ("single", "mixed"):
        file = str(verl_export / "data" / f"train-{stage}.parquet")
        rows = RLHFDataset(file, processor.tokenizer, config, processor)
        seeds = verl_pairs.pair_seeds(stage, "train")
        assert len(rows) == len(seeds)
        for index, seed in enumerate(seeds):
            row, pair = rows[index], verl_pairs.pair(seed)
            (message,) = row["raw_prompt"]
            first, second, text = message["content"]
            assert np.array_equal(np.asarray(first["image"]), pair.image_a)
            assert np.array_equal(np.asarray(second["image"]), pair.image_b)
            assert text == {"type": "text", "text": instruction()}
            assert row["index"] == index and row["data_source"] == "dig"
            prompt = processor.apply_chat_template(
                row["raw_prompt"], add_generation_prompt=True, tokenize=False
            )
            images = [first["image"], second["image"]]
            inputs = processor(text=[prompt], images=images, return_tensors="pt")
            image_tokens = inputs["input_ids"] == processor.image_token_id
            assert image_tokens.sum() == 2 * (128 // 32) * (96 // 32)
            assert inputs["input_ids"].shape[1] <= config.max_prompt_length


def answers(truth_text):
    return [truth_text, f"Perhaps {truth_text}", f"so</think>{truth_text}", "</think>[[0,0,9,9]]"]


@pytest.mark.parametrize(
    "settings", [{}, {"reward": {"match_iou": 0.75}, "coordinates": "pixel", "thinking": False}]
)
def test_verls_reward_loader_and_manager_give_the_games_score(
    settings, verl_pairs, processor, tmp_path
):
    """Through the file, the options and the decoding of tokens that a training run uses."""
    settings = ExportSettings(**settings)
    folder = export_dataset(verl_pairs, tmp_path / "out", "verl", settings)
    path = f"reward.custom_reward_function.path={folder}/reward.py"
    config = composed(folder, [path, "data.filter_overlong_prompts=false"])
    assert get_custom_reward_fn(config) is not None
    manager = load_reward_manager(config, processor.tokenizer)
    rows = RLHFDataset(
        str(folder / "data" / "train-mixed.parquet"),
        processor.tokenizer,
        config.data,
        processor,
    )
    for index, seed in enumerate(verl_pairs.pair_seeds("mixed", "train")):
        row = rows[index]
        for answer in answers(row["reward_model"]["ground_truth"]):
            rollout = response(row, answer, processor.tokenizer)
            given = manager.loop.run_until_complete(manager.run_single(rollout))
            expected = score(
                ("<think>" if settings.thinking else "") + answer,
                verl_pairs.pair(seed).boxes_unit,
                resolve_reward(settings.reward),
                coordinates=settings.coordinates,
                size=(128, 96),
            )
            assert given["reward_score"] == expected.total
            parts = {name: getattr(expected, name) for name in PARTS}
            assert given["reward_extra_info"] == {"score": expected.total} | parts


def leaves(config, prefix=""):
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from leaves(value, name + ".")
        else:
            yield name


def test_every_setting_is_one_that_verl_has_and_the_whole_is_valid(verl_export):
    with initialize_config_module("verl.trainer.config", version_base=None):
        known = set(leaves(OmegaConf.to_container(compose("ppo_trainer"))))
    own = OmegaConf.load(verl_export / "config.yaml")
    for key in ("defaults", "hydra"):
        own.pop(key)
    ours = set(leaves(OmegaConf.to_container(own)))
    # The options of the reward function are our own.
    ours = {name for name in ours if ".reward_kwargs." not in name}
    # verl's rollout settings have this one, and its YAML leaves it out.
    assert ours - known == {"actor_rollout_ref.rollout.limit_images"}

    config = composed(verl_export, ["trainer.n_gpus_per_node=1"])
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert need_reference_policy(config) and not need_critic(config)
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    assert (rollout.n, rollout.prompt_length) == (5, 2048)
    assert omega_conf_to_dataclass(rollout).limit_images == 2
    assert (actor.optim.lr, actor.kl_loss_coef, actor.clip_ratio_high) == (1e-6, 1e-2, 0.3)
    assert config.data.train_batch_size == 2  # the power of two that three pairs fill


def test_the_run_gives_overrides_that_verl_takes_and_chains_the_stages(verl_run):
    lines = verl_run("run.sh", "trainer.nnodes=2")
    model = "Qwen/Qwen3-VL-4B-Thinking"
    for train, merge, stage in zip(lines[::2], lines[1::2], ("single", "mixed"), strict=True):
        assert train[:2] == ["-m", "verl.trainer.main_ppo"]
        assert train[3] == "--config-name=config"
        folder = Path(train[2].removeprefix("--config-path="))
        config = composed(folder, train[4:])  # an unknown override raises
        assert config.data.train_files == str(folder / "data" / f"train-{stage}.parquet")
        assert Path(config.data.train_files).is_file() and Path(config.data.val_files).is_file()
        assert config.trainer.val_before_train == (stage == "single")
        assert config.trainer.nnodes == 2
        assert config.actor_rollout_ref.model.path == model
        assert get_custom_reward_fn(config)("dig", "</think>[]", "[]")["score"] == 1.0
        assert merge[:4] == ["-m", "verl.model_merger", "merge", "--backend"]
        model = str(folder / merge[-1])
        assert merge[-1] == f"checkpoints/{stage}/global_step_7/merged"


def test_the_documented_overrides_for_gdpo_are_taken(verl_export):
    page = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text()
    overrides = re.findall(r"\+?algorithm\.\w+=[\w\[\],.]+", page)
    algorithm = composed(verl_export, overrides).algorithm
    assert algorithm.adv_estimator == "gdpo"
    weights = dict(zip(algorithm.gdpo_reward_keys, algorithm.gdpo_reward_weights, strict=True))
    assert weights == pytest.approx(REWARDS["full"].weights)


def test_gdpo_weighs_the_parts_by_their_names():
    """The parts that ``compute_score`` returns are what verl's GDPO normalises one by one."""
    parts = {"format": [1, 1, 0, 1], "f1": [1, 0, 0, 1], "iou": [0.9, 0.2, 0.0, 0.6]}
    weights = REWARDS["full"].weights
    ones = torch.ones(4, 1)
    advantages, _ = compute_gdpo_outcome_advantage(
        token_level_rewards=ones,
        response_mask=ones,
        index=np.array(["pair"] * 4, dtype=object),
        config=OmegaConf.create(
            {"gdpo_reward_keys": list(parts), "gdpo_reward_weights": list(weights.values())}
        ),
        non_tensor_batch={name: np.array(values) for name, values in parts.items()},
        batch={"prompts": ones, "attention_mask": torch.ones(4, 2, dtype=torch.long)},
    )
    total = 0.0
    for name, values in parts.items():
        column = np.array(values, dtype=float)
        total += weights[name] * (column - column.mean()) / (column.std(ddof=1) + 1e-6)
    expected = (total - total.mean()) / total.std(ddof=1)
    assert advantages[:, 0].numpy() == pytest.approx(expected, abs=1e-4)


def test_the_version_is_the_one_that_this_was_written_for():
    assert verl.__version__.startswith("0.9.")
