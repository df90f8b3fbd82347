"""The architecture of the large models goes through the code that the embedded one goes through."""

import json
import shutil
from dataclasses import dataclass
from itertools import groupby, takewhile

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from qwen3_vl import MERGE, PATCH, save_qwen3_5, save_qwen3_vl
from transformers import GenerationMixin

from dig_env import parse_boxes
from dig_env.agents import GRPORun, MLLMPolicy, train_grpo
from dig_env.agents.policies.mllm import pair_messages
from dig_env.agents.policies.thinking import set_thinking

NEW_TOKENS = 12
SIZES = ((64, 64), (64, 128))
"""(height, width) in pixels of the two observations' images."""
PROMPTS = ("Which?", "Find every difference between the two images.")

SHORT_RUN = {
    "stages": ("single",),
    "width": 64,
    "height": 48,
    "workers": 1,
    "pairs_per_step": 2,
    "rollouts": 4,
    "steps": 2,
    "minutes": None,
    "temperature": 1.0,
    "max_completion_length": 1,  # the length of an answer
    "eval_pairs": 1,
}


@pytest.fixture(scope="module")
def qwen3_vl(tmp_path_factory):
    return save_qwen3_vl(tmp_path_factory.mktemp("qwen3_vl"))


@pytest.fixture(scope="module", params=["qwen3_vl", "qwen3_5"])
def folder(request, qwen3_vl, tmp_path_factory):
    """Each generation's model; how it trains is the run files' test (test_qwen3_vl_runs.py)."""
    if request.param == "qwen3_vl":
        return qwen3_vl
    return save_qwen3_5(tmp_path_factory.mktemp("qwen3_5"))


@pytest.fixture(scope="module")
def policy(folder):
    return MLLMPolicy.from_pretrained(folder, device="cpu", max_new_tokens=NEW_TOKENS)


@pytest.fixture(scope="module")
def observations():
    """Two pairs of noise that differ in everything: pixels, image size, length of the prompt."""
    rng = np.random.default_rng(0)
    return [
        {
            "image_a": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
            "image_b": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
            "prompt": prompt,
        }
        for size, prompt in zip(SIZES, PROMPTS, strict=True)
    ]


@dataclass(frozen=True)
class Seen:
    """What the model was given and what it made of it, as its own forward passes show it.

    Attributes:
        prompts: (B, L) token ids of the first pass, with padding.
        patches: (P, D) pixels that the vision tower got, in [-1, 1].
        grids: (images, 3) patches of each image along time, height and width.
        logits: (B, V), of the first new token.
        tokens: (B, new tokens) that were most likely, step by step.
    """

    prompts: torch.Tensor
    patches: torch.Tensor
    grids: torch.Tensor
    logits: torch.Tensor
    tokens: torch.Tensor


def act_and_watch(policy, observations):
    """The answers of a greedy policy, and what its model saw."""
    passes, pictures = [], []

    def watch_pass(module, args, kwargs, output):
        passes.append((kwargs["input_ids"], output.logits[:, -1]))

    def watch_pictures(module, args, kwargs, output):
        pictures.append((args[0], kwargs["grid_thw"]))

    model = policy.model
    hooks = [
        model.register_forward_hook(watch_pass, with_kwargs=True),
        model.model.visual.register_forward_hook(watch_pictures, with_kwargs=True),
    ]
    try:
        answers = policy.act(observations)
    finally:
        for hook in hooks:
            hook.remove()
    ((patches, grids),) = pictures
    prompts, logits = passes[0]
    tokens = torch.stack([step.argmax(-1) for _, step in passes], dim=1)
    return answers, Seen(prompts, patches, grids, logits, tokens)


@pytest.fixture(scope="module")
def watched(policy, observations):
    return act_and_watch(policy, observations)


def image_slots(tokenizer, ids):
    """Lengths of the runs of image tokens, each of which must stand between its two marks."""
    tokens = tokenizer.convert_ids_to_tokens(ids.tolist())
    runs = [(token, len(list(run))) for token, run in groupby(tokens)]
    slots = [index for index, (token, _) in enumerate(runs) if token == "<|image_pad|>"]
    for index in slots:
        assert runs[index - 1] == ("<|vision_start|>", 1)
        assert runs[index + 1] == ("<|vision_end|>", 1)
    return [runs[index][1] for index in slots]


def unpadded(policy, ids):
    """The token ids of one prompt without its padding."""
    return ids[ids != policy.processor.tokenizer.pad_token_id].tolist()


def said(policy, tokens):
    """The text of new tokens, up to the end of the turn."""
    tokenizer = policy.processor.tokenizer
    ends = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    spoken = list(takewhile(lambda token: token not in ends, tokens))
    return tokenizer.decode(spoken, skip_special_tokens=True)


def test_every_observation_gets_its_own_answer(watched):
    answers, _ = watched
    assert [type(answer) for answer in answers] == [str, str]
    assert answers[0] != answers[1]


