"""lmms-eval's own code on what docs/evaluation.md says of it, and on our tasks for it.

Skipped where lmms-eval is not installed. Its model for Qwen3-VL is not run: it needs torchvision
(through qwen-vl-utils), which has no build beside a CPU torch. The policies here are oracles.
"""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
from PIL import Image

pytest.importorskip("lmms_eval")

from lmms_eval.api.model import lmms
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models import get_model_manifest
from lmms_eval.models.simple.qwen3_vl import Qwen3_VL
from lmms_eval.tasks import TaskManager
from lmms_eval.tasks.pope.utils import pope_process_results

from dig_env import format_boxes, instruction
from dig_env.scenes import STAGES, PairDataset

ROOT = Path(__file__).parents[2]
ANSWERS = ("Yes", "yes ", "Yes.", "Yes, there is.")
OUR_TASKS = ROOT / "examples/evaluation/lmms_eval"
PAGE = (ROOT / "docs/evaluation.md").read_text()


@pytest.fixture(scope="module")
def manager():
    return TaskManager("ERROR", include_path=str(OUR_TASKS))


@pytest.fixture(scope="module")
def truths(dataset):
    """The box of a changed object in image A of each pair, by pair seed: image and unit box."""
    pairs = PairDataset(dataset)
    found = {}
    for seed in pairs.pair_seeds("mixed"):
        pair = pairs.pair(seed)
        found[str(seed)] = (Image.fromarray(pair.image_a), pair.boxes_unit[0])
    return found


@pytest.fixture(scope="module")
def refcoco(truths, tmp_path_factory):
    """A data set in the form of lmms-eval's RefCOCO: boxes [x, y, width, height] in pixels."""
    rows = []
    for question_id, (image, box) in truths.items():
        x0, y0, x1, y1 = box * (*image.size, *image.size)
        expressions = ["the cube", "the thing in front"]
        row = {"question_id": question_id, "image": image, "answer": expressions}
        rows.append(row | {"bbox": [x0, y0, x1 - x0, y1 - y0]})
    folder = tmp_path_factory.mktemp("refcoco")
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    for split in ("val", "test"):
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


class Oracle(lmms):
    """Writes the true box of each question, in one frame."""

    def __init__(self, truths, write):
        super().__init__()
        self.truths, self.write, self.prompts = truths, write, []

    def generate_until(self, requests):
        answers = []
        for request in requests:
            prompt, _, _, index, task, split = request.args
            doc = self.task_dict[task][split][index]
            image, box = self.truths[doc["question_id"]]
            self.prompts.append(prompt)
            answers.append(self.write(box, image.size))
        return answers

    def loglikelihood(self, requests):
        raise NotImplementedError

    def generate_until_multi_round(self, requests):
        raise NotImplementedError


def writes(frame):
    return lambda box, size: format_boxes([box], frame, size, exact=True)


def accuracy(manager, refcoco, task, model):
    result = simple_evaluate(
        model,
        tasks=[{"task": task, "dataset_path": str(refcoco)}],
        task_manager=manager,
        batch_size=1,
        cli_args=SimpleNamespace(output_path=None, process_with_media=True, reasoning_tags=None),
    )
    (scores,) = result["results"].values()
    (value,) = [score for name, score in scores.items() if "ACC@0.5," in name]
    return value


@pytest.mark.parametrize(
    ("task", "frames"),
    [
        ("refcoco_bbox_rec_val", {"unit"}),
        ("refcoco_grounding_test", {"norm1000", "pixel"}),
        ("rec_norm1000_refcoco_val", {"norm1000"}),
    ],
)
@pytest.mark.parametrize("frame", ["unit", "norm1000", "pixel"])
def test_the_frames_in_which_a_perfect_answer_counts(manager, refcoco, truths, task, frames, frame):
    result = accuracy(manager, refcoco, task, Oracle(truths, writes(frame)))
    assert result == (1.0 if frame in frames else 0.0)


def test_the_grounding_tasks_take_the_best_of_all_boxes(manager, refcoco, truths):
    def with_spam(box, size):
        spam = [[0.1, 0.1, 0.11, 0.11]] * 20
        return format_boxes([*spam, box], "norm1000", size, exact=True)

    for task, expected in (("refcoco_grounding_test", 1.0), ("rec_norm1000_refcoco_val", 0.0)):
        assert accuracy(manager, refcoco, task, Oracle(truths, with_spam)) == expected


def test_our_task_asks_each_expression_by_itself_and_names_no_other_frame(manager, refcoco, truths):
    model = Oracle(truths, writes("norm1000"))
    accuracy(manager, refcoco, "rec_norm1000_refcoco_val", model)
    assert len(model.prompts) == 2 * len(truths)
    assert set(model.prompts) == {
        f'Locate every object that matches the description "{expression}" in the image. '
        "Report bbox coordinates in JSON format."
        for expression in ("the cube", "the thing in front")
    }


