"""DiG-Align-v0, its policies, and what an evaluation says of them."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from qwen3_vl import build_model, build_processor
from small import SMALL, SMALL_ENV

import dig_env  # noqa: F401  (registers the environments)
from dig_env.agents.evaluation.align import align_metrics, evaluate_align
from dig_env.agents.policies.align import AlignBlind, AlignOracle
from dig_env.agents.policies.align_chat import chat, messages_of
from dig_env.agents.policies.align_mllm import AlignMLLMPolicy
from dig_env.agents.policies.dialogue import Dialogue
from dig_env.align import TASKS, AlignSettings
from dig_env.envs.align import MAX_PAIRS, observe_turn
from dig_env.scenes import PairDataset, render_dataset

CROP = {"crop_px": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("align") / "pairs"
    render_dataset(path, {"mixed": 8}, "test", SMALL, workers=1)
    return path


def make(folder, task="text_to_box", **arguments):
    arguments = {"filters": CROP, "split": "test"} | arguments
    return gym.make("DiG-Align-v0", dataset=str(folder), task=task, **arguments)


def play(env, policy, **reset):
    """One episode: what was shown, the rewards and the infos."""
    observation, info = env.reset(**reset)
    if isinstance(policy, AlignOracle):
        policy.reveal(env.unwrapped.question)
    dialogue, rewards, infos, terminated = Dialogue([observation]), [], [info], False
    while not terminated:
        (text,) = policy.reply([dialogue]) if not isinstance(policy, str) else (policy,)
        observation, reward, terminated, truncated, info = env.step(text)
        assert not truncated
        dialogue.texts.append(text)
        rewards.append(reward)
        infos.append(info)
        if not terminated:
            dialogue.observations.append(observation)
    return dialogue, rewards, infos


@pytest.mark.parametrize("task", [*TASKS, tuple(TASKS)])
def test_gymnasium_finds_nothing_to_warn_of(folder, task):
    env = make(folder, task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
    env.close()
    env.close()


@pytest.mark.parametrize("coordinates", ["norm1000", "unit"])
@pytest.mark.parametrize("task", TASKS)
def test_the_oracle_earns_everything(folder, task, coordinates):
    env = make(folder, task, coordinates=coordinates)
    oracle = AlignOracle(env.unwrapped.settings)
    for seed in range(4):
        dialogue, rewards, infos = play(env, oracle, seed=seed)
        assert sum(rewards) == pytest.approx(1.0)
        assert len(rewards) == infos[0]["turns"] == len(dialogue.observations)
        assert all(info["right"] == 1.0 and not info["error"] for info in infos[1:])
    env.close()


def test_equal_seeds_give_equal_episodes(folder):
    env, other = make(folder, tuple(TASKS)), make(folder, tuple(TASKS))
    for seed in [3, None, None, None]:
        observation, info = env.reset(seed=seed)
        same, same_info = other.reset(seed=seed)
        assert info == same_info
        assert observation.keys() == same.keys()
        for key in observation:
            np.testing.assert_array_equal(observation[key], same[key])
        assert env.step("yes")[1:] == other.step("yes")[1:]
    env.close()
    other.close()


def test_a_copy_asks_what_the_original_asks(folder):
    env = make(folder, ("relation", "existence"), coordinates="unit")
    copy = pickle.loads(pickle.dumps(env.unwrapped))
    assert copy.reset(seed=5)[1] == env.reset(seed=5)[1]
    assert copy.coordinates == "unit"
    copy.close()
    env.close()


def test_fresh_and_stored_pairs_of_one_seed_are_asked_the_same(folder):
    pair_seed = PairDataset(folder).pair_seeds("mixed", "test")[2]
    prompts = []
    fresh = gym.make("DiG-Align-v0", split="test", filters=CROP, **SMALL_ENV)
    for env in (make(folder), fresh):
        observation, info = env.reset(seed=4, options={"pair_seed": pair_seed})
        prompts.append((observation["prompt"], observation["image"].tobytes(), info))
        env.close()
    assert prompts[0] == prompts[1]
    assert prompts[0][2]["pair_seed"] == pair_seed


def test_one_pair_is_asked_different_things(folder):
    env = make(folder)
    pair_seed = PairDataset(folder).pair_seeds("mixed", "test")[0]
    asked = {env.reset(options={"pair_seed": pair_seed})[0]["prompt"] for _ in range(8)}
    assert len(asked) > 4
    env.close()


def test_several_tasks_are_drawn_alike_and_one_may_be_chosen(folder):
    env = make(folder, ("text_to_box", "existence"))
    drawn = [env.reset(seed=seed)[1]["task"] for seed in range(40)]
    assert 8 < drawn.count("existence") < 32
    for seed in range(4):
        observation, info = env.reset(seed=seed, options={"task": "relation"})
        assert info["task"] == "relation"
        assert observation in env.observation_space
    env.close()


def test_a_task_that_few_images_carry_is_drawn_as_often_as_another(folder):
    env = make(folder, ("description", "text_to_box"), filters=CROP | {"min_area": 0.012})
    pairs = [env.reset(seed=seed)[1] for seed in range(120)]
    described = [info["pair_seed"] for info in pairs if info["task"] == "description"]
    assert 42 < len(described) < 78
    assert len(set(described)) < len({info["pair_seed"] for info in pairs}), "few images carry it"
    env.close()


def test_the_truth_is_told_after_the_answer_and_not_before(folder):
    env = make(folder, "existence")
    _, info = env.reset(seed=1)
    assert {"truth", "right", "read", "iou", "error"}.isdisjoint(info)
    assert info["image"] in "ab"
    *_, after = env.step("perhaps")
    assert after["truth"] in ("yes", "no")
    assert after["right"] == 0.0
    assert "neither" in after["error"]
    env.close()


def test_messages_of_a_conversation_do_not_depend_on_the_answers(folder):
    env = make(folder, "conversation")
    settings = env.unwrapped.settings
    for seed in range(4):
        told = [
            [observation["prompt"] for observation in play(env, policy, seed=seed)[0].observations]
            for policy in (AlignOracle(settings), "[[1, 2, 3, 4]]", "")
        ]
        assert told[0] == told[1] == told[2]
    env.close()


def test_a_conversation_pays_turn_by_turn(folder):
    env = make(folder, "conversation")
    env.reset(seed=1)
    turns = env.unwrapped.question.turns
    oracle = AlignOracle(env.unwrapped.settings)
    oracle.reveal(env.unwrapped.question)
    observation = observe_turn(env.unwrapped.question, 0, env.unwrapped.settings)
    (right,) = oracle.reply([Dialogue([observation])])
    _, reward, terminated, *_ = env.step(right)
    assert reward == pytest.approx(1 / len(turns))
    assert not terminated
    rewards = [env.step("nonsense")[1:3] for _ in turns[1:]]
    assert [reward for reward, _ in rewards] == [0.0] * (len(turns) - 1)
    assert [ended for _, ended in rewards] == [False] * (len(turns) - 2) + [True]
    with pytest.raises(gym.error.ResetNeeded, match="has had its answer"):
        env.step("yes")
    env.close()


def test_what_cannot_be_asked_is_an_error_that_says_so(folder):
    env = make(folder, "box_to_crop", filters={"min_area": 0.2, "max_area": 0.21})
    with pytest.raises(ValueError, match=rf"none of {MAX_PAIRS} pairs.*box_to_crop.*filters"):
        env.reset(seed=0)
    pair_seed = PairDataset(folder).pair_seeds("mixed", "test")[0]
    with pytest.raises(ValueError, match=f"pair_seed={pair_seed} gives nothing.*box_to_crop"):
        env.reset(options={"pair_seed": pair_seed})
    with pytest.raises(gym.error.ResetNeeded):
        env.step("A")
    env.close()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"task": "boxes"}, ValueError, "task='boxes'.*text_to_box"),
        ({"coordinates": "percent"}, ValueError, "percent.*norm1000"),
        ({"filters": {"crop": 1}}, ValueError, "'crop'.*crop_px"),
        ({"reward": "full"}, TypeError, "'reward'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(folder, arguments, error, message):
    with pytest.raises(error, match=message):
        make(folder, **arguments)


def test_a_question_is_drawn_for_people(folder):
    env = make(folder, "conversation", render_mode="rgb_array")
    env.reset(seed=1)
    before = env.render()
    assert before.dtype == np.uint8
    env.step("[[100, 100, 900, 900]]")
    after = env.render()
    assert after.shape == before.shape
    assert (after != before).any()
    env.close()


def test_environments_in_a_vector_play_what_single_ones_play(folder):
    envs = gym.make_vec(
        "DiG-Align-v0", 2, dataset=str(folder), task="text_to_crop", split="test", filters=CROP
    )
    observations, infos = envs.reset(seed=7)
    for index in range(2):
        env = make(folder, "text_to_crop")
        observation, info = env.reset(seed=7 + index)
        assert observations["prompt"][index] == observation["prompt"]
        np.testing.assert_array_equal(observations["crops"][index], observation["crops"])
        assert infos["pair_seed"][index] == info["pair_seed"]
        env.close()
    envs.step(("A", "B"))
    envs.close()


# Policies and evaluation


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_plays_what_the_environment_plays(folder, task):
    arguments = {"dataset": str(folder), "split": "test", "filters": CROP}
    oracle = AlignOracle(AlignSettings(crop_px=32))
    episodes = evaluate_align(oracle, task, episodes=5, seed=3, batch_size=2, **arguments)
    env = make(folder, task)
    for index, episode in enumerate(episodes):
        dialogue, rewards, infos = play(env, oracle, seed=3 if index == 0 else None)
        assert episode.info == infos[0]
        assert list(episode.texts) == dialogue.texts
        assert episode.reward == pytest.approx(sum(rewards))
    env.close()
    numbers = align_metrics(episodes)
    assert numbers["reward"] == pytest.approx([1.0, 1.0, 1.0])
    assert numbers["accuracy"] == [1.0, 1.0, 1.0]
    assert numbers["unread"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("task", TASKS)
def test_the_blind_guess_is_always_readable(folder, task):
    episodes = evaluate_align(
        AlignBlind(), task, episodes=12, dataset=str(folder), filters=CROP, split="test"
    )
    numbers = align_metrics(episodes)
    assert numbers["unread"][0] == 0.0
    assert numbers["reward"][0] < 0.9


def test_yes_and_no_are_counted_as_pope_counts_them(folder):
    episodes = evaluate_align(
        AlignBlind(1), "existence", episodes=40, dataset=str(folder), filters=CROP, split="test"
    )
    counted = {(yes, said): 0 for yes in (True, False) for said in ("yes", "no")}
    for episode in episodes:
        counted[episode.question.turns[0].truth.yes, episode.texts[0]] += 1
    numbers = align_metrics(episodes)
    true_positive, false_positive = counted[True, "yes"], counted[False, "yes"]
    precision = true_positive / (true_positive + false_positive)
    recall = true_positive / (true_positive + counted[True, "no"])
    assert numbers["accuracy"][0] == (true_positive + counted[False, "no"]) / 40
    assert numbers["precision"][0] == pytest.approx(precision)
    assert numbers["recall"][0] == pytest.approx(recall)
    assert numbers["f1"][0] == pytest.approx(2 * precision * recall / (precision + recall))
    assert numbers["yes_rate"][0] == (true_positive + false_positive) / 40
    assert sum(group["episodes"] for group in numbers["by"]["kind"].values()) == 40
    low, high = numbers["accuracy"][1:]
    assert low < numbers["accuracy"][0] < high


def test_numbers_are_of_one_task(folder):
    episodes = evaluate_align(
        AlignBlind(), ("relation", "existence"), episodes=8, dataset=str(folder), split="test"
    )
    with pytest.raises(ValueError, match="existence, relation"):
        align_metrics(episodes)


def test_an_oracle_that_was_not_told_says_how_to_tell_it(folder):
    env = make(folder)
    observation, _ = env.reset(seed=0)
    with pytest.raises(LookupError, match="reveal"):
        AlignOracle(env.unwrapped.settings).reply([Dialogue([observation])])
    env.close()


def test_a_chat_has_a_slot_for_every_picture_in_its_order(folder):
    env = make(folder, "text_to_crop")
    observation, _ = env.reset(seed=2)
    messages, images = chat(Dialogue([observation]))
    slots = [part for part in messages[0]["content"] if part["type"] == "image"]
    assert len(slots) == len(images) == 1 + observation["crop_count"]
    np.testing.assert_array_equal(images[0], observation["image"])
    np.testing.assert_array_equal(images[2], observation["crops"][1])
    assert "<" not in "".join(part.get("text", "") for part in messages[0]["content"])
    assert [m["role"] for m in messages_of(["a", "b"], ["c"])] == ["user", "assistant", "user"]
    env.close()


def test_a_multimodal_model_plays_a_conversation(folder):
    processor = build_processor()
    policy = AlignMLLMPolicy(build_model(processor.tokenizer), processor, max_new_tokens=4)
    episodes = evaluate_align(
        policy, "conversation", episodes=2, dataset=str(folder), filters=CROP, split="test"
    )
    assert all(len(episode.texts) == len(episode.question.turns) for episode in episodes)
