"""Who plays DiG-Zoom-v0: the oracle, a chat with a Qwen3-VL in miniature, and TRL."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image
from qwen3_vl import build_model, build_processor, register, save_qwen3_vl
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_vl_chat_template
from zooms import ANSWER, ASK, CALL, SIZE, TINY, make, tool_call

import dig_env
from dig_env.agents.evaluation.pairs import pair_seeds
from dig_env.agents.evaluation.zoom import play_zoom, zoom_metrics
from dig_env.agents.integrations.trl_zoom import ZoomEnvironment, zoom_reward
from dig_env.agents.policies.zoom import (
    Dialogue,
    ZoomMLLMPolicy,
    ZoomOraclePolicy,
    chat,
)
from dig_env.scenes import PairDataset, render_dataset

LIVE = {"width": 64, "height": 48, "quality": "draft", "device": "cpu", "split": "test"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("zoom") / "pairs"
    render_dataset(path, {"dual": 4}, "train", TINY, workers=1)
    return path


@pytest.fixture
def env(folder):
    made = make(folder, turns=3, turn_cost=0.05)
    yield made
    made.close()


def test_the_oracle_looks_at_each_difference_and_answers_exactly(env):
    seen = []
    for episode in play_zoom(ZoomOraclePolicy(), env, 3, on_episode=seen.append):
        truth = episode.pair.boxes_unit
        _, *later = episode.dialogue.observations
        assert [int(o["shown"]) for o in later] == [1, 2]
        half = 0.5 / np.array(SIZE)
        for observation, box in zip(later, truth, strict=True):
            assert (observation["region"][:2] <= box[:2] + half).all()
            assert (observation["region"][2:] >= box[2:] - half).all()
        assert episode.reward == pytest.approx(1.0 - 2 * 0.05)
    metrics = zoom_metrics(seen)
    assert metrics["f1"] == 1.0 and metrics["turns"] == 3 and metrics["truncated"] == 0


def test_the_oracle_answers_when_its_turns_are_over(folder):
    made = make(folder, turns=2)
    (episode,) = play_zoom(ZoomOraclePolicy(), made, 1)
    assert len(episode.dialogue.texts) == 2 and episode.reward == pytest.approx(1.0)
    made.close()


def test_the_pairs_played_are_those_of_an_evaluation():
    made = gym.make("DiG-Zoom-v0", **LIVE)
    played = play_zoom(ZoomOraclePolicy(), made, 2, seed=0)
    seeds = pair_seeds(0, "test")
    assert [episode.pair.plan.seed for episode in played] == [next(seeds), next(seeds)]
    made.close()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_qwen3_vl(tmp_path_factory.mktemp("qwen3_vl"))


def dialogue_of(env, *texts):
    dialogue = Dialogue([env.reset(seed=0)[0]])
    for text in texts:
        dialogue.texts.append(text)
        dialogue.observations.append(env.step(text)[0])
    return dialogue


def test_a_dialogue_becomes_a_chat_with_its_own_words_and_pictures(env):
    dialogue = dialogue_of(env, "Look: " + ASK, "zoom(A)")
    messages, images = chat(dialogue)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2 + ["user"]
    slots = [[part["type"] for part in message["content"]] for message in messages]
    assert slots == [["image", "image", "text"], ["text"], ["image", "text"], ["text"], ["text"]]
    assert messages[1]["content"][0]["text"] == "Look: " + ASK
    shown = [dialogue.observations[0][key] for key in ("image_a", "image_b")]
    shown.append(dialogue.observations[1]["zoom"])
    for image, array in zip(images, shown, strict=True):
        np.testing.assert_array_equal(np.asarray(image), array)


def test_a_model_sees_each_zoom_in_its_place(env, model_folder):
    policy = ZoomMLLMPolicy.from_pretrained(model_folder, device="cpu", max_new_tokens=8)
    inputs = []
    hook = policy.model.register_forward_pre_hook(
        lambda module, args, kwargs: inputs.append(kwargs), with_kwargs=True
    )
    short, long = dialogue_of(env), dialogue_of(env, ASK)
    # Together and alone: padding must not change what is said.
    together = policy.reply([short, long])
    assert together == [policy.reply([short])[0], policy.reply([long])[0]]
    hook.remove()
    images = policy.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    per_image = 2  # tokens of a picture of 64x48, seen at 64x32 or 64x64
    counts = (inputs[0]["input_ids"] == images).sum(1).tolist()
    assert counts[1] * 2 == counts[0] * 3 and counts[0] % (2 * per_image) == 0
    text = policy.processor.tokenizer.decode(inputs[0]["input_ids"][1])
    assert f"<|im_start|>assistant\n{ASK}<|im_end|>" in text
    assert text.index("assistant") < text.rindex("<|vision_start|>")


def test_what_a_model_says_depends_on_the_zoom(env, model_folder):
    policy = ZoomMLLMPolicy.from_pretrained(model_folder, device="cpu", max_new_tokens=1)
    dialogue = dialogue_of(env, ASK)
    logits = []
    hook = policy.model.register_forward_hook(
        lambda module, args, output: logits.append(output.logits[:, -1])
    )
    policy.reply([dialogue])
    dialogue.observations[1] = dialogue.observations[1] | {
        "zoom": 255 - dialogue.observations[1]["zoom"]
    }
    policy.reply([dialogue])
    hook.remove()
    assert (logits[0] - logits[1]).abs().max() > 1e-2


def test_a_model_plays_whole_episodes(folder, model_folder):
    made = make(folder, turns=2)
    policy = ZoomMLLMPolicy.from_pretrained(model_folder, device="cpu", max_new_tokens=8)
    for episode in play_zoom(policy, made, 2):
        (text,) = episode.dialogue.texts  # knows nothing of requests
        expected = dig_env.score(text, episode.pair.boxes_unit)
        assert episode.reward == expected.total
    made.close()


# TRL.


def call(**arguments):
    """A tool call as TRL holds it after it has parsed the model's text."""
    return {"type": "function", "function": CALL | {"arguments": CALL["arguments"] | arguments}}


