"""The loss with zero-variance groups left out, against a calculation by hand."""

import ast

import pytest
import torch
from paths import ROOT

from dig_env import REWARDS
from dig_env.agents import GRPORun, train_grpo
from dig_env.agents.training.grpo_trainer import FilteringGRPOTrainer
from dig_env.scenes import PAPER_STAGES, RenderSettings, render_dataset

PAIRS, ROLLOUTS, LONGEST = 6, 4, 24
BETA = 0.05
LEAST_STD = 0.35  # of a group, in the variant with a least spread
PAGE = ROOT.joinpath("docs", "training.md")
VARIANTS = {
    line.split("|")[1].strip(): ast.literal_eval(line.split("`")[1])
    for line in PAGE.read_text().splitlines()
    if line.count("|") == 3 and "`{" in line
}
assert len(VARIANTS) >= 4, "the table of variants is read from the page"
VARIANTS |= {
    "GRPO": {"loss_type": "grpo"},
    "BNPO": {"loss_type": "bnpo"},
    "CISPO": {"loss_type": "cispo", "epsilon_high": 5.0},
    "SAPO": {"loss_type": "sapo"},
    "LUSPO": {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    "scaled over the batch": {"scale_rewards": "batch"},
    "not scaled": {"scale_rewards": "none"},
    "a least spread": {},
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    size = RenderSettings(width=128, height=96, quality="draft", device="cpu")
    render_dataset(folder, {"single": 16}, "train", size, workers=1)
    return str(folder)


def by_hand(trainer, min_group_std, batch, rewards):
    """The mean over what is not in a zero-variance group, and the KL over all rollouts."""
    args, mask = trainer.args, batch["completion_mask"].float()
    given = {"pixel_values": batch["pixel_values"]}
    ids, seen = (
        torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], dim=1)
        for name in ("ids", "mask")
    )
    logits = trainer.model(ids, attention_mask=seen, **given).logits / args.temperature
    written = ids[:, -mask.shape[1] :, None]
    logps = logits[:, -mask.shape[1] - 1 : -1].log_softmax(dim=-1).gather(2, written)[..., 0]
    groups = torch.tensor(rewards, dtype=torch.float64).view(-1, ROLLOUTS)
    spread = groups.amax(dim=1) > groups.amin(dim=1)
    spread &= groups.std(dim=1) >= min_group_std
    kept = spread.repeat_interleave(ROLLOUTS).float()
    assert 0 < kept.sum() < len(kept)  # otherwise there is nothing to see
    advantages = groups - groups.mean(dim=1, keepdim=True)
    if args.scale_rewards == "group":
        advantages = advantages / (groups.std(dim=1, keepdim=True) + 1e-4)
    if args.scale_rewards == "batch":
        advantages = advantages / (groups.std() + 1e-4)
    advantages = advantages.flatten().float()[:, None]
    # On the first step after the rollouts the ratio is 1, and its gradient that of the logarithm.
    ratio = torch.exp(logps - logps.detach())
    if args.importance_sampling_level == "sequence":
        mean = ((logps - logps.detach()) * mask).sum(1) / mask.sum(1).clamp(min=1)
        ratio = torch.exp(mean)[:, None].expand_as(mask)
    policy = -advantages * ratio * mask
    if args.loss_type == "cispo":
        policy = -advantages * logps * mask
    if args.loss_type == "sapo":  # sigmoid(t (ratio - 1)) 4 / t, which is 2 / t at a ratio of 1
        softness = torch.where(advantages > 0, args.sapo_temperature_pos, args.sapo_temperature_neg)
        policy = -advantages * mask * torch.sigmoid(softness * (ratio - 1)) * 4 / softness
    apart = batch["ref_per_token_logps"] - logps
    kl = (torch.exp(apart) - apart - 1) * mask
    if args.use_bias_correction_kl:
        kl = kl * ratio
    everywhere = torch.ones_like(kept)
    return total(args.loss_type, policy, mask, kept) + BETA * total(
        args.loss_type, kl, mask, everywhere
    )


def total(loss_type, values, mask, kept):
    """The loss's mean over the rollouts that are kept."""
    sums, tokens = values.sum(dim=1), mask.sum(dim=1)
    if loss_type in ("grpo", "sapo"):
        return (sums / tokens.clamp(min=1) * kept).sum() / kept.sum()
    if loss_type == "luspo":
        return (sums * kept).sum() / kept.sum()
    if loss_type == "dr_grpo":
        return (sums * kept).sum() / (kept.sum() * LONGEST)
    return (sums * kept).sum() / (tokens * kept).sum()  # dapo, bnpo and cispo


@pytest.mark.parametrize("name", VARIANTS)
def test_the_loss_is_that_of_the_groups_with_a_signal_and_the_kl_of_all(
    name, stored, tmp_path, monkeypatch
):
    batches, losses = [], []
    generate = FilteringGRPOTrainer._generate_and_score_completions
    compute = FilteringGRPOTrainer._compute_loss

    def generate_and_record(self, inputs):
        batch = generate(self, inputs)
        batches.append((batch, [answered.reward for answered in self.reward_funcs[0].answered]))
        return batch

    def compute_and_record(self, model, inputs):
        loss = compute(self, model, inputs)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        hand = by_hand(self, run.min_group_std, *batches[-1])
        gradients = [
            torch.cat([g.flatten() for g in torch.autograd.grad(of, trained, retain_graph=True)])
            for of in (loss, hand)
        ]
        losses.append((loss.detach(), hand.detach(), *gradients))
        return loss

    monkeypatch.setattr(
        FilteringGRPOTrainer, "_generate_and_score_completions", generate_and_record
    )
    monkeypatch.setattr(FilteringGRPOTrainer, "_compute_loss", compute_and_record)
    run = GRPORun(
        out=str(tmp_path),
        dataset=stored,
        stages=PAPER_STAGES[:1],
        pairs_per_step=PAIRS,
        rollouts=ROLLOUTS,
        min_group_std=LEAST_STD if name == "a least spread" else 0.0,
        steps=2,
        minutes=None,
        eval_pairs=0,
        save_every=0,
        learning_rate=1e-4,  # so that the second step has a KL
        beta=BETA,
        # Nearly greedy, and counted by the box: some groups are of one mind, and some are not.
        temperature=0.3,
        max_completion_length=LONGEST,
        reward=REWARDS["f1"],
        trl=VARIANTS[name],
    )
    train_grpo(run)
    assert len(losses) == 2
    for loss, hand, gradient, gradient_by_hand in losses:
        torch.testing.assert_close(loss, hand, rtol=1e-4, atol=1e-5)
        difference = (gradient - gradient_by_hand).norm() / gradient_by_hand.norm()
        assert difference < 1e-3
