"""GRPO on fresh pairs: groups on one pair, one reward, a stream that follows the curriculum."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image

from agents import GRPORun, MLLMPolicy, train_grpo
from agents.grpo import SkippingTrainer, unfinished
from agents.mllm import EMBEDDED
from agents.rollouts import GroupReward, PairStream
from dig_env import REWARDS, Curriculum, RandomCurriculum, RewardConfig, score
from dig_env.pairs import FreshPairs
from scenes import PAPER_STAGES, PairDataset, render_dataset

SHORT = {
    "pairs_per_step": 4,
    "rollouts": 4,
    "steps": 3,
    "minutes": None,
    "eval_pairs": 3,
    "workers": 1,
    "window": 4,
    "promote_at": 0.01,
}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "short"
    return train_grpo(GRPORun(out=str(out), wandb="offline", beta=0.01, **SHORT))


def test_a_run_trains_promotes_and_leaves_a_policy_that_plays(result, pairs):
    assert [step.step for step in result.steps] == [1, 2, 3]
    assert result.promotions[0][1:] == ("single", "dual")
    state = json.loads((result.checkpoint / "curriculum.json").read_text())
    assert state["stage"] == result.promotions[-1][2]
    policy = MLLMPolicy.from_pretrained(result.checkpoint, max_new_tokens=48)
    pair = pairs["single"][0]
    (answer,) = policy.act([{"image_a": pair.image_a, "image_b": pair.image_b, "prompt": "?"}])
    assert isinstance(answer, str)
    start = MLLMPolicy.from_pretrained(EMBEDDED["tiny-start"]).model.state_dict()
    trained = policy.model.state_dict()
    assert any(not torch.equal(start[name], trained[name]) for name in start)


def test_the_held_out_pairs_are_of_the_test_split_and_the_same_before_and_after(result):
    for stage in PAPER_STAGES:
        before, after = result.before[stage], result.after[stage]
        assert [ep.pair.plan.seed for ep in before] == [ep.pair.plan.seed for ep in after]
        assert all(ep.pair.plan.seed >= 2 * 2**48 for ep in before)
        assert len(before) == 3


def test_the_report_is_one_page_with_everything_in_it(result):
    out = Path(result.run.out)
    page = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for part in ("Held-out pairs", "Worst pairs", "Best pairs", "transformers", "learning_rate"):
        assert part in page
    assert all(stage in page for _, *stages in result.promotions for stage in stages)
    assert Image.open(out / "pairs.png").size[0] > 2 * 128
    assert Image.open(out / "report.png").size[0] > 500
    summary = json.loads((out / "result.json").read_text())
    assert summary["steps"] == 3
    assert summary["held_out"]["dual"]["after"] == result.metrics("after", "dual")


def test_wandb_gets_the_run_offline_with_drawn_pairs(result):
    (folder,) = Path(result.run.out).glob("wandb/offline-run-*")
    assert list(folder.glob("*.wandb"))
    assert len(list(folder.glob("files/media/images/dig/*.png"))) >= 4


def completions(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_the_reward_is_the_games_score_and_the_curriculum_counts_pairs():
    curriculum = Curriculum(promote_at=0.6, window=2)
    logged = {}
    reward = GroupReward(curriculum, RewardConfig(format_weight=0.2), rollouts=2)
    one, other = [[0.1, 0.1, 0.3, 0.3]], [[0.5, 0.5, 0.9, 0.9]]
    texts = [
        "[[100, 100, 300, 300]]",
        "[[100, 100, 300, 200]]",
        "nothing",
        "[[500, 500, 900, 900]]",
    ]
    rewards = reward(
        completions=completions(*texts),
        truth=[one, one, other, other],
        stage=["single"] * 4,
        pair_seed=[7, 7, 8, 8],
        log_metric=logged.__setitem__,
        prompts=None,
    )
    config = RewardConfig(format_weight=0.2)
    expected = [
        score(text, truth, config).total
        for text, truth in zip(texts, [one, one, other, other], strict=True)
    ]
    assert rewards == expected
    # Two pairs are two episodes, with the mean of their rollouts: 0.865 and 0.5 make 0.68.
    assert curriculum.episodes == 2 and curriculum.stage == "dual"
    assert logged["dig/format"] == 0.75 and logged["dig/equal_groups"] == 0.0


def test_pairs_of_an_earlier_stage_are_not_counted():
    curriculum = Curriculum(stages=("single", "dual"), promote_at=0.5, window=1)
    reward = GroupReward(curriculum, RewardConfig(), rollouts=1)
    truth = [[0.1, 0.1, 0.3, 0.3]]
    reward(
        completions=completions(*["[[100, 100, 300, 300]]"] * 3),
        truth=[truth] * 3,
        stage=["single"] * 3,
        pair_seed=[1, 2, 3],
        log_metric=lambda name, value: None,
    )
    assert curriculum.stage == "dual"
    assert curriculum.episodes == 1


def test_a_group_whose_rewards_are_equal_is_counted():
    logged = {}
    reward = GroupReward(Curriculum(), RewardConfig(), rollouts=2)
    reward(
        completions=completions("a", "b", "[[100, 100, 300, 300]]", "c"),
        truth=[[[0.1, 0.1, 0.3, 0.3]]] * 4,
        stage=["single"] * 4,
        pair_seed=[1, 1, 2, 2],
        log_metric=logged.__setitem__,
    )
    assert logged["dig/equal_groups"] == 0.5


@pytest.fixture(scope="module")
def fresh():
    source = FreshPairs(SMALL, "train", workers=1)
    yield source
    source.close()


def take(rows, count):
    return [next(rows) for _ in range(count)]


def test_the_stream_plans_at_the_curriculums_stage_and_only_on_training_seeds(fresh):
    curriculum = Curriculum(promote_at=0.5, window=1)
    rows = PairStream(fresh, curriculum, GRPORun(**SHORT)).rows()
    first = take(rows, 4)
    curriculum.update(1.0)
    later = take(rows, 9)
    assert {row["stage"] for row in first} == {"single"}
    # What was planned ahead is still of the old stage, at most one step of it.
    assert [row["stage"] for row in later][4:] == ["dual"] * 5
    assert all(len(row["truth"]) == 2 for row in later if row["stage"] == "dual")
    assert all(row["pair_seed"] < 2**48 for row in first + later)
    assert np.asarray(first[0]["images"][0]).shape == (96, 128, 3)


def test_equal_seeds_stream_equal_pairs(fresh):
    seeds = [
        [row["pair_seed"] for row in take(PairStream(fresh, Curriculum(), run).rows(), 3)]
        for run in (GRPORun(seed=seed, **SHORT) for seed in (1, 1, 2))
    ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_a_stream_that_is_loaded_hands_out_the_rows_that_were_not_learned(fresh):
    curriculum = Curriculum(promote_at=0.5, window=1)
    stream = PairStream(fresh, curriculum, GRPORun(**SHORT))
    rows = stream.rows()
    take(rows, 8)  # two steps are read, and one is learned
    stream.learned(4)
    state = json.loads(json.dumps(stream.state_dict()))
    curriculum.update(1.0)
    expected = [(row["pair_seed"], row["stage"]) for row in take(rows, 6)]

    again = PairStream(fresh, curriculum, GRPORun(**SHORT))
    again.load_state_dict(state)
    loaded = take(again.rows(), 10)
    assert [(row["pair_seed"], row["stage"]) for row in loaded][4:] == expected
    assert {stage for _, stage in expected} == {"single", "dual"}


def test_a_loaded_stream_keeps_the_stages_that_were_drawn_and_draws_on(fresh):
    run = GRPORun(**SHORT)
    curriculum = RandomCurriculum(seed=1)
    stream = PairStream(fresh, curriculum, run)
    rows = stream.rows()
    first = take(rows, 8)
    stream.learned(4)
    states = json.loads(json.dumps([curriculum.state_dict(), stream.state_dict()]))
    expected = [row["stage"] for row in first[4:] + take(rows, 16)]

    curriculum, alike = (RandomCurriculum(seed=1) for _ in range(2))
    curriculum.load_state_dict(states[0])
    again = PairStream(fresh, curriculum, run)
    again.load_state_dict(states[1])
    assert [row["stage"] for row in take(again.rows(), 20)] == expected
    drawn = [alike.choose() for _ in range(24)]
    assert [row["stage"] for row in first[:4]] + expected == drawn


def test_of_several_processes_each_asks_for_the_pairs_of_its_own_share(fresh):
    """Four pairs of four rollouts: two of each to each of two processes."""
    shares = [
        take(PairStream(fresh, Curriculum(), GRPORun(**SHORT), (rank, 2)).rows(), 8)
        for rank in (0, 1)
    ]
    seeds, other = ([row["pair_seed"] for row in share] for share in shares)
    assert seeds == other
    made = [[bool(row["truth"]) for row in share] for share in shares]
    assert made == [[True, True, False, False] * 2, [False, False, True, True] * 2]


def settings(out, **changes):
    return GRPORun(out=str(out), **(SHORT | {"steps": 4, "save_every": 1} | changes))


class Killed(Exception):
    pass


def killed_after(step):
    def on_step(done):
        if done.step > step:
            raise Killed

    return on_step


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    for split, count in (("train", 12), ("validation", 3), ("test", 3)):
        render_dataset(folder, dict.fromkeys(PAPER_STAGES, count), split, SMALL, workers=1)
    return str(folder)


@pytest.fixture
def one_thread():
    """Two threads add up in an order of their own, and Adam makes steps of the difference."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("fresh_pairs", "make"), [(True, None), (False, None), (False, RandomCurriculum)]
)
def test_an_interrupted_run_goes_on_to_the_same_losses(fresh_pairs, make, stored, tmp_path):
    """Through changes of stage, with pairs planned ahead, at the temperature's own random numbers.

    Under the run's own curriculum, and under one that draws. Bit for bit.
    """
    dataset = None if fresh_pairs else stored

    def train(run, on_step=None):
        return train_grpo(run, on_step, make and make(run.stages))

    straight = train(settings(tmp_path / "straight", dataset=dataset))
    broken = settings(tmp_path / "broken", dataset=dataset)
    with pytest.raises(Killed):
        train(broken, killed_after(2))
    assert unfinished(broken).name == "checkpoint-2"
    report = Path(broken.out, "report.html")
    assert "Not finished: 3 of 4 steps" in report.read_text()
    resumed = train(broken)
    assert "Not finished" not in report.read_text()
    assert unfinished(broken) is None

    def course(result):
        return [(s.step, s.stage, s.reward, s.f1, s.window_mean, s.pairs) for s in result.steps]

    assert course(resumed) == course(straight)
    assert len({step.stage for step in straight.steps}) > 1
    assert resumed.promotions == straight.promotions
    states = [
        json.loads((result.checkpoint / "curriculum.json").read_text())
        for result in (straight, resumed)
    ]
    assert states[0] == states[1]
    one, other = (
        MLLMPolicy.from_pretrained(result.checkpoint).model.state_dict()
        for result in (straight, resumed)
    )
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path):
    run = settings(tmp_path / "run")
    with pytest.raises(Killed):
        train_grpo(run, killed_after(2))
    (tmp_path / "run" / "trainer" / "checkpoint-2" / "progress.json").unlink()
    assert unfinished(run).name == "checkpoint-1"


