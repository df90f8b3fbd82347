"""verl's configuration of an export, and rollouts as verl holds them."""

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from tensordict import TensorDict
from verl import DataProto
from verl.utils.dataset.rl_dataset import collate_fn


def composed(folder, overrides=()):
    with initialize_config_dir(str(folder), version_base=None):
        return compose("config", overrides=list(overrides))


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
