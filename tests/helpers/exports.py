"""Which pairs the tests of exports hold, and an export's rows."""

from datasets import load_dataset

TRAINERS = ("trl", "easyr1", "verl")
COUNTS = {
    "train": {"single": 4, "dual": 4, "mixed": 5},
    "validation": {"single": 2},
    "test": {"single": 1, "mixed": 2},
}


def rows(folder, split, stage):
    return load_dataset(
        "parquet", data_files=str(folder / "data" / f"{split}-{stage}.parquet"), split="train"
    )