def test_an_unfinished_run_with_other_settings_is_not_mixed_up(tmp_path):
    with pytest.raises(Killed):
        train_grpo(settings(tmp_path), killed_after(1))
    with pytest.raises(ValueError, match="unfinished run with learning_rate=0.0001, not 1e-06"):
        train_grpo(settings(tmp_path, learning_rate=1e-6))
    with pytest.raises(ValueError, match="of a threshold curriculum, this is a random one"):
        train_grpo(settings(tmp_path), curriculum=RandomCurriculum())


def test_a_curriculum_may_only_choose_stages_of_the_run(tmp_path):
    with pytest.raises(ValueError, match="may choose stage 'mixed'.*single, dual"):
        train_grpo(settings(tmp_path, stages=("single", "dual")), curriculum=Curriculum())


def test_a_run_on_a_dataset_trains_and_evaluates_on_its_pairs(stored, tmp_path):
    result = train_grpo(settings(tmp_path, dataset=stored, eval_every=2, steps=2))
    dataset = PairDataset(stored)
    for stage, episodes in result.after.items():
        seeds = [episode.pair.plan.seed for episode in episodes]
        assert seeds == list(dataset.pair_seeds(stage, "test"))
    assert result.renderer_versions == dataset.manifest.made_with
    assert [step.held_out is None for step in result.steps] == [True, False]
    assert set(result.steps[1].held_out) == set(PAPER_STAGES)


