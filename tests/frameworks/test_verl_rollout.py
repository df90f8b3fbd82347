"""verl's own rollouts of exported pairs, with a stand-in for the engine alone, which needs a GPU.

verl's worker makes the agent loops, builds the tokens with the processor of a small Qwen3-VL, and
pads, scores and collects. The stand-in says what the test wrote. Runs in .venv-frameworks.
"""

import copy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from qwen3_vl import build_processor, save_qwen3_5, save_qwen3_vl
from transformers import AutoProcessor
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker, DictConfigWrap
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.utils.ray_utils import get_event_loop
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens
from verl_runs import composed
from zooms import ANSWER, ASK, ASK_B, tool_call

from dig_env import format_boxes, score
from dig_env.agents.integrations.trl_zoom import zoom_reward
from dig_env.agents.policies.zoom import Dialogue, chat

TURNS, TURN_COST = 3, 0.05
IMAGE_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")


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
    forbidden = processor.tokenizer.convert_tokens_to_ids(list(IMAGE_TOKENS))
    assert server.asked["sampling_params"] == {
        "temperature": 0.5,
        "logit_bias": dict.fromkeys(sorted(forbidden), -100.0),
    }


class Scripted:
    """In place of the engine: says the texts in turn to each rollout, and keeps what it was asked.

    A text ends in the end of the turn, unless it is cut off at the most tokens that it may have.
    """

    def __init__(self, tokenizer, texts):
        self.tokenizer, self.texts, self.asked = tokenizer, texts, {}

    async def generate(self, request_id, prompt_ids, sampling_params, image_data, **_):
        asked = self.asked.setdefault(request_id, [])
        text = self.texts[len(asked)]
        asked.append((list(prompt_ids), sampling_params, list(image_data)))
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        ids = [*ids, self.tokenizer.eos_token_id][: sampling_params["max_tokens"]]
        return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids))


@pytest.fixture(scope="module")
def model(request, tmp_path_factory):
    """The folder of a small model, a Qwen3-VL unless a test asks otherwise, whose processor verl
    loads. verl knows processors by the names of their classes; this one differs from Qwen3-VL's in
    that it has no part for videos."""
    folder = getattr(request, "param", save_qwen3_vl)(tmp_path_factory.mktemp("model"))
    processor = AutoProcessor.from_pretrained(folder)
    processor.__class__ = type("Qwen3VLProcessor", (type(processor),), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoProcessor, "from_pretrained", lambda *_, **__: processor)
        yield folder


@pytest.fixture(scope="module")
def config(verl_export, model, tmp_path_factory):
    """The export's configuration, with zooms."""
    agents = OmegaConf.load(verl_export / "agent.yaml")
    agents[1].turns, agents[1].turn_cost = TURNS, TURN_COST
    path = tmp_path_factory.mktemp("agents") / "agent.yaml"
    OmegaConf.save(agents, path)
    rollout = "actor_rollout_ref.rollout"
    overrides = [
        f"{rollout}.agent.agent_loop_config_path={path}",
        f"{rollout}.agent.default_agent_loop=zoom",
        f"{rollout}.limit_images={TURNS + 1}",
        f"actor_rollout_ref.model.path={model}",
        "reward.custom_reward_function.reward_kwargs.opening=''",
        "data.filter_overlong_prompts=false",
    ]
    return composed(verl_export, overrides)


@pytest.fixture
def zoomed(config, verl_export):
    """Plays two pairs, each in a group of two rollouts, in verl, the engine saying given texts;
    returns what verl's trainer gets, and verl's worker."""

    def play(texts, **changes):
        changed = copy.deepcopy(config)
        for name, value in changes.items():
            OmegaConf.update(changed, name, value)
        worker = AgentLoopWorker(changed, None)
        worker.llm_client = Scripted(worker.tokenizer, texts)
        file = str(verl_export / "data" / "train-mixed.parquet")
        rows = RLHFDataset(file, worker.tokenizer, changed.data, worker.processor)
        batch = DataProto.from_single_dict(collate_fn([rows[0], rows[1]])).repeat(2)
        return get_event_loop().run_until_complete(worker.generate_sequences(batch)), worker

    return play


@pytest.fixture
def env(verl_pairs):
    made = gym.make(
        "DiG-Zoom-v0",
        dataset=str(verl_pairs.folder),
        stage="mixed",
        turns=TURNS,
        turn_cost=TURN_COST,
    )
    yield made
    made.close()


def in_the_game(env, seed, texts):
    """What the environment makes of the texts: the chat, its images, and the sum of its rewards."""
    dialogue, earned = Dialogue([env.reset(options={"pair_seed": seed})[0]]), 0.0
    for text in texts:
        observation, reward, terminated, *_ = env.step(text)
        dialogue.texts.append(text)
        dialogue.observations.append(observation)
        earned += reward
    messages, images = chat(Dialogue(dialogue.observations[:-1], texts[:-1]))
    messages.append({"role": "assistant", "content": [{"type": "text", "text": texts[-1]}]})
    return messages, images, earned, terminated


TRUTH = "the first pair's true boxes"
CALL = {"role": "assistant", "content": "", "tool_calls": [{}]}


