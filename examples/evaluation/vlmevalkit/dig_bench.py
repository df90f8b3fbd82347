"""DiG-Bench in VLMEvalKit, asked and scored as ``dig-env bench run`` does.

First write its table, for the model to be evaluated, which decides notation and frame:

    LMUData=~/LMUData python dig_bench.py dig-bench 320x240 Qwen/Qwen3-VL-8B-Instruct

Then put this file beside VLMEvalKit's run.py, add ``import dig_bench; dig_bench.register()`` at its
top, and run ``python run.py --data DiG-Bench_320x240 --model Qwen3-VL-8B-Instruct``.
"""

import base64
import csv
import json
import sys
from pathlib import Path

import pandas as pd
import vlmeval.dataset
from vlmeval.dataset.image_base import ImageBaseDataset
from vlmeval.smp import LMUDataRoot, dump, get_intermediate_file_path, load

from dig_env import instruction, score
from dig_env.answers import habit_of
from dig_env.drawing import png
from dig_env.scenes import PairDataset

SIZES = ("320x240", "640x480")
COLUMNS = (
    *("index", "image", "image_path", "question", "answer", "category"),
    *("answers", "coordinates", "width", "height"),
)


class DiGBench(ImageBaseDataset):
    """Pairs of images with a box around every difference; a row each.

    ``answer`` holds the true boxes in the unit frame, as JSON; ``category`` the stage; ``answers``
    and ``coordinates`` how the prompt asks and the answer is read.
    """

    TYPE = "GROUNDING"  # for which no model of VLMEvalKit changes the prompt
    DATASET_URL = {f"DiG-Bench_{size}": f"DiG-Bench_{size}.tsv" for size in SIZES}
    DATASET_MD5 = dict.fromkeys(DATASET_URL)

    def load_data(self, dataset: str) -> pd.DataFrame:
        """The table that ``write_table`` wrote."""
        path = Path(LMUDataRoot(), f"{dataset}.tsv")
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}: write it with dig_bench.py, see its head")
        return self.prepare_tsv(path.name)

    def evaluate(self, eval_file: str, **judge_kwargs) -> pd.DataFrame:
        """Mean F1 and reward in percent, of all pairs and by stage; no judge is asked."""
        rows = []
        for line in load(eval_file).to_dict("records"):
            earned = score(
                str(line["prediction"]),
                json.loads(line["answer"]),
                coordinates=line["coordinates"],
                answers=line["answers"],
                size=(line["width"], line["height"]),
            )
            rows.append({"stage": line["category"], "f1": earned.f1, "reward": earned.total})
        table = pd.DataFrame(rows)
        means = table.groupby("stage", sort=False)[["f1", "reward"]].mean()
        means.loc["Overall"] = table[["f1", "reward"]].mean()
        result = (100 * means).reset_index(names="split")
        dump(result, get_intermediate_file_path(eval_file, "_acc", "csv"))
        return result


def register() -> None:
    """Make ``--data DiG-Bench_320x240`` known to VLMEvalKit in this process."""
    vlmeval.dataset.DATASET_CLASSES.insert(0, DiGBench)
    vlmeval.dataset.SUPPORTED_DATASETS.extend(DiGBench.supported_datasets())


def write_table(bench: Path, size: str, model: str, out: Path) -> Path:
    """Write a size of the benchmark in VLMEvalKit's layout: lossless images as base64 in a TSV.

    Args:
        bench: folder that 'dig-env bench make' filled.
        size: such as "320x240".
        model: whose family decides notation and frame; "" for plain lists from 0 to 1000.
        out: folder for DiG-Bench_SIZE.tsv; VLMEvalKit looks in LMUDataRoot().
    """
    dataset, habit = PairDataset(bench / size), habit_of(model)
    width, height = dataset.settings.width, dataset.settings.height
    path = out / f"DiG-Bench_{size}.tsv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, delimiter="\t")
        table.writeheader()
        for seed in dataset.pair_seeds():
            pair = dataset.pair(seed)
            images = [base64.b64encode(png(of)).decode() for of in (pair.image_a, pair.image_b)]
            difficulty = pair.plan.difficulty
            row = {
                "index": seed,
                "image": images,
                "image_path": [f"{size}-{seed}-{side}.png" for side in "ab"],
                "question": instruction(size=(width, height), difficulty=difficulty, **habit),
                "answer": json.dumps(pair.boxes_unit.tolist()),
                "category": dataset.stage_of(seed),
            }
            table.writerow(row | habit | {"width": width, "height": height})
    return path


if __name__ == "__main__":
    folder, size, *model = sys.argv[1:]
    print(write_table(Path(folder), size, "".join(model), Path(LMUDataRoot())))