def test_a_prompt_has_two_image_slots_as_long_as_its_images_have_visual_tokens(policy, watched):
    _, seen = watched
    slots = [image_slots(policy.processor.tokenizer, ids) for ids in seen.prompts]
    assert slots == [[height * width // (PATCH * MERGE) ** 2] * 2 for height, width in SIZES]
    assert [n for row in slots for n in row] == (seen.grids.prod(-1) // MERGE**2).tolist()


def test_the_images_come_in_the_order_a_b_of_each_observation(policy):
    greys = torch.tensor([[0, 255], [51, 204]], dtype=torch.uint8)
    images = [[np.full((64, 64, 3), grey, np.uint8) for grey in pair] for pair in greys]
    _, seen = act_and_watch(
        policy, [{"image_a": a, "image_b": b, "prompt": "Which?"} for a, b in images]
    )
    patches = seen.patches.unflatten(0, (4, -1)).flatten(1)
    expected = greys.flatten() / 127.5 - 1
    torch.testing.assert_close(patches, expected[:, None].expand_as(patches))


def test_what_the_model_says_depends_on_which_image_is_first(policy, observations, watched):
    swapped = [o | {"image_a": o["image_b"], "image_b": o["image_a"]} for o in observations]
    _, seen = watched
    _, seen_swapped = act_and_watch(policy, swapped)
    assert torch.equal(seen.prompts, seen_swapped.prompts)
    assert (seen.logits - seen_swapped.logits).abs().amax(1).min() > 1e-2


def test_the_prompt_is_the_one_that_training_makes(policy, observations, watched):
    # TRL puts the images into the messages and lets the processor do everything at once.
    _, seen = watched
    for ids, observation in zip(seen.prompts, observations, strict=True):
        (turn,) = pair_messages(observation["prompt"])
        images = [Image.fromarray(observation[key]) for key in ("image_a", "image_b")]
        turn["content"] = [{"type": "image", "image": i} for i in images] + turn["content"][2:]
        trained_on = policy.processor.apply_chat_template(
            [turn], add_generation_prompt=True, tokenize=True, return_dict=True
        )
        assert unpadded(policy, ids) == trained_on["input_ids"][0]


def test_padding_is_on_the_left_and_the_models_turn_is_last(policy, watched):
    _, seen = watched
    short, long = seen.prompts.tolist()
    assert short[0] == policy.processor.tokenizer.pad_token_id
    assert len(unpadded(policy, seen.prompts[0])) < len(short)
    assert len(unpadded(policy, seen.prompts[1])) == len(long)
    for ids in (short, long):
        text = policy.processor.tokenizer.decode(ids)
        turn = text.removesuffix("<think>\n\n</think>\n\n")  # Qwen3.5's, which does not think
        assert turn.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_an_answer_is_the_new_tokens_and_nothing_of_the_prompt(policy, watched):
    answers, seen = watched
    assert seen.tokens.shape == (2, NEW_TOKENS)
    assert answers == [said(policy, tokens) for tokens in seen.tokens.tolist()]


def test_an_answer_stops_where_the_model_ends_its_turn(folder, observations, watched):
    answers, seen = watched
    first, second = seen.tokens.tolist()
    hasty = MLLMPolicy.from_pretrained(folder, device="cpu", max_new_tokens=NEW_TOKENS)
    # A token that only the first answer has ends a turn too, so its row is filled with padding.
    end = next(token for token in first if token not in second)
    hasty.model.generation_config.eos_token_id = [hasty.processor.tokenizer.eos_token_id, end]
    upto = first.index(end) + 1
    assert upto < NEW_TOKENS
    assert hasty.act(observations) == [said(hasty, first[:upto]), answers[1]]


def test_a_batch_answers_as_its_members_do_alone(policy, observations, watched):
    answers, seen = watched
    for row, observation in enumerate(observations):
        alone, seen_alone = act_and_watch(policy, [observation])
        assert alone == [answers[row]]
        torch.testing.assert_close(seen_alone.logits[0], seen.logits[row], rtol=1e-3, atol=1e-3)


def test_answers_do_not_depend_on_the_training_mode_and_leave_it_as_it_was(
    folder, observations, watched
):
    """With dropout everywhere and gradient checkpointing, which drops the cache of keys."""
    policy = MLLMPolicy.from_pretrained(folder, device="cpu", max_new_tokens=NEW_TOKENS)
    model = get_peft_model(
        policy.model, LoraConfig(lora_dropout=0.9, target_modules=["q_proj", "v_proj"])
    )
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, generator=torch.Generator().manual_seed(0))
    policy.model.gradient_checkpointing_enable()
    model.eval()
    expected = policy.act(observations)
    assert expected != watched[0]  # the adapter speaks
    model.train()
    frozen = policy.model.model.visual.eval()
    modes = [module.training for module in model.modules()]
    for _ in range(2):
        assert policy.act(observations) == expected
    assert [module.training for module in model.modules()] == modes
    assert not frozen.training and model.training


@pytest.mark.parametrize("beta", [0.0, 0.01])
def test_grpo_trains_both_towers_and_leaves_a_checkpoint_that_plays(
    qwen3_vl, tmp_path, observations, beta
):
    run = GRPORun(
        out=str(tmp_path),
        model=str(qwen3_vl),
        beta=beta,
        **SHORT_RUN,
    )
    result = train_grpo(run)
    assert [step.step for step in result.steps] == [1, 2]
    # Rollouts of equal reward teach nothing: without this the rest would say little.
    assert min(step.zero_variance_groups for step in result.steps) < 1
    assert len(result.before["single"]) == len(result.after["single"]) == 1
    start = MLLMPolicy.from_pretrained(qwen3_vl, device="cpu").model.state_dict()
    trained = MLLMPolicy.from_pretrained(result.checkpoint, max_new_tokens=8)
    changed = {
        name
        for name, weights in trained.model.state_dict().items()
        if not torch.equal(weights.cpu(), start[name])
    }
    for tower in ("model.visual.patch_embed", "model.visual.deepstack", "model.language_model"):
        assert any(name.startswith(tower) for name in changed), tower
    assert len(trained.act(observations)) == 2


def test_only_what_follows_a_thought_counts(policy):
    tokenizer = policy.processor.tokenizer
    # Qwen3-VL-Thinking's chat template opens the thought, so its completion only closes it.
    text = "First I saw [[0, 0, 100, 100]], no:</think>\n[[120, 300, 210, 400]]<|im_end|>"
    ids = tokenizer(text)["input_ids"]
    (answer,) = policy.processor.batch_decode([ids], skip_special_tokens=True)
    assert answer == text.removesuffix("<|im_end|>")
    np.testing.assert_allclose(parse_boxes(answer).boxes, [[0.12, 0.3, 0.21, 0.4]])


def test_a_bfloat16_checkpoint_learns_in_full_precision(qwen3_vl, tmp_path):
    policy = MLLMPolicy.from_pretrained(qwen3_vl, device="cpu")
    half = tmp_path / "bfloat16"
    policy.model.to(torch.bfloat16).save_pretrained(half)
    policy.processor.save_pretrained(half)
    run = GRPORun(
        out=str(tmp_path / "run"),
        model=str(half),
        learning_rate=1e-6,
        **SHORT_RUN,
    )
    result = train_grpo(run)
    start = policy.model.state_dict()
    trained = MLLMPolicy.from_pretrained(result.checkpoint, device="cpu").model.state_dict()
    moved = [float((trained[n].float() != start[n].float()).float().mean()) for n in start]
    assert np.median(moved) > 0.9


def test_a_thought_that_the_template_opened_and_nothing_closed_is_no_answer(folder, observations):
    policy = MLLMPolicy.from_pretrained(folder, device="cpu", max_new_tokens=NEW_TOKENS)
    set_thinking(policy.processor, True)
    assert all(answer.startswith("<think>") for answer in policy.act(observations))
    assert not parse_boxes(policy.opening + "a draft: [[0, 0, 100, 100]], but").ok


LEFTOVERS = {
    "repetition_penalty": 1.9,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 7,
    "num_beams": 2,
    "min_p": 0.2,
    "typical_p": 0.5,
}
"""What a checkpoint's generation_config may ask for besides temperature, top-k and top-p."""


def opinionated(folder, out):
    """The same weights with such a generation_config, in another folder."""
    shutil.copytree(folder, out)
    path = out / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | LEFTOVERS))
    return out


