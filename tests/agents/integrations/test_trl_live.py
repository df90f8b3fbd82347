"""TRL's live environment: pairs drawn as rollouts begin, an answer by a tool, one number for it."""

import runpy

import numpy as np
import pytest
from paths import ROOT
from qwen3_vl import build_model, build_processor, register
from trl.chat_template_utils import qwen3_vl_chat_template
from zooms import TINY

from dig_env import Curriculum, instruction, score
from dig_env.agents.integrations.live import LivePairs
from dig_env.agents.integrations.trl_live import DiGEnvironment, DiGZoomEnvironment
from dig_env.envs.pairs import StoredPairs
from dig_env.scenes import render_dataset

EXAMPLE = ROOT / "examples/trainers/trl_live.py"
ROLLOUTS = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live") / "pairs"
    render_dataset(folder, {"single": 6, "dual": 6}, "train", TINY, workers=1)
    stored = StoredPairs(folder, "train")
    yield stored
    stored.close()


@pytest.fixture
def pairs(source):
    curriculum = Curriculum(("single", "dual"), promote_at=0.9, window=2)
    return LivePairs(source, curriculum, ROLLOUTS, ahead=0)


def test_rollouts_of_a_key_see_one_pair_and_other_keys_others(pairs):
    first, second = (DiGEnvironment(pairs) for _ in range(2))
    content = first.reset(key=0)
    assert [part["type"] for part in content] == ["image", "image", "text"]
    assert content[2]["text"].startswith(instruction())
    for one, other in zip(content[:2], second.reset(key=0)[:2], strict=True):
        assert np.array_equal(one["image"], other["image"])
    assert len({pairs.pair(key).plan.seed for key in range(10)}) > 2


def test_a_key_means_the_same_pair_in_every_run(source):
    runs = [LivePairs(source, Curriculum(("single",)), ROLLOUTS, ahead=n) for n in (0, 3)]
    for key in (0, 5):
        seeds = [run.pair(key).plan.seed for run in runs]
        assert seeds[0] == seeds[1]


@pytest.mark.parametrize(
    "boxes", [[[120, 300, 210, 400]], [[0, 0, 500, 500.5], [500, 0, 1000, 500]], [[3, 2, 1, 0]], []]
)
def test_the_reward_is_that_of_score_to_the_last_bit(pairs, boxes):
    environment = DiGEnvironment(pairs, "dense")
    environment.reset(key=0)
    environment.answer(boxes)
    expected = score(str(boxes), pairs.pair(0).boxes_unit, "dense")
    assert environment.get_reward() == expected.total


def test_only_the_first_answer_counts_and_no_answer_earns_nothing(pairs):
    environment = DiGEnvironment(pairs)
    environment.reset(key=0)
    truth = (pairs.pair(0).boxes_unit * 1000).tolist()
    environment.answer([[0, 0, 10, 10]])
    with pytest.raises(ValueError, match="has been given"):
        environment.answer(truth)
    assert environment.get_reward() == pytest.approx(0.1)
    environment.reset(key=0)
    assert environment.get_reward() == 0.0
    environment.reset(key=0)
    assert environment.answer(truth) and environment.get_reward() == pytest.approx(1.0)


@pytest.mark.parametrize("said", ["[[1, 2]]", None, 3, {"boxes": []}, "x", [[None] * 4]])
def test_whatever_a_model_calls_answer_with_earns_nothing_and_breaks_nothing(pairs, said):
    environment = DiGEnvironment(pairs)
    environment.reset(key=0)
    environment.answer(said)
    assert environment.get_reward() == 0.0


def test_the_curriculum_moves_when_whole_groups_have_earned(pairs):
    for key in range(3):
        stage_size = {1} if key < 2 else {2}
        for _ in range(ROLLOUTS):
            environment = DiGEnvironment(pairs)
            environment.reset(key=key)
            truth = pairs.pair(key).boxes_unit
            assert {len(truth)} == stage_size
            environment.answer((truth * 1000).tolist())
            environment.get_reward()


def test_the_zoom_shows_a_region_before_the_answer(pairs):
    environment = DiGZoomEnvironment(pairs, turns=2)
    content = environment.reset(key=0)
    assert "zoom up to 1 times" in content[-1]["text"]
    shown, left = environment.zoom("A", [0, 0, 500, 500])
    assert shown["image"].size == content[0]["image"].size and "0 zooms" in left["text"]
    with pytest.raises(ValueError, match="no zoom is left"):
        environment.zoom("B", [0, 0, 500, 500])


def test_the_example_trains_through_trl(tmp_path):
    """Qwen3-VL's classes and its own template; each call of the tool is a token that ends the turn,
    so that a model that knows nothing makes it."""
    register()
    processor = build_processor()
    processor.chat_template = qwen3_vl_chat_template
    spans = [[x, y, x + 250, y + 250] for x in range(0, 751, 50) for y in range(0, 751, 50)]
    calls = [
        f'<tool_call>\n{{"name": "answer", "arguments": {{"boxes": [{box}]}}}}\n</tool_call>'
        for box in spans
    ]
    processor.tokenizer.add_tokens(calls)
    model = build_model(processor.tokenizer)
    says = processor.tokenizer.get_added_vocab()
    model.generation_config.eos_token_id += [
        token for text, token in says.items() if text[0] == "[" or text in calls
    ]
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    example = runpy.run_path(str(EXAMPLE))
    reward = example["train"](
        str(tmp_path / "model"),
        2,
        *(64, 48),
        output_dir=str(tmp_path / "run"),
        per_device_train_batch_size=8,
        max_completion_length=64,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
    )
    assert 0.0 < reward < 1.0
