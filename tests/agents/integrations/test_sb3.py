"""Stable-Baselines3: what our adapter adds to it, and the example that trains with it."""

import importlib
import json
import sys
import threading

import gymnasium as gym
import numpy as np
import pytest
import torch
import wandb
from gymnasium.utils.env_checker import data_equivalence
from paths import ROOT
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dig_env import NumericVectorView, NumericView
from dig_env.agents import evaluate_stored
from dig_env.agents.integrations.sb3 import PairsInMemory, SB3Policy, SB3Vector, SpatialMoments
from dig_env.scenes import STAGES, PairDataset, available_cores
from dig_env.testing import check_policy

TINY = {
    "seeds": (0,),
    "train_pairs": 4,
    "validation_pairs": 2,
    "test_pairs": 3,
    "shape": (24, 32),
    "steps": 16,
    "envs": 2,
    "envs_steps": 4,
    "batch_size": 4,
    "curve_every": 1,
}


@pytest.fixture(scope="module")
def sb3_ppo():
    folder = str(ROOT / "examples" / "reproduce")
    sys.path.insert(0, folder)
    yield importlib.import_module("sb3_ppo")
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def settings(sb3_ppo, tmp_path_factory):
    out = tmp_path_factory.mktemp("sb3")
    folders = {"pairs": out / "pairs", "runs": out / "runs", "out": out / "ppo.json"}
    return sb3_ppo.Settings(**TINY, **folders, wandb="offline")


@pytest.fixture(scope="module")
def results(sb3_ppo, settings):
    sb3_ppo.main(settings)
    return json.loads(settings.out.read_text())


def test_the_example_renders_trains_and_leaves_its_results(settings, results):
    assert results["steps"] == [16]
    curve = results["curves"]["0"]
    assert [point["steps"] for point in curve] == [8, 16, 16]
    assert all(point["played_single"] == 1.0 for point in curve)
    assert set(results["held_out"]) == {"before", "after", "pixel difference"}
    assert (settings.runs / "curve.png").stat().st_size > 1000


def test_an_example_that_is_run_again_trains_only_what_is_missing(sb3_ppo, settings, results):
    trained = settings.runs / "seed0" / "outcome.json"
    before = trained.stat().st_mtime_ns
    sb3_ppo.main(settings)
    assert trained.stat().st_mtime_ns == before


def test_tensorboard_reads_the_curve_from_the_run(settings, results):
    events = EventAccumulator(str(settings.runs / "seed0"))
    events.Reload()
    points = results["curves"]["0"]
    for name in set(points[0]) - {"steps", "seconds"}:
        logged = [(event.step, event.value) for event in events.Scalars(f"dig/{name}")]
        assert logged == [(point["steps"], pytest.approx(point[name])) for point in points], name


def test_wandb_gets_the_run_offline_and_it_is_finished(settings, results):
    (run,) = (settings.runs / "seed0").glob("wandb/offline-run-*/run-*.wandb")
    assert run.stat().st_size > 0
    assert wandb.run is None


@pytest.fixture(scope="module")
def view(settings, results):
    env = gym.make("DiG-v0", dataset=PairsInMemory(settings.pairs, "train"))
    return NumericView(env, shape=TINY["shape"], max_boxes=2)


def test_a_model_that_was_saved_is_a_policy_like_any_other(settings, results, view, tmp_path):
    extractor = {"features_extractor_class": SpatialMoments}
    PPO("CnnPolicy", view, n_steps=4, batch_size=4, policy_kwargs=extractor).learn(4).save(
        tmp_path / "model"
    )
    policy = SB3Policy(PPO.load(tmp_path / "model"), view)
    check_policy(policy, deterministic=True)
    report = evaluate_stored(policy, settings.pairs)
    assert len(report.episodes) == 3


def test_ppo_learns_from_a_vector_what_it_learns_from_single_environments(settings, results):
    """To the last bit: seeds, pairs, rewards and last observations are the same."""
    view = {"shape": (24, 32)}

    def single():
        return NumericView(gym.make("DiG-v0", dataset=settings.pairs), **view)

    def vector():
        envs = gym.make_vec("DiG-v0", 3, autoreset_mode="Disabled", dataset=settings.pairs)
        return SB3Vector(NumericVectorView(envs, **view))

    def plain(info):  # a vector's numbers are NumPy's
        return {key: v.item() if isinstance(v, np.generic) else v for key, v in info.items()}

    weights, handed = [], []
    for make in (lambda: DummyVecEnv([single] * 3), vector):
        envs = make()
        extractor = {"features_extractor_class": SpatialMoments}
        model = PPO("CnnPolicy", envs, n_steps=4, batch_size=6, policy_kwargs=extractor, seed=4)
        model.learn(24)
        weights.append(torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach())
        envs.seed(1)
        first = envs.reset()
        *arrays, seen = envs.step(np.zeros((3, 4), np.float32))
        handed.append((first, *arrays, *map(plain, (*seen, *envs.reset_infos))))
        envs.close()
    assert torch.equal(*weights)
    assert data_equivalence(*handed)