def test_greedy_answers_are_the_likeliest_tokens_whatever_a_checkpoint_asks_for(
    folder, observations, watched, tmp_path
):
    asking = opinionated(folder, tmp_path / "opinionated")
    policy = MLLMPolicy.from_pretrained(asking, device="cpu", max_new_tokens=NEW_TOKENS)
    answers, seen = act_and_watch(policy, observations)
    assert torch.equal(seen.tokens, watched[1].tokens) and answers == watched[0]


def test_evaluation_draws_exactly_as_rollouts_do(qwen3_vl, observations, tmp_path, monkeypatch):
    """By the settings that transformers makes of the call's own, the checkpoint's and defaults."""
    used = []
    prepare = GenerationMixin._prepare_generation_config

    def noting(self, *args, **settings):
        config, rest = prepare(self, *args, **settings)
        used.append(config.to_dict())
        return config, rest

    monkeypatch.setattr(GenerationMixin, "_prepare_generation_config", noting)
    asking = opinionated(qwen3_vl, tmp_path / "opinionated")
    run = GRPORun(out=str(tmp_path / "run"), model=str(asking), **SHORT_RUN | {"steps": 1})
    result = train_grpo(run)
    rollouts = next(config for config in used if config["do_sample"])
    for path in (asking, result.checkpoint):
        sampling = MLLMPolicy.from_pretrained(
            path,
            device="cpu",
            max_new_tokens=run.max_completion_length,
            temperature=run.temperature,
        )
        sampling.act(observations)
        # Whether to compile decides no token.
        free = {"disable_compile": None}
        assert used[-1] | free == rollouts | free
        assert used[-1]["repetition_penalty"] == used[-1]["num_beams"] == 1
