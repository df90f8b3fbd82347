"""verl's own code on live pairs, which are drawn and scored on a Ray cluster.

Runs in .venv-frameworks.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import ray
from hydra.utils import instantiate
from omegaconf import OmegaConf
from qwen3_vl import build_processor
from ray.cluster_utils import Cluster
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.ppo.reward import load_reward_manager
from verl.trainer.ppo.utils import create_rl_dataset
from verl.utils.dataset.rl_dataset import collate_fn
from verl_runs import composed, response

from dig_env import format_boxes, score
from dig_env.agents.integrations import read_truth
from dig_env.agents.integrations.live import LiveSettings, PairActor
from dig_env.agents.integrations.verl import LIVE_PAIRS, compute_zoom_score
from dig_env.scenes.dataset.on_ray import RAY_VARIABLES, STORE_BYTES


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture
def live(verl_run):
    """The configuration that an export's live.sh gives verl, with overrides of its own."""

    def compose_live(*overrides):
        ((_, _, path, _, *given),) = verl_run("live.sh", *overrides)
        return composed(Path(path.removeprefix("--config-path=")), given)

    return compose_live


@pytest.fixture
def renderers():
    """The second node of a cluster of two; the test is on the first, as verl's trainer would be.

    Both have CPUs, and only the second has what pairs ask for.
    """
    for name, value in (RAY_VARIABLES | {"RAY_worker_niceness": "0"}).items():
        os.environ.setdefault(name, value)
    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    second = cluster.add_node(**node, resources={"render": 1})
    ray.init(cluster.address, log_to_driver=False)
    yield second
    ray.shutdown()
    cluster.shutdown()


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


def test_fresh_pairs_change_their_stage_within_one_run(live, renderers, processor):
    """The data set draws through verl's factory and data loader; rewards come by its manager."""
    config = live(
        "actor_rollout_ref.rollout.n=2",
        "data.train_batch_size=2",
        "data.dig.ahead=0",
        "data.dig.workers=1",
        "+data.dig.resources={render: 1}",
        "data.dig.curriculum.stages=[single,dual]",
        "+data.dig.curriculum.window=2",
        "+data.dig.render={width: 64, height: 48, quality: draft, device: cpu}",
    )
    dataset = create_rl_dataset(
        config.data.train_files, config.data, processor.tokenizer, processor
    )
    actor = dataset.dataframe.actor
    node = ray.get(actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()))
    assert node == renderers.node_id != ray.get_runtime_context().get_node_id()
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

    for _ in range(2):  # a pair's rollouts with zooms, and no answer: what they cost counts too
        live = {"index": 4, LIVE_PAIRS: True}
        truth = third["reward_model"][0]["ground_truth"]
        compute_zoom_score("", 3, truth, live, turn_cost=0.25, opening="<think>")
    assert ray.get(actor.state_dict.remote())["curriculum"]["rewards"] == [-0.75]

    saved = loader.state_dict()
    next(batches)
    loader.load_state_dict(saved)
    assert list(next(iter(loader))["index"]) == [6, 7]


def test_stored_pairs_are_drawn_as_they_are_and_parquet_is_read_by_verl(
    live, verl_pairs, processor
):
    config = live(
        f"data.train_files={verl_pairs.folder}",
        "data.dig.workers=1",
        "data.dig.curriculum={_target_: dig_env.RandomCurriculum, stages: [single, mixed]}",
        "data.filter_overlong_prompts=false",
    )
    settings = OmegaConf.to_container(config.data.dig, resolve=True)
    assert settings["render"] == {"width": 128, "height": 96}
    curriculum = instantiate(settings["curriculum"])
    pairs = PairActor(config.data.train_files, curriculum, LiveSettings(**settings))
    seeds = {seed for stage in curriculum.stages for seed in verl_pairs.pair_seeds(stage, "train")}
    for _ in range(4):
        row = pairs.row()
        found = {
            seed
            for seed in seeds
            if np.array_equal(verl_pairs.pair(seed).image_a, row["images"][0])
        }
        ((seed,), truth) = found, row["reward_model"]["ground_truth"]
        assert truth == format_boxes(verl_pairs.pair(seed).boxes_unit, exact=True)
    held_out = create_rl_dataset(config.data.val_files, config.data, processor.tokenizer, processor)
    assert len(held_out) == 2 and held_out[1]["extra_info"] == {"split": "validation", "index": 1}


def test_data_workers_that_could_not_ask_ray_are_refused(live, processor):
    config = live("data.dataloader_num_workers=2")
    with pytest.raises(ValueError, match="dataloader_num_workers=2: give 0"):
        create_rl_dataset(config.data.train_files, config.data, processor.tokenizer, processor)
