"""verl's own code on exported and live pairs: dataset, reward manager, rollout, configuration.

Runs in .venv-frameworks. Not run here: verl's filter of overlong prompts and its rollout, which
need torchvision (through qwen-vl-utils), and that has no build beside a CPU torch.
"""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
import verl.trainer.config
from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.utils import instantiate
from omegaconf import OmegaConf
from qwen3_vl import build_processor
from tensordict import TensorDict
from torchdata.stateful_dataloader import StatefulDataLoader
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.trainer.ppo.core_algos import compute_gdpo_outcome_advantage
from verl.trainer.ppo.reward import get_custom_reward_fn, load_reward_manager
from verl.trainer.ppo.utils import create_rl_dataset, need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.workers.rollout.replica import TokenOutput

from dig_env import PARTS, REWARDS, format_boxes, instruction, resolve_reward, score
from dig_env.agents.data.export import ExportSettings, export_dataset
from dig_env.agents.integrations import read_truth
from dig_env.agents.integrations.live import LiveSettings, PairActor
from dig_env.scenes import PairDataset, RenderSettings, render_dataset
from dig_env.scenes.dataset.on_ray import RAY_VARIABLES, STORE_BYTES

SMALL = RenderSettings(width=128, height=96, quality="draft", device="cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verl") / "pairs"
    render_dataset(folder, {"single": 3, "mixed": 4}, "train", SMALL)
    render_dataset(folder, {"single": 2}, "validation", SMALL)
    return PairDataset(folder)


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory):
    return export_dataset(dataset, tmp_path_factory.mktemp("verl") / "out", "verl")


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def composed(folder, overrides=()):
    with initialize_config_dir(str(folder), version_base=None):
        return compose("config", overrides=list(overrides))


def test_verls_dataset_gives_the_pairs_pixels_in_a_chat(exported, dataset, processor):
    config = composed(exported, ["data.filter_overlong_prompts=false"]).data
    for stage in ("single", "mixed"):
        file = str(exported / "data" / f"train-{stage}.parquet")
        rows = RLHFDataset(file, processor.tokenizer, config, processor)
        seeds = dataset.pair_seeds(stage, "train")
        assert len(rows) == len(seeds)
        for index, seed in enumerate(seeds):
            row, pair = rows[index], dataset.pair(seed)
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
    settings, dataset, processor, tmp_path
):
    """Through the file, the options and the decoding of tokens that a training run uses."""
    settings = ExportSettings(**settings)
    folder = export_dataset(dataset, tmp_path / "out", "verl", settings)
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
    for index, seed in enumerate(dataset.pair_seeds("mixed", "train")):
        row = rows[index]
        for answer in answers(row["reward_model"]["ground_truth"]):
            rollout = response(row, answer, processor.tokenizer)
            given = manager.loop.run_until_complete(manager.run_single(rollout))
            expected = score(
                ("<think>" if settings.thinking else "") + answer,
                dataset.pair(seed).boxes_unit,
                resolve_reward(settings.reward),
                coordinates=settings.coordinates,
                size=(128, 96),
            )
            assert given["reward_score"] == expected.total
            parts = {name: getattr(expected, name) for name in PARTS}
            assert given["reward_extra_info"] == {"score": expected.total} | parts


def response(row, answer, tokenizer):
    """A rollout's answer as verl hands it to a reward manager: token ids, padded to the right."""
    ids = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
    ids, length = torch.tensor([[*ids, *[tokenizer.pad_token_id] * 3]]), len(ids)
    mask = torch.zeros_like(ids)
    mask[:, :length] = 1
    prompt = torch.full((1, 2), tokenizer.pad_token_id)
    tensors = {
        "prompts": prompt,
        "responses": ids,
        "attention_mask": torch.cat([torch.zeros_like(prompt), mask], dim=1),
    }
    return DataProto(
        batch=TensorDict(tensors, batch_size=1),
        non_tensor_batch={
            key: value for key, value in collate_fn([row]).items() if isinstance(value, np.ndarray)
        },
    )


