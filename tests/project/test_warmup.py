"""The embedded policy as shipped, and the warm-up that made it."""

import dataclasses

import numpy as np
import pytest
import torch
from batches import CAMERA, MAY_BE_EQUAL, NUISANCE, AnswerTokens, augment, spoil
from publish import publish
from small import SMALL
from stored_pairs import PairArrays, load_pairs
from warmup import Trainer, Warmup, main

from dig_env import format_boxes, instruction, observe
from dig_env.agents import MLLMPolicy, load_tiny
from dig_env.agents.evaluation.pairs import mean_metrics, play_pairs
from dig_env.agents.policies.mllm import EMBEDDED, pair_messages
from dig_env.observation import instructions
from dig_env.scenes import PAPER_STAGES, STAGES, PairDataset, render_dataset


@pytest.mark.parametrize(("stage", "least"), [("single", 0.9), ("dual", 0.8), ("mixed", 0.7)])
def test_the_shipped_policy_finds_differences_on_held_out_pairs(pairs, stage, least):
    metrics = mean_metrics(play_pairs(load_tiny(batch_size=50), pairs[stage], batch_size=50))
    assert metrics["format"] >= 0.99
    assert metrics["f1"] >= least


def test_the_shipped_start_leaves_much_to_learn(pairs):
    start = load_tiny("tiny-start", batch_size=50)
    metrics = mean_metrics(play_pairs(start, pairs["single"], batch_size=50))
    assert 0.45 <= metrics["f1"] <= 0.75


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_shipped_policies_know_every_word_of_the_instruction(name):
    """Their tokenizer has whole sentences: another wording would be unknown to it."""
    processor = load_tiny(name).processor
    text = processor.apply_chat_template(
        pair_messages(instruction()), add_generation_prompt=True, tokenize=False
    )
    ids = processor.tokenizer(text)["input_ids"]
    assert processor.tokenizer.unk_token_id not in ids


@pytest.fixture(scope="module")
def arrays(pairs):
    most = STAGES["mixed"].differences[1]
    chosen = [pair for stage in PAPER_STAGES for pair in pairs[stage][:8]]
    boxes = np.full((len(chosen), most, 4), np.nan, np.float32)
    for row, pair in zip(boxes, chosen, strict=True):
        row[: len(pair.differences)] = pair.boxes_unit
    images = np.array([(pair.image_a, pair.image_b) for pair in chosen])
    return PairArrays(images, boxes, np.repeat([*PAPER_STAGES], 8), np.zeros(24, int))


def test_augmented_boxes_follow_what_is_in_the_images():
    images = -torch.ones(64, 2, 3, 24, 32)
    images[:, 1, :, 3:9, 4:20] = 1.0
    boxes = torch.tensor([[[4 / 32, 3 / 24, 20 / 32, 9 / 24], [torch.nan] * 4]]).repeat(64, 1, 1)
    still = torch.zeros(64, dtype=bool)
    images, boxes = augment(images, boxes, still, torch.Generator().manual_seed(0))
    assert len(boxes[:, 0].unique(dim=0)) == 4
    for pair, box in zip(images, boxes[:, 0], strict=True):
        ys, xs = torch.nonzero((pair[0] != pair[1]).any(0), as_tuple=True)
        seen = [xs.min() / 32, ys.min() / 24, (xs.max() + 1) / 32, (ys.max() + 1) / 24]
        torch.testing.assert_close(box, torch.stack(seen), rtol=0, atol=1e-6)


def test_spoiled_pairs_keep_their_differences_or_have_none(arrays):
    """And the prompt says what may be, and no more."""
    every = np.repeat(np.arange(len(arrays)), 20)
    spoiled = spoil(arrays, every, equal=0.3, nuisance=0.5, seed=0)
    assert np.array_equal(spoiled.images[:, 0], arrays.images[every, 0])
    without = np.isnan(spoiled.boxes).all(axis=(1, 2))
    assert 0.2 < without.mean() < 0.4
    np.testing.assert_array_equal(spoiled.boxes[~without], arrays.boxes[every][~without])
    clean = spoiled.kinds % MAY_BE_EQUAL == 0
    assert 0.4 < clean.mean() < 0.6
    same = (spoiled.images[:, 1] == spoiled.images[:, 0]).all(axis=(1, 2, 3))
    assert same[without & clean].all() and not same[~clean].any()
    unchanged = (spoiled.images[:, 1] == arrays.images[every, 1]).all(axis=(1, 2, 3))
    assert unchanged[~without & clean].all() and not unchanged[~clean].any()
    asked = spoiled.kinds >= MAY_BE_EQUAL
    assert asked[without].all() and 0.4 < asked[~without].mean() < 0.6
    assert "none" in instructions()[MAY_BE_EQUAL] and "quality" in instructions()[NUISANCE]


