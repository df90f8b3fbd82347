"""The embedded policy as shipped, and the warm-up that made it."""

import numpy as np
import pytest
from conftest import SMALL

from agents import MLLMPolicy, load_tiny
from agents.evaluation import mean_metrics, play
from agents.mllm import pair_messages
from agents.tiny.pairs import MIXTURE, PairArrays, load_pairs, render_shards
from agents.tiny.warmup import Trainer, Warmup, main
from dig_env import instruction
from scenes import STAGES


def test_the_shipped_policy_finds_single_differences_on_held_out_pairs(pairs):
    metrics = mean_metrics(play(load_tiny(batch_size=50), pairs["single"], batch_size=50))
    assert metrics["format"] >= 0.98
    assert metrics["f1"] >= 0.6


def test_the_shipped_policy_knows_every_word_of_the_instruction():
    """Its tokenizer has whole sentences: another wording would be unknown to it."""
    processor = load_tiny().processor
    text = processor.apply_chat_template(
        pair_messages(instruction()), add_generation_prompt=True, tokenize=False
    )
    ids = processor.tokenizer(text)["input_ids"]
    assert processor.tokenizer.unk_token_id not in ids


@pytest.fixture(scope="module")
def arrays(pairs):
    most = STAGES["mixed"].differences[1]
    chosen = [pair for stage in STAGES for pair in pairs[stage][:8]]
    boxes = np.full((len(chosen), most, 4), np.nan, np.float32)
    for row, pair in zip(boxes, chosen, strict=True):
        row[: len(pair.differences)] = pair.boxes_unit
    return PairArrays(np.array([(pair.image_a, pair.image_b) for pair in chosen]), boxes)


def settings(out, **changes):
    return Warmup(
        **{"out": str(out), "samples": 48, "minutes": 1e9, "batch_size": 8, "threads": 1} | changes
    )


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


def test_shards_are_rendered_once_and_hold_the_mixture(tmp_path, monkeypatch):
    monkeypatch.setattr("agents.tiny.pairs.SHARD", 5)
    files = list(render_shards(tmp_path, "validation", 10, SMALL, workers=1))
    assert [file.name for file in files] == ["validation-000.npz", "validation-001.npz"]
    files[1].unlink()
    before = files[0].stat().st_mtime_ns
    assert list(render_shards(tmp_path, "validation", 10, SMALL, workers=1)) == [files[1]]
    assert files[0].stat().st_mtime_ns == before
    loaded = load_pairs(tmp_path, "validation")
    for index in range(10):
        low, high = STAGES[MIXTURE[index % len(MIXTURE)]].differences
        assert low <= len(loaded.boxes_of(index)) <= high


def test_the_command_renders_trains_and_leaves_a_model_that_loads(tmp_path, capsys):
    arguments = ["--out", tmp_path / "tiny", "--pairs", tmp_path / "pairs", "--workers", 1]
    arguments += ["--train-pairs", 10, "--validation-pairs", 5, "--samples", 16, "--batch-size", 8]
    main([str(argument) for argument in arguments])
    assert "tiny/model" in capsys.readouterr().out
    image = np.zeros((96, 128, 3), np.uint8)
    policy = MLLMPolicy.from_pretrained(tmp_path / "tiny" / "model", max_new_tokens=8)
    assert len(policy.act([{"image_a": image, "image_b": image, "prompt": "?"}])) == 1