def test_the_documented_tasks_exist(manager):
    documented = set(",".join(re.findall(r"--tasks (\S+)", PAGE)).split(","))
    assert len(documented) >= 6 and documented <= set(manager.all_tasks)
    ours = {path.stem for path in OUR_TASKS.glob("*.yaml")}
    assert len(ours) == 11 and ours <= set(manager.all_tasks)


def test_the_documented_model_and_its_arguments_exist():
    assert set(re.findall(r"--model (\S+)", PAGE)) == {"qwen3_vl"}
    manifest = get_model_manifest("qwen3_vl")
    assert manifest.chat_class_path == "lmms_eval.models.chat.qwen3_vl.Qwen3_VL"
    arguments = ",".join(re.findall(r"--model_args (\S+)", PAGE)).split(",")
    documented = {argument.partition("=")[0] for argument in arguments}
    assert "pretrained" in documented
    assert documented <= set(inspect.signature(Qwen3_VL).parameters)


def test_answers_are_cut_at_128_tokens_unless_told_otherwise():
    assert Qwen3_VL.DEFAULT_GEN_KWARGS["max_new_tokens"] == 128
    assert set(re.findall(r"--gen_kwargs (\w+)=", PAGE)) == {"max_new_tokens"}


@pytest.mark.parametrize(("thinks", "left"), [(True, ""), (None, "maybe [0.1, 0.1, 0.9, 0.9], or")])
def test_a_cut_off_thought_is_an_answer_unless_thinking_is_enabled(thinks, left):
    model = SimpleNamespace(enable_thinking=thinks)
    assert Qwen3_VL._strip_thinking(model, "maybe [0.1, 0.1, 0.9, 0.9], or") == left


def test_pope_wants_the_bare_word():
    doc = {"answer": "yes", "question_id": "1"}
    scores = [pope_process_results(doc, [text])["pope_accuracy"]["score"] for text in ANSWERS]
    assert scores == [1.0, 1.0, 0.0, 0.0]


def test_hallusion_bench_by_rule_reads_yes_and_no(manager, tmp_path):
    shared = {"category": "VS", "subcategory": "chart", "set_id": "0", "figure_id": "1"}
    rows = [
        shared | {"question_id": str(i), "question": f"Is it {i}?", "gt_answer": str(i % 2)}
        for i in range(4)
    ]
    table = datasets.Dataset.from_list(
        [row | {"image": Image.new("RGB", (32, 32)), "gt_answer_details": ""} for row in rows]
    ).cast_column("image", datasets.Image())
    table.to_parquet(tmp_path / "data" / "image-00000-of-00001.parquet")

    class SaysYes(Oracle):
        def generate_until(self, requests):
            self.prompts += [request.args[0] for request in requests]
            return ["Yes, it is."] * len(requests)

    model = SaysYes({}, None)
    task = {"task": "hallusion_bench_image_rule", "dataset_path": str(tmp_path)}
    result = simple_evaluate(
        model,
        tasks=[task | {"dataset_kwargs": None}],
        task_manager=manager,
        batch_size=1,
        cli_args=SimpleNamespace(output_path=None, process_with_media=True, reasoning_tags=None),
    )
    (scores,) = result["results"].values()
    assert scores["aAcc,none"] == 0.5
    assert model.prompts[0] == "Is it 0?\nAnswer yes or no."


# DiG-Bench


class KnowsSome(lmms):
    """Answers pairs of a stage with their true boxes, and others with the whole image."""

    def __init__(self, bench, stage):
        super().__init__()
        pairs = PairDataset(bench / "320x240")
        self.truths = {seed: pairs.pair(seed).boxes_unit for seed in pairs.pair_seeds(stage)}
        self.prompts = set()

    def generate_until(self, requests):
        answers = []
        for request in requests:
            prompt, _, visual, index, task, split = request.args
            doc = self.task_dict[task][split][index]
            assert [image.size for image in visual(doc)] == [(320, 240)] * 2
            self.prompts.add(prompt)
            boxes = self.truths.get(doc["pair_seed"], [[0.0, 0.0, 1.0, 1.0]])
            answers.append(format_boxes(boxes, exact=True))
        return answers

    loglikelihood = generate_until_multi_round = None


def test_dig_bench_asks_as_the_game_does_and_scores_by_stage(manager, bench):
    model = KnowsSome(bench, "dual")
    result = simple_evaluate(
        model,
        tasks=[{"task": "dig_bench", "dataset_path": str(bench)}],
        task_manager=manager,
        batch_size=1,
        cli_args=SimpleNamespace(output_path=None, process_with_media=True, reasoning_tags=None),
    )
    (scores,) = result["results"].values()
    found = {name.removesuffix(",none"): value for name, value in scores.items()}
    assert found["dig_f1_dual"] == 1.0 and found["dig_f1_nuisance"] == 0.0
    assert found["dig_f1"] == 0.5 and 0.5 < found["dig_reward"] < 0.8
    stages = [STAGES[name] for name in ("dual", "nuisance")]
    assert model.prompts == {instruction(difficulty=stage) for stage in stages}