def asked(*calls):
    return {"role": "assistant", "content": "", "tool_calls": list(calls)}


def answered(text):
    return {"role": "assistant", "content": text}


TOOL = {"role": "tool", "name": "zoom", "content": [{"type": "text", "text": "2 zooms are left."}]}


@pytest.fixture
def rows(folder):
    pairs = PairDataset(folder)
    shown = [pairs.pair(seed) for seed in pairs.pair_seeds("dual", "train")[:2]]
    prompt = [{"role": "user", "content": dig_env.instruction()}]
    return [
        {
            "prompt": prompt,
            "images": [Image.fromarray(pair.image_a), Image.fromarray(pair.image_b)],
            "truth": pair.boxes_unit.tolist(),
        }
        for pair in shown
    ]


def test_trls_tool_shows_what_the_environment_shows(env, rows):
    observation = env.reset(seed=0)[0]
    images = [Image.fromarray(observation[key]) for key in ("image_a", "image_b")]
    tool = ZoomEnvironment(turns=3)
    assert "up to 2 times" in tool.reset(**(rows[0] | {"images": images}))
    for image in "AB":
        picture, text = tool.zoom(image, CALL["arguments"]["bbox_2d"])
        expected = env.step(ASK.replace("A", image))[0]["zoom"]
        np.testing.assert_array_equal(np.asarray(picture["image"]), expected)
        assert picture["type"] == "image" and "left" in text["text"]
    with pytest.raises(ValueError, match="no zoom is left"):
        tool.zoom("A", [0, 0, 1000, 1000])


def test_trl_hears_why_a_call_was_not_granted(rows):
    tool = ZoomEnvironment()
    tool.reset(**rows[0])
    with pytest.raises(ValueError, match='"A" or "B"'):
        tool.zoom("C", [0, 0, 1000, 1000])
    with pytest.raises(ValueError, match="four numbers"):
        tool.zoom("A", [0, 0, 1000])


@pytest.mark.parametrize(
    ("completion", "texts"),
    [
        ([answered(ANSWER)], [ANSWER]),
        ([asked(call()), TOOL, answered(ANSWER)], [ASK, ANSWER]),
        ([asked(call()), TOOL, asked(call()), TOOL, answered(ANSWER)], [ASK, ASK, ANSWER]),
        ([asked(call()), TOOL] * 2 + [asked(call())], [ASK] * 3),
        ([asked(call()), TOOL] * 3 + [answered(ANSWER)], [ASK] * 3),
    ],
)
def test_trls_reward_is_the_sum_of_the_environments(env, completion, texts):
    env.reset(seed=0)
    truth = env.unwrapped.pair.boxes_unit.tolist()
    expected = sum(env.step(text)[1] for text in texts)
    reward = zoom_reward(turns=3, turn_cost=0.05)
    assert reward(completions=[completion], truth=[truth]) == [pytest.approx(expected, abs=1e-12)]


def test_a_rollout_that_was_cut_off_after_a_call_has_no_answer(rows):
    truth = [rows[0]["truth"]]
    for completion in ([asked(call())], [asked(call()), TOOL]):
        assert zoom_reward()(completions=[completion], truth=truth) == [0.0]


def test_trl_trains_through_zooms(rows, tmp_path):
    """Qwen3-VL's classes and its own template. Each call and each answer is a token that ends the
    turn, so that a model that knows nothing says both."""
    register()
    processor = build_processor()
    processor.chat_template = qwen3_vl_chat_template
    boxes = [[x, y, x + 250, y + 250] for x in range(0, 751, 50) for y in range(0, 751, 50)]
    calls = [tool_call(arguments={"image": "A", "bbox_2d": box}) for box in boxes]
    processor.tokenizer.add_tokens(calls)
    model = build_model(processor.tokenizer)
    says = processor.tokenizer.get_added_vocab()
    ends = [token for text, token in says.items() if text[0] == "[" or text in calls]
    model.generation_config.eos_token_id += ends
    # A random model would also say these, and TRL would look for the pictures.
    pads = [says["<|image_pad|>"], says["<|video_pad|>"]]
    rollouts = []

    def watch(completions, log_metric, **columns):
        rollouts.extend(completions)
        return zoom_reward(turns=2)(completions=completions, log_metric=log_metric, **columns)

    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        environment_factory=partial(ZoomEnvironment, turns=2),
        reward_funcs=watch,
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=512,
            max_tool_calling_iterations=2,
            generation_kwargs={"suppress_tokens": pads},
            max_steps=1,
            learning_rate=1e-3,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            seed=0,
        ),
    )
    seen = []
    model.model.visual.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    before = [parameter.detach().clone() for parameter in model.parameters()]
    trainer.train()
    roles = [[message["role"] for message in rollout] for rollout in rollouts]
    assert ["assistant", "tool", "assistant"] in roles
    # It learns from the zooms too: the last pass of the model sees each that was granted.
    shown = [isinstance(m["content"], list) for r in rollouts for m in r if m["role"] == "tool"]
    assert seen[-1] == 2 * len(rollouts) + sum(shown) > 2 * len(rollouts)
    assert any((p != q).any() for p, q in zip(before, model.parameters(), strict=True))