def test_a_vector_hands_attributes_methods_and_pictures_to_stable_baselines(settings, results):
    envs = SB3Vector(
        NumericVectorView(
            gym.make_vec(
                "DiG-v0",
                2,
                autoreset_mode="Disabled",
                dataset=settings.pairs,
                render_mode="rgb_array",
            )
        )
    )
    envs.set_options({"pair_seed": PairDataset(settings.pairs).pair_seeds("single", "train")[0]})
    envs.reset()
    assert len({info["pair_seed"] for info in envs.reset_infos}) == 1
    envs.set_attr("stage", "dual", indices=1)
    assert envs.get_attr("stage") == ["single", "dual"] and envs.get_attr("stage", 1) == ["dual"]
    envs.set_attr("stage", "single")
    assert envs.env_method("has_wrapper_attr", "stage") == [True, True]
    assert envs.render().ndim == 3
    assert VecMonitor(envs).reset().shape == (2, 7, 96, 128)
    with pytest.raises(ValueError, match="method of all environments"):
        envs.env_method("close", indices=[0])
    envs.set_options([{"stage": "dual"}, {}])
    with pytest.raises(ValueError, match="give the same to all"):
        envs.reset()
    envs.close()


def test_a_vector_that_resets_by_itself_is_refused(settings, results):
    envs = NumericVectorView(gym.make_vec("DiG-v0", 2, dataset=settings.pairs))
    with pytest.raises(ValueError, match='autoreset_mode="Disabled"'):
        SB3Vector(envs)
    envs.close()


def test_a_pair_is_decoded_once(settings, results):
    pairs = PairsInMemory(settings.pairs, "train")
    seed = pairs.pair_seed(1, "single")
    first = pairs.submit(seed, STAGES["single"]).result()
    assert pairs.submit(seed, STAGES["single"]).result() is first
    pairs.close()


def test_an_environment_calls_off_no_pair_that_another_one_waits_for(settings, results):
    pairs = PairsInMemory(settings.pairs, "train")
    one, other = (gym.make("DiG-v0", dataset=pairs).unwrapped for _ in range(2))
    readers_are_free = threading.Event()
    for _ in range(available_cores()):
        pairs._readers.submit(readers_are_free.wait)
    one.prefetch(options={"pair_seed": pairs.pair_seed(0, "single")})
    other.prefetch(options={"pair_seed": pairs.pair_seed(0, "single")})
    one.close()
    readers_are_free.set()
    other.reset(options={"pair_seed": pairs.pair_seed(0, "single")})
    pairs.close()


def extractor_that_sees_bright_pixels(**settings):
    """Its second convolution hands on the brightness under the middle of the kernel, 20-fold."""
    extractor = SpatialMoments(gym.spaces.Box(0, 1, (1, 48, 64)), channels=4, **settings)
    with torch.no_grad():
        for convolution, weight in (
            (extractor.convolutions[0], 1.0),
            (extractor.convolutions[2], 20.0),
        ):
            middle = convolution.kernel_size[0] // 2
            convolution.weight.zero_()
            convolution.bias.zero_()
            channels = range(min(convolution.weight.shape[:2]))
            for channel in range(4):
                convolution.weight[channel, channel % len(channels), middle, middle] = weight
    return extractor


def places(extractor, *bright):
    """(channels, 2) x and y that the extractor sees, of 4x4 bright squares at (row, column)."""
    image = torch.zeros(1, 1, 48, 64)
    for row, column in bright:
        image[..., row : row + 4, column : column + 4] = 1.0
    with torch.no_grad():
        return extractor(image)[0, :8].reshape(4, 2).numpy()


@pytest.mark.parametrize("stride", [2, 4])
def test_spatial_moments_tell_the_place_in_the_frame_of_the_actions(stride):
    extractor = extractor_that_sees_bright_pixels(stride=stride)
    for row, column in ((0, 0), (20, 40), (44, 60)):
        x, y = (column + 2) / 32 - 1, (row + 2) / 24 - 1
        np.testing.assert_allclose(places(extractor, (row, column)), [[x, y]] * 4, atol=0.1)


def test_with_a_slope_each_of_four_channels_finds_the_farthest_of_two_on_its_side():
    left, right = (20, 8), (20, 52)
    flat = places(extractor_that_sees_bright_pixels(), left, right)
    np.testing.assert_allclose(flat[:, 0], 0.0, atol=0.08)
    tilted = places(extractor_that_sees_bright_pixels(slope=6.0), left, right)
    # The first channel's plane rises to the right, the third one's to the left.
    assert tilted[0, 0] > 0.6 and tilted[2, 0] < -0.6