def test_pairs_whose_camera_moves_are_neither_spoiled_nor_swapped(arrays):
    moved = dataclasses.replace(arrays, kinds=np.full(len(arrays), CAMERA))
    spoiled = spoil(moved, np.arange(len(moved)), equal=1.0, nuisance=1.0, seed=0)
    assert np.array_equal(spoiled.images, moved.images)
    assert "Box each difference as the first image shows it" in instructions()[CAMERA]
    images = torch.zeros(64, 2, 3, 4, 4)
    images[:, 1] = 1.0
    boxes = torch.full((64, 1, 4), torch.nan)
    swapped, _ = augment(images, boxes, torch.arange(64) % 2 == 0, torch.Generator().manual_seed(0))
    first_is_bright = swapped[:, 0].mean(dim=(1, 2, 3)) > 0.5
    assert not first_is_bright[::2].any() and 8 < first_is_bright[1::2].sum() < 24


def test_answers_are_written_as_the_policy_would(arrays):
    processor = load_tiny().processor
    boxes = arrays.boxes.copy()
    boxes[0] = np.nan
    for written, given in zip(
        AnswerTokens(processor.tokenizer)(torch.from_numpy(boxes)), boxes, strict=True
    ):
        text = processor.tokenizer.decode(written, skip_special_tokens=True)
        given = given[~np.isnan(given[:, 0])]
        order = np.argsort(given[:, 0] + given[:, 2])
        assert text == (format_boxes(given[order]) if len(given) else "[]")


def settings(out, **changes):
    return Warmup(**{"out": str(out), "samples": 48, "batch_size": 8, "threads": 1} | changes)


def test_an_interrupted_warm_up_goes_on_as_if_it_had_not_been(arrays, tmp_path):
    straight = Trainer(settings(tmp_path / "straight"))
    losses = [straight.step(arrays) for _ in range(6)]
    first = Trainer(settings(tmp_path / "broken"))
    resumed_losses = [first.step(arrays) for _ in range(3)]
    first._report(arrays, resumed_losses)
    second = Trainer(settings(tmp_path / "broken"))
    resumed_losses += [second.step(arrays) for _ in range(3)]
    assert resumed_losses == pytest.approx(losses, rel=1e-5)
    assert second.samples == straight.samples == 48


def test_a_warm_up_with_other_settings_does_not_go_on(arrays, tmp_path):
    first = Trainer(settings(tmp_path))
    first._report(arrays, [first.step(arrays)])
    with pytest.raises(ValueError, match="other settings"):
        Trainer(settings(tmp_path, learning_rate=1e-5))


def test_training_on_a_few_pairs_learns_them(arrays, tmp_path):
    trainer = Trainer(settings(tmp_path, samples=240))
    losses = [trainer.step(arrays) for _ in range(30)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1


def test_a_dataset_is_loaded_whole_and_as_it_is(tmp_path):
    render_dataset(tmp_path, {"single": 2, "nuisance": 3}, "validation", SMALL)
    loaded, dataset = load_pairs(tmp_path, "validation"), PairDataset(tmp_path)
    assert sorted(loaded.stages) == ["nuisance"] * 3 + ["single"] * 2
    for index, pair in enumerate(dataset):
        assert np.array_equal(loaded.images[index, 0], pair.image_a)
        assert np.array_equal(loaded.images[index, 1], pair.image_b)
        np.testing.assert_allclose(loaded.boxes_of(index), pair.boxes_unit, atol=1e-7)
        assert loaded.stages[index] == dataset.stage_of(pair.plan.seed)
        assert instructions()[loaded.kinds[index]] == observe(pair)["prompt"]


def test_the_command_renders_trains_and_leaves_a_model_that_loads(tmp_path, capsys):
    arguments = ["--out", tmp_path / "tiny", "--pairs", tmp_path / "pairs", "--workers", 1]
    arguments += ["--stages", "single", 6, "nuisance", 4, "--validation", 3, "--equal", 0.2]
    arguments += ["--samples", 16, "--batch-size", 8]
    main([str(argument) for argument in arguments])
    assert "tiny/model" in capsys.readouterr().out
    image = np.zeros((96, 128, 3), np.uint8)
    policy = MLLMPolicy.from_pretrained(tmp_path / "tiny" / "model", max_new_tokens=8)
    assert len(policy.act([{"image_a": image, "image_b": image, "prompt": "?"}])) == 1


def test_a_published_model_takes_half_the_space_and_answers_alike(pairs, tmp_path, monkeypatch):
    model = load_tiny("tiny-start").model
    with torch.no_grad():
        for weight in model.parameters():  # beyond what float16 holds
            weight.mul_(1 + 2**-15)
    model.save_pretrained(tmp_path / "full")
    load_tiny("tiny-start").processor.save_pretrained(tmp_path / "full")
    monkeypatch.setitem(EMBEDDED, "tiny", tmp_path / "published")
    assert publish(tmp_path / "full", "tiny") == tmp_path / "published"
    sizes = [(tmp_path / f / "model.safetensors").stat().st_size for f in ("full", "published")]
    assert sizes[1] < 0.51 * sizes[0]
    published = load_tiny()
    assert published.model.dtype == torch.float32
    for mine, theirs in zip(model.parameters(), published.model.parameters(), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=2**-11, atol=1e-7)