def leaves(config, prefix=""):
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from leaves(value, name + ".")
        else:
            yield name


def test_every_setting_is_one_that_verl_has_and_the_whole_is_valid(exported):
    with initialize_config_module("verl.trainer.config", version_base=None):
        known = set(leaves(OmegaConf.to_container(compose("ppo_trainer"))))
    own = OmegaConf.load(exported / "config.yaml")
    for key in ("defaults", "hydra"):
        own.pop(key)
    ours = set(leaves(OmegaConf.to_container(own)))
    # The options of the reward function are our own.
    ours = {name for name in ours if ".reward_kwargs." not in name}
    # verl's rollout settings have this one, and its YAML leaves it out.
    assert ours - known == {"actor_rollout_ref.rollout.limit_images"}

    config = composed(exported, ["trainer.n_gpus_per_node=1"])
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert need_reference_policy(config) and not need_critic(config)
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    assert (rollout.n, rollout.prompt_length) == (5, 2048)
    assert omega_conf_to_dataclass(rollout).limit_images == 2
    assert (actor.optim.lr, actor.kl_loss_coef, actor.clip_ratio_high) == (1e-6, 1e-2, 0.3)
    assert config.data.train_batch_size == 2  # the power of two that three pairs fill


@pytest.fixture
def run(exported, tmp_path):
    """Runs an export's script; returns the words of each call of python3, which only records them
    and leaves a checkpoint where asked to."""

    def call(script, *arguments):
        calls = tmp_path / "calls"
        python = tmp_path / "bin" / "python3"
        python.parent.mkdir()
        python.write_text(
            "#!/usr/bin/env bash\n"
            f'printf "%s\\t" "$@" >> {calls}; echo >> {calls}\n'
            'for word in "$@"; do case $word in trainer.default_local_dir=*)\n'
            "    at=${word#*=}; mkdir -p $at; echo 7 > $at/latest_checkpointed_iteration.txt ;;\n"
            "esac; done\n"
        )
        python.chmod(0o755)
        subprocess.run(["cp", "-r", str(exported), str(tmp_path / "out")], check=True)
        subprocess.run(
            ["bash", str(tmp_path / "out" / script), *arguments],
            env=os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"},
            check=True,
        )
        return [line.split("\t")[:-1] for line in calls.read_text().splitlines()]

    return call


def test_the_run_gives_overrides_that_verl_takes_and_chains_the_stages(run):
    lines = run("run.sh", "trainer.nnodes=2")
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


@pytest.fixture
def live(run):
    """The configuration that an export's live.sh gives verl, with overrides of its own."""

    def compose_live(*overrides):
        ((_, _, path, _, *given),) = run("live.sh", *overrides)
        return composed(Path(path.removeprefix("--config-path=")), given)

    return compose_live


