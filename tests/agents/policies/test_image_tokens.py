"""No answer holds a token that stands for an image, whichever engine samples."""

import numpy as np
import pytest
import torch
from qwen3_vl import IN_MINIATURE, save_qwen3_5, save_qwen3_vl
from transformers import AutoModelForImageTextToText, AutoTokenizer

from dig_env.agents import GRPORun, MLLMPolicy, train_grpo
from dig_env.agents.policies.image_tokens import image_tokens, without_images_of
from dig_env.agents.training.grpo_trainer import FilteringGRPOTrainer

NAMES = {"<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"}
QUESTION = {
    "image_a": np.zeros((48, 64, 3), np.uint8),
    "image_b": np.full((48, 64, 3), 255, np.uint8),
    "prompt": "?",
}


@pytest.fixture(scope="module", params=[save_qwen3_vl, save_qwen3_5])
def folder(request, tmp_path_factory):
    """A small model that always wants to say one of two image tokens: its word for the one is the
    opposite of its word for the other, and both are long."""
    path = request.param(tmp_path_factory.mktemp("eager"))
    model = AutoModelForImageTextToText.from_pretrained(path, dtype="float32")
    words = model.get_input_embeddings().weight.data
    config = model.config
    words[config.video_token_id] *= 1000
    words[config.vision_start_token_id] = -words[config.video_token_id]
    model.save_pretrained(path)
    return path


def test_without_care_the_model_says_them(folder):
    """So that the tests below can fail."""
    policy = MLLMPolicy.from_pretrained(folder, device="cpu")
    tokenizer = policy.processor.tokenizer
    prompt = tokenizer("Where?", return_tensors="pt")["input_ids"]
    said = policy.model.generate(input_ids=prompt, max_new_tokens=4, do_sample=True)[0]
    assert NAMES & set(tokenizer.convert_ids_to_tokens(said[prompt.shape[1] :]))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_policy_never_says_them(folder, temperature):
    policy = MLLMPolicy.from_pretrained(
        folder, device="cpu", max_new_tokens=8, temperature=temperature
    )
    said = []
    decode = policy.processor.batch_decode
    policy.processor.batch_decode = lambda ids, **how: said.append(ids) or decode(ids, **how)
    policy.act([QUESTION] * 2)
    assert not torch.isin(said[0], torch.tensor(image_tokens(policy.model.config))).any()


def test_a_rollout_never_says_them(folder, tmp_path, monkeypatch):
    said = []

    def watch(trainer, inputs):
        batch = whole(trainer, inputs)
        said.append(batch["completion_ids"])
        return batch

    whole = FilteringGRPOTrainer._generate_and_score_completions
    monkeypatch.setattr(FilteringGRPOTrainer, "_generate_and_score_completions", watch)
    settings = IN_MINIATURE | {"eval_pairs": 0, "save_every": 0, "stages": ("single",)}
    run = GRPORun(out=str(tmp_path / "run"), model=str(folder), temperature=1.0, **settings)
    train_grpo(run)
    config = AutoModelForImageTextToText.from_pretrained(folder).config
    assert len(said) == 1 and said[0].numel()
    assert not torch.isin(said[0], torch.tensor(image_tokens(config))).any()


def test_vllm_is_told_the_same_tokens_as_words(folder):
    """Each of which is one token to the tokenizer, as vLLM reads "bad_words"."""
    words = without_images_of(str(folder), use_vllm=True)["bad_words"]
    tokens = without_images_of(str(folder), use_vllm=False)["suppress_tokens"]
    assert set(words) == NAMES
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    assert encoded == [[token] for token in tokens]