def test_groups_that_say_nothing_are_left_out_of_the_loss(tmp_path, monkeypatch):
    """The loss's divisor counts the tokens of the other groups alone."""
    batches = []
    inner = SkippingTrainer._generate_and_score_completions

    def recorded(self, inputs):
        batches.append(inner(self, inputs))
        return batches[-1]

    monkeypatch.setattr(SkippingTrainer, "_generate_and_score_completions", recorded)
    # Nearly greedy and counted by the box: many groups are of one mind, and some are not.
    cool = {"temperature": 0.15, "reward": REWARDS["f1"]}
    train_grpo(settings(tmp_path, steps=3, save_every=0, **cool))
    silent = heard = 0
    for batch in batches:
        groups = batch["advantages"].view(-1, SHORT["rollouts"])
        tokens = batch["completion_mask"].sum(dim=1).view(-1, SHORT["rollouts"])
        for advantages, counted in zip(groups, tokens, strict=True):
            assert (counted > 0).all() == bool(advantages.any())
            silent += not advantages.any()
            heard += bool(advantages.any())
        assert batch["num_items_in_batch"] == max(1, tokens.sum())
    assert silent and heard


TWO_PROCESSES = """
import json, sys
from accelerate import PartialState
import dig_env
from agents import GRPORun, train_grpo

kind, settings = json.loads(sys.argv[2])
curriculum = getattr(dig_env, kind)(**settings)
result = train_grpo(GRPORun(**json.loads(sys.argv[1])), curriculum=curriculum)
rank = PartialState().process_index
assert (result is None) == (rank > 0)
with open(f"{sys.argv[3]}/{rank}.json", "w") as file:
    json.dump([curriculum.state_dict(), curriculum.choose()], file)
"""


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("Curriculum", {"promote_at": 0.01, "window": 4}), ("RandomCurriculum", {"seed": 1})],
)
def test_two_processes_choose_the_same_stages(kind, settings, tmp_path):
    """Under accelerate, on the CPU by gloo: each scores half of the rollouts."""
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    fields = SHORT | {"out": str(tmp_path / "run"), "steps": 3, "eval_pairs": 1}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    arguments = [json.dumps(fields), json.dumps([kind, settings]), str(tmp_path)]
    subprocess.run(
        [*launcher, str(script), *arguments],
        check=True,
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parent.parent), "ACCELERATE_USE_CPU": "1"},
        timeout=300,
    )
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one == other
    assert one[0]["episodes"] > 0
    assert bool(one[0]["history"]) == (kind == "Curriculum")


