"""One reward: every adapter gives the number that `dig_env.score` gives, to the last bit."""

from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import gymnasium as gym
import numpy as np
import pytest
from answers_corpus import CORPUS, answers_about
from PIL import Image
from small import SMALL

from dig_env import REWARDS, format_boxes, resolve_reward, score, score_batch
from dig_env.agents import evaluate, evaluate_external, evaluate_stored
from dig_env.agents.data.export import ExportSettings
from dig_env.agents.evaluation.external import ExternalPair
from dig_env.agents.integrations import easyr1, read_truth, score_responses, trl, verl
from dig_env.agents.integrations.trl_zoom import zoom_reward
from dig_env.agents.training.settings import GRPORun
from dig_env.redteam import red_team
from dig_env.scenes import PairDataset, render_dataset

OPTIONS = [
    {},
    *({"reward": name} for name in REWARDS),
    {"reward": {"match_iou": 0.75, "format_weight": 0.3}},
    {"coordinates": "pixel", "size": (1000, 500)},
    {"coordinates": "unit", "opening": "<think>"},
    {"opening": "<think>"},
]


EVERYWHERE = "[[0, 0, 500, 1000], [0, 0, 1000, 1000]]"


class Everywhere:
    """Answers the left half and the whole image."""

    def act(self, observations):
        return [EVERYWHERE] * len(observations)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    render_dataset(folder, {"mixed": 3}, "train", SMALL)
    return folder


def expected(case, options):
    return score(
        options.get("opening", "") + case.answer,
        case.truth,
        resolve_reward(options.get("reward", "full")),
        coordinates=options.get("coordinates", "norm1000"),
        size=options.get("size"),
    )


def test_the_corpus_has_rewards_of_all_heights_and_truths_of_no_to_four_boxes():
    totals = {expected(case, {}).total for case in CORPUS}
    assert {0.0, 1.0} <= totals and len(totals) > 40
    assert {len(case.truth) for case in CORPUS} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_adapter_gives_the_same_number_to_the_last_bit(options):
    scores = [expected(case, options) for case in CORPUS]
    totals = [result.total for result in scores]
    answers = [case.answer for case in CORPUS]
    truths = [case.truth for case in CORPUS]

    assert trl.reward_function(**options)(completions=answers, truth=truths) == totals

    functions, weights = trl.reward_parts(**options)
    parts = [function(completions=answers, truth=truths) for function in functions]
    for total, values in zip(totals, zip(*parts, strict=True), strict=True):
        terms = [weight * value for weight, value in zip(weights, values, strict=True)]
        assert min(1.0, terms[0] + terms[1] + terms[2]) == total

    inputs = [
        {"response": case.answer, "response_length": 1, "ground_truth": case.truth_text}
        for case in CORPUS
    ]
    assert [row["overall"] for row in easyr1.compute_score(inputs, **options)] == totals

    rows = [verl.compute_score("dig", c.answer, c.truth_text, {}, **options) for c in CORPUS]
    assert [row["score"] for row in rows] == totals
    for name in ("format", "f1", "iou", "precision", "recall"):
        assert [row[name] for row in rows] == [getattr(result, name) for result in scores]