@pytest.fixture
def cluster():
    for name, value in (RAY_VARIABLES | {"RAY_worker_niceness": "0"}).items():
        os.environ.setdefault(name, value)
    ray.init(
        "local",
        num_cpus=1,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


def scored(rows, manager, processor, answer):
    """Rewards of a batch's first rows, two rollouts of each, as verl's reward workers give them."""
    given = []
    for index in range(len(rows["raw_prompt"])):
        row = {name: column[index] for name, column in rows.items()}
        text = answer(row["reward_model"]["ground_truth"])
        for _ in range(2):
            rollout = response(row, text, processor.tokenizer)
            result = manager.loop.run_until_complete(manager.run_single(rollout))
            truth = np.array(read_truth(row["reward_model"]["ground_truth"]))
            assert result["reward_score"] == score("<think>" + text, truth).total
            given.append(result["reward_score"])
    return given


def test_fresh_pairs_change_their_stage_within_one_run(live, cluster, processor):
    """The data set draws through verl's factory and data loader; rewards come by its manager."""
    config = live(
        "actor_rollout_ref.rollout.n=2",
        "data.train_batch_size=2",
        "data.dig.ahead=0",
        "data.dig.workers=1",
        "data.dig.curriculum.stages=[single,dual]",
        "+data.dig.curriculum.window=2",
        "+data.dig.render={width: 64, height: 48, quality: draft, device: cpu}",
    )
    dataset = create_rl_dataset(
        config.data.train_files, config.data, processor.tokenizer, processor
    )
    manager = load_reward_manager(config, processor.tokenizer)
    loader = StatefulDataLoader(dataset, 2, collate_fn=collate_fn)
    batches = iter(loader)

    def counts(rows):
        return [len(read_truth(one["ground_truth"])) for one in rows["reward_model"]]

    first = next(batches)
    assert [part["type"] for part in first["raw_prompt"][0][0]["content"]] == ["image"] * 2 + [
        "text"
    ]
    assert first["raw_prompt"][0][0]["content"][0]["image"].size == (64, 48)
    assert scored(first, manager, processor, lambda truth: "</think>[[0,0,9,9]]") == [0.1] * 4
    second = next(batches)
    assert counts(first) == counts(second) == [1, 1]
    assert min(scored(second, manager, processor, "</think>{}".format)) > 0.9
    third = next(batches)
    assert counts(third) == [2, 2]
    assert list(third["index"]) == [4, 5]

    saved = loader.state_dict()
    next(batches)
    loader.load_state_dict(saved)
    assert list(next(iter(loader))["index"]) == [6, 7]


def test_stored_pairs_are_drawn_as_they_are_and_parquet_is_read_by_verl(live, dataset, processor):
    config = live(
        f"data.train_files={dataset.folder}",
        "data.dig.workers=1",
        "data.dig.curriculum={_target_: dig_env.RandomCurriculum, stages: [single, mixed]}",
        "data.filter_overlong_prompts=false",
    )
    settings = OmegaConf.to_container(config.data.dig, resolve=True)
    assert settings["render"] == {"width": 128, "height": 96}
    curriculum = instantiate(settings["curriculum"])
    pairs = PairActor(config.data.train_files, curriculum, LiveSettings(**settings))
    seeds = {seed for stage in curriculum.stages for seed in dataset.pair_seeds(stage, "train")}
    for _ in range(4):
        row = pairs.row()
        found = {
            seed for seed in seeds if np.array_equal(dataset.pair(seed).image_a, row["images"][0])
        }
        ((seed,), truth) = found, row["reward_model"]["ground_truth"]
        assert truth == format_boxes(dataset.pair(seed).boxes_unit, exact=True)
    held_out = create_rl_dataset(config.data.val_files, config.data, processor.tokenizer, processor)
    assert len(held_out) == 2 and held_out[1]["extra_info"] == {"split": "validation", "index": 1}


def test_data_workers_that_could_not_ask_ray_are_refused(live, processor):
    config = live("data.dataloader_num_workers=2")
    with pytest.raises(ValueError, match="dataloader_num_workers=2: give 0"):
        create_rl_dataset(config.data.train_files, config.data, processor.tokenizer, processor)


class Server:
    """What verl's rollout asks, in place of the GPU's engine; it keeps what it was asked."""

    async def generate(self, **asked):
        self.asked = asked
        return TokenOutput(token_ids=[5, 6])


def test_rollouts_forbid_the_tokens_that_stand_for_images(run, processor):
    """By the agent loop that the export names, as verl's workers make and run it."""
    ((_, _, path, _, *given), _, *_) = run("run.sh")
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


def test_the_documented_overrides_for_gdpo_are_taken(exported):
    page = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text()
    overrides = re.findall(r"\+?algorithm\.\w+=[\w\[\],.]+", page)
    algorithm = composed(exported, overrides).algorithm
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