@pytest.mark.parametrize(
    "texts",
    [
        [TRUTH],
        ["The left one? " + ASK, TRUTH],
        [tool_call(), ASK_B, ANSWER],
        ["zoom(C, [1, 2])", TRUTH],
        [ASK, ASK, ASK],
    ],
)
def test_a_rollout_sees_and_earns_what_the_game_gives(zoomed, env, verl_pairs, texts):
    """To the last token, pixel and bit, in verl's batch."""
    seeds = list(verl_pairs.pair_seeds("mixed", "train"))[:2]
    pairs = [verl_pairs.pair(seed) for seed in seeds for _ in range(2)]
    texts = [text.replace(TRUTH, format_boxes(pairs[0].boxes_unit, exact=True)) for text in texts]
    played, worker = zoomed(texts)
    for index, pair in enumerate(pairs):
        messages, images, earned, answered = in_the_game(env, pair.plan.seed, texts)
        text = worker.processor.apply_chat_template(messages, tokenize=False).removesuffix("\n")
        expected = worker.processor(text=[text], images=images, return_tensors="pt")
        row, columns = played.batch[index], played[index].non_tensor_batch
        seen = row["attention_mask"].bool()
        assert row["input_ids"][seen].tolist() == expected["input_ids"][0].tolist()
        assert torch.equal(columns["multi_modal_inputs"]["pixel_values"], expected["pixel_values"])
        learned = row["responses"][row["response_mask"].bool()]
        assert worker.tokenizer.decode(learned) == "".join(f"{text}<|im_end|>" for text in texts)

        said = [CALL] * (len(texts) - answered)
        said += [{"role": "assistant", "content": texts[-1]}] * answered
        truth = pair.boxes_unit.tolist()
        assert [columns["score"]] == zoom_reward(TURNS, TURN_COST)(
            completions=[said], truth=[truth]
        )
        assert columns["score"] == pytest.approx(earned, abs=1e-12)
        assert columns["zooms"] == len(texts) - answered
        assert row["rm_scores"].sum() == np.float32(columns["score"])


@pytest.mark.parametrize("model", [save_qwen3_5], indirect=True)
def test_qwen3_5_zooms_too_and_verl_keeps_its_empty_thoughts(zoomed, env, verl_pairs):
    """Which its chat template would drop of all turns but the last."""
    played, worker = zoomed([ASK, ANSWER])
    seed = verl_pairs.pair_seeds("mixed", "train")[0]
    messages, images, *_ = in_the_game(env, seed, [ASK, ANSWER])
    text = worker.processor.apply_chat_template(messages, tokenize=False).removesuffix("\n")
    text = text.replace(f"assistant\n{ASK}", f"assistant\n<think>\n\n</think>\n\n{ASK}")
    expected = worker.processor(text=[text], images=images, return_tensors="pt")
    row = played.batch[0]
    assert row["input_ids"][row["attention_mask"].bool()].equal(expected["input_ids"][0])


def test_the_engine_gets_every_image_for_its_slot_and_forbids_more_of_them(zoomed):
    _, worker = zoomed([ASK, ASK_B, ANSWER])
    forbidden = worker.tokenizer.convert_tokens_to_ids(list(IMAGE_TOKENS))
    for turns in worker.llm_client.asked.values():
        for number, (ids, settings, images) in enumerate(turns):
            assert len(images) == 2 + number
            # As verl hands the tokens to vLLM.
            slots = qwen2_5_vl_dedup_image_tokens(ids, worker.processor)
            assert slots.count(worker.processor.image_token_id) == len(images)
            assert settings["logit_bias"] == dict.fromkeys(sorted(forbidden), -100.0)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Look:</think>" + ASK, "So.</think>" + ANSWER], None),
        (["Look:</think>" + ASK, "So, perhaps " + ANSWER], 0.0),
        (["Perhaps " + ASK], 0.0),
    ],
)
def test_what_a_thought_holds_is_neither_request_nor_answer(zoomed, verl_pairs, texts, expected):
    played, _ = zoomed(texts, **{"reward.custom_reward_function.reward_kwargs.opening": "<think>"})
    if expected is None:
        truth = verl_pairs.pair(verl_pairs.pair_seeds("mixed", "train")[0]).boxes_unit
        expected = score(ANSWER, truth).total
        assert expected > 0
    cost = TURN_COST * (len(texts) - 1)
    assert played.non_tensor_batch["score"][0] == expected - cost


@pytest.mark.parametrize(
    ("text", "requests"), [(ASK, 1), ("I see " + 20 * "much and " + ANSWER, 0)]
)
def test_a_rollout_whose_tokens_are_used_up_ends_without_half_a_picture(zoomed, text, requests):
    played, worker = zoomed([text], **{"actor_rollout_ref.rollout.response_length": 64})
    slots = (played.batch["input_ids"] == worker.processor.image_token_id).sum(1)
    assert slots.tolist() == [2 * (128 // 32) * (96 // 32)] * 4
    assert played.batch["response_mask"].sum(1).max() <= 64
    assert played.non_tensor_batch["score"].tolist() == [-TURN_COST * requests] * 4


def test_an_engine_that_would_refuse_the_zooms_images_is_told_of(zoomed):
    with pytest.raises(InstantiationException, match=r"limit_images=2.*up to 4 images: give 4"):
        zoomed([ANSWER], **{"actor_rollout_ref.rollout.limit_images": 2})