SPELLINGS = {
    "name": "paper",
    "fields": asdict(REWARDS["paper"]),
    "a mapping that is no dict": MappingProxyType(asdict(REWARDS["paper"])),
    "settings": REWARDS["paper"],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_reward_is_spelled_alike_everywhere(spelling):
    reward, paper = SPELLINGS[spelling], REWARDS["paper"]
    cases = [case for case in CORPUS if expected(case, {}) != expected(case, {"reward": paper})]
    totals = [expected(case, {"reward": paper}).total for case in cases]
    answers, truths = [case.answer for case in cases], [case.truth for case in cases]
    assert len(cases) > 5
    truth_of_two = next(np.array(truth) for truth in truths if len(truth) == 2)
    assert [score(*of, reward).total for of in zip(answers, truths, strict=True)] == totals
    assert [result.total for result in score_batch(answers, truths, reward)] == totals
    assert [result.total for result in score_responses(answers, truths, reward=reward)] == totals
    assert trl.reward_function(reward=reward)(completions=answers, truth=truths) == totals
    assert trl.reward_parts(reward)[1] == list(paper.weights.values())
    said = [[{"role": "assistant", "content": answer}] for answer in answers]
    assert zoom_reward(reward=reward)(completions=said, truth=truths) == totals
    assert GRPORun(reward=reward).reward == paper
    assert resolve_reward(ExportSettings(reward=reward).reward) == paper
    assert red_team(reward, [truth_of_two]) == red_team(paper, [truth_of_two])


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_environments_and_evaluations_take_a_reward_in_every_spelling(spelling, stored, tmp_path):
    reward = SPELLINGS[spelling]
    picture = tmp_path / "black.png"
    Image.new("RGB", (128, 96)).save(picture)
    box = np.array([[0.1, 0.1, 0.2, 0.2]])
    external = [ExternalPair("0", picture, picture, (128, 96), box, ("color",))]
    earned = []
    for config in (reward, REWARDS["paper"]):
        with gym.make("DiG-v0", dataset=stored, stage="mixed", reward=config) as env:
            env.reset(seed=0)
            in_env = env.step(EVERYWHERE)[1]
        report = evaluate_stored(Everywhere(), stored, stage="mixed", split="train", config=config)
        outside = evaluate_external(Everywhere(), external, config=config)
        earned.append((in_env, report.reward, outside.metrics))
    assert earned[0] == earned[1]
    report = evaluate_stored(Everywhere(), stored, stage="mixed", split="train")
    assert report.reward != earned[0][1]


@pytest.mark.parametrize("take", [evaluate_stored, evaluate, evaluate_external])
def test_an_evaluation_refuses_an_unknown_reward_before_it_asks_the_policy(take, stored):
    pair = ExternalPair("0", Path("none"), Path("none"), (128, 96), np.zeros((1, 4)), ("color",))
    of = {evaluate_stored: [stored], evaluate: [], evaluate_external: [[pair]]}[take]
    more = {"split": "train", "stage": "mixed"} if take is evaluate_stored else {}
    with pytest.raises(ValueError, match="unknown reward 'papr'; the rewards are full, paper"):
        take(None, *of, config="papr", **more)


@pytest.mark.parametrize("reward", ["full", "strict"])
def test_the_environment_gives_the_same_number_too(reward, stored):
    dataset, rng = PairDataset(stored), np.random.default_rng(0)
    with gym.make("DiG-v0", dataset=stored, stage="mixed", reward=reward) as env:
        for seed in dataset.pair_seeds("mixed", "train"):
            truth = dataset.pair(seed).boxes_unit
            text = format_boxes(truth, exact=True)
            for answer in answers_about(truth, rng).values():
                env.reset(options={"pair_seed": seed})
                total = env.step(answer)[1]
                assert verl.compute_score("dig", answer, text, reward=reward)["score"] == total
                assert trl.reward_function(reward)(completions=[answer], truth=[truth]) == [total]
                entry = {"response": answer, "response_length": 1, "ground_truth": text}
                assert easyr1.compute_score([entry], reward=reward)[0]["overall"] == total


def test_trl_may_pass_conversations():
    texts = ["[[120, 300, 210, 400]]", "nothing"]
    conversations = [[{"role": "assistant", "content": text}] for text in texts]
    truth = [[[0.12, 0.3, 0.21, 0.4]]] * 2
    assert trl.reward_function()(completions=conversations, truth=truth) == [1.0, 0.0]


def test_trl_gets_names_for_its_metrics_and_the_means_of_the_parts():
    functions, weights = trl.reward_parts("full")
    assert [function.__name__ for function in functions] == ["dig_format", "dig_f1", "dig_iou"]
    assert weights == list(REWARDS["full"].weights.values())
    logged = {}
    texts, truth = ["[[120, 300, 210, 400]]", "nothing"], [[[0.12, 0.3, 0.21, 0.4]]] * 2
    trl.reward_function()(completions=texts, truth=truth, log_metric=logged.__setitem__)
    assert logged == {f"dig/{name}": 0.5 for name in ("format", "f1", "iou", "precision", "recall")}


def test_the_keys_are_the_same_whatever_the_answer():
    inputs = [
        {"response": case.answer, "response_length": 1, "ground_truth": case.truth_text}
        for case in CORPUS
    ]
    keys = {tuple(row) for row in easyr1.compute_score(inputs)}
    assert keys == {("overall", "format", "f1", "iou", "precision", "recall")}
    keys = {tuple(verl.compute_score("dig", c.answer, c.truth_text)) for c in CORPUS}
    assert keys == {("score", "format", "f1", "iou", "precision", "recall")}


def test_a_thinking_models_cut_off_thought_is_no_answer():
    truth = format_boxes([[0.12, 0.3, 0.21, 0.4]], exact=True)
    draft = f"Let me look. Perhaps {truth}"
    assert verl.compute_score("dig", draft, truth)["score"] == 1.0
    assert verl.compute_score("dig", draft, truth, opening="<think>")["score"] == 0.0
    answer = f"{draft}</think>{truth}"
    assert verl.compute_score("dig", answer, truth, opening="<think>")["score"] == 1.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not one JSON list"),
        ("the cube", "is not one JSON list"),
        ("null", "is not one JSON list"),
        ("[[100, 100, 200, 200]] [[500, 500, 600, 600]]", "is not one JSON list"),
        ("Boxes: [[100, 100, 200, 200]]", "is not one JSON list"),
        ("[[]]", "in place of box 0"),
        ("[[0, 0, 1]]", "in place of box 0"),
        ("[[1, 2, 30, 40], [1, 2, 30, true]]", "in place of box 1"),
        ('[["1", "2", "30", "40"]]', "in place of box 0"),
        ("[[5, 5, 5, 5]]", "none within 0 to 1000"),
        ("[[900, 300, 1500, 700]]", "none within 0 to 1000"),
        ("[[-4, 300, 500, 700]]", "none within 0 to 1000"),
        ("[[1, 2, NaN, 40]]", "none within 0 to 1000"),
        ("[[0.1, 0.1, 0.2, 0.2]]", "is in the frame 0 to 1"),
        ("[[100, 100, 200, 200], [0, 0, 1, 1]]", "is in the frame 0 to 1"),
    ],
)
def test_a_ground_truth_that_is_none_is_an_error_and_not_a_score(text, why):
    for scored in (
        lambda: read_truth(text),
        lambda: trl.reward_function()(completions=["[]"], truth=[text]),
        lambda: verl.compute_score("dig", "[]", text),
        lambda: easyr1.compute_score([{"response": "[]", "ground_truth": text}]),
    ):
        with pytest.raises(ValueError, match=f"{why}.*in thousandths.*format_boxes"):
            scored()