@pytest.mark.parametrize("name", ["DAPO", "Dr. GRPO", "GSPO", "KL and clip-higher"])
def test_the_variants_of_the_training_page_are_settings_of_trl(name, tmp_path):
    """docs/training.md lists them in a table, as dictionaries."""
    page = Path(__file__).parent.parent.joinpath("docs", "training.md").read_text()
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {name} |"))
    trl = ast.literal_eval(line.split("`")[1])
    result = train_grpo(settings(tmp_path, steps=1, eval_pairs=0, save_every=0, trl=trl))
    assert len(result.steps) == 1


def test_a_steps_rollouts_may_go_through_the_model_in_parts(tmp_path):
    run = settings(tmp_path, steps=1, eval_pairs=0, trl={"per_device_train_batch_size": 4})
    assert [step.pairs for step in train_grpo(run).steps] == [4]


def test_parts_that_do_not_make_a_step_are_refused(tmp_path):
    with pytest.raises(ValueError, match="4 x rollouts=4 is not per_device_train_batch_size=5"):
        train_grpo(settings(tmp_path, eval_pairs=0, trl={"per_device_train_batch_size": 5}))


def test_a_model_that_does_not_exist_is_named(tmp_path):
    missing = tmp_path / "no-such-model"
    with pytest.raises(FileNotFoundError, match="no-such-model.*load_tiny"):
        train_grpo(GRPORun(out=str(tmp_path / "run"), model=str(missing)))
    tmp_path.joinpath("empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no complete model"):
        MLLMPolicy.from_pretrained(tmp_path / "empty")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rollouts": 1}, "2 or more"),
        ({"steps": 0}, "steps=0"),
        ({"eval_pairs": 0, "eval_every": 5}, "needs eval_pairs"),
        ({"stages": ("single", "triple")}, "unknown stage 'triple'"),
        ({"wandb": "on"}, "disabled, offline, online"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(fields, message):
    with pytest.raises(ValueError, match=message):
        GRPORun(**fields)