@pytest.mark.parametrize("truth", [None, [[]], [[100, 100, 200, 200]], [[[0.1, 0.1, 0.2, 0.2]]]])
def test_a_truth_in_numbers_is_boxes_from_0_to_1_or_an_error(truth):
    with pytest.raises(ValueError, match="truth_boxes"):
        trl.reward_function()(completions=["[]"], truth=[truth])


BOX = "[[120, 300, 210, 400]]"
CALL = {"type": "function", "function": {"name": "zoom", "arguments": {}}}


@pytest.mark.parametrize(
    ("last", "reward"),
    [
        ({"content": BOX}, 1.0),
        ({"content": [{"type": "text", "text": BOX}]}, 1.0),
        ({"content": [{"type": "text", "text": "[[120, 300,"}, " 210, 400]]"]}, 1.0),
        ({"content": BOX, "reasoning_content": "Or [[1, 2, 3, 4]]?"}, 1.0),
        ({"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": BOX}]}, 1),
        ({"content": None}, 0.0),
        ({"content": []}, 0.0),
        ({"content": {"boxes": 1}}, 0.0),
        ({}, 0.0),
        ({"content": "", "reasoning_content": BOX}, 0.0),
        ({"content": [{"type": "image", "image": None}]}, 0.0),
        ({"content": BOX, "tool_calls": [CALL]}, 0.0),
        ({"content": BOX, "role": "tool", "name": "zoom"}, 0.0),
    ],
)
def test_trl_scores_the_text_of_the_last_message_in_whatever_parts_it_comes(last, reward):
    completions = [[{"role": "assistant", "content": "?"}, {"role": "assistant"} | last]]
    truth = [[[0.12, 0.3, 0.21, 0.4]]]
    for function in (trl.reward_function(), trl.reward_parts()[0][0], zoom_reward()):
        assert function(completions=completions, truth=truth) == [reward]


def test_a_thought_that_trl_split_off_needs_no_end_mark_in_the_answer():
    reply = {"role": "assistant", "content": BOX, "reasoning_content": "Hm."}
    dig = trl.reward_function(opening="<think>")
    assert dig(completions=[[reply]], truth=[[[0.12, 0.3, 0.21, 0.4]]]) == [1.0]


@pytest.mark.parametrize("completion", [[], ""])
def test_an_empty_completion_earns_nothing(completion):
    truth = [[[0.12, 0.3, 0.21, 0.4]]]
    assert trl.reward_function()(completions=[completion], truth=truth) == [0.0]
    assert zoom_reward()(completions=[completion or []], truth=truth) == [0.0]


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="unknown reward 'best'.*full"):
        verl.compute_score("dig", "[]", "[]", reward="best")
    with pytest.raises(ValueError, match="needs the image"):
        verl.compute_score("dig", "[]", "[]", coordinates="pixel")
