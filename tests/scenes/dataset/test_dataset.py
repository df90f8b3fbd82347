"""Datasets on disk: what is in a folder, and reading it."""

import dataclasses
import io
import itertools
import json

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_datasets import TINY

from dig_env.scenes import (
    PAPER_STAGES,
    SPLITS,
    STAGES,
    PairDataset,
    Renderer,
    pair_seed_range,
    plan_pair,
)
from dig_env.scenes.dataset.manifest import MANIFEST, stage_seeds
from dig_env.scenes.dataset.rows import (
    decode,
    pixels_sha256,
    read_row,
)


def assert_equal(pair, other):
    for name in ("image_a", "image_b", "ids_a", "ids_b"):
        ours, theirs = getattr(pair, name), getattr(other, name)
        assert ours.dtype == theirs.dtype == np.uint8
        np.testing.assert_array_equal(ours, theirs)
    for name in ("differences", "certificate", "plan"):
        assert getattr(pair, name) == getattr(other, name)


# What is in a folder, and reading it


def test_a_pair_comes_back_as_the_renderer_gave_it(folder):
    dataset = PairDataset(folder)
    with Renderer(TINY) as renderer:
        for stage, split in (("mixed", "train"), ("dual", "validation")):
            seeds = dataset.pair_seeds(stage, split)
            rendered = renderer.imap(plan_pair(seed, STAGES[stage]) for seed in seeds)
            for seed, pair in zip(seeds, rendered, strict=True):
                assert dataset.stage_of(seed) == stage
                assert_equal(dataset.pair(seed), pair)


def test_a_dataset_says_what_it_holds(folder):
    dataset = PairDataset(folder)
    assert dataset.settings == TINY
    assert dataset.splits == ("train", "validation")
    assert dataset.stages == {stage: STAGES[stage] for stage in PAPER_STAGES}
    assert dataset.manifest.missing == 0
    assert dataset.pair_seeds("single", "train") == list(stage_seeds("train", "single")[:8])
    assert dataset.pair_seeds("mixed") == list(stage_seeds("train", "mixed")[:5])
    assert dataset.pair_seeds("dual") == list(stage_seeds("validation", "dual")[:3])
    assert len(dataset) == len(dataset.pair_seeds()) == 16
    assert [pair.plan.seed for pair in dataset] == dataset.pair_seeds()


def test_no_pair_seed_is_in_two_splits_or_two_stages():
    owned = [stage_seeds(split, stage) for split in SPLITS for stage in (*STAGES, "my_own")]
    for seeds, split in zip(owned, np.repeat(SPLITS, len(STAGES) + 1), strict=True):
        within = pair_seed_range(str(split))
        assert seeds[0] in within and seeds[-1] in within
    ordered = sorted(owned, key=lambda seeds: seeds.start)
    assert all(one.stop <= other.start for one, other in itertools.pairwise(ordered))


def test_hugging_face_datasets_loads_the_folder(folder, tmp_path):
    loaded = datasets.load_dataset(str(folder), cache_dir=tmp_path)
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 13, "validation": 3}
    for name in ("image_a", "image_b", "ids_a", "ids_b"):
        assert loaded["train"].features[name] == datasets.Image()
    ours = PairDataset(folder)
    for row in loaded["train"]:
        pair = ours.pair(row["pair_seed"])
        for name in ("image_a", "image_b", "ids_a", "ids_b"):
            np.testing.assert_array_equal(np.asarray(row[name]), getattr(pair, name))
        assert [tuple(diff["box"]) for diff in row["differences"]] == [
            diff.box for diff in pair.differences
        ]
        assert row["certificate"] == dataclasses.asdict(pair.certificate)
        assert row["plan"] == json.dumps(pair.plan.to_json())
        assert row["pixels_sha256"] == pixels_sha256(pair)
    one_stage = datasets.load_dataset(str(folder), "mixed", split="train", cache_dir=tmp_path)
    assert set(one_stage["stage"]) == {"mixed"} and len(one_stage) == 5


@pytest.mark.parametrize("wrong", [{"stage": "dual", "split": "train"}, {"stage": "triple"}])
def test_a_stage_or_split_that_is_not_there_is_refused(folder, wrong):
    with pytest.raises(ValueError, match=r"it has train/mixed, train/single, validation/dual"):
        PairDataset(folder).pair_seeds(**wrong)


def test_a_pair_that_is_not_there_is_refused(folder):
    for seed in (8, -1, pair_seed_range("test").start):
        with pytest.raises(ValueError, match=r"not among the 16"):
            PairDataset(folder).pair(seed)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="dig-env render"):
        PairDataset(tmp_path)


def test_reading_a_damaged_pair_is_an_error_that_names_the_audit(copy):
    path = copy / "data" / "train-single-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"pair seed 1 .*damaged.*dig-env audit"):
        PairDataset(copy).pair(1)


def test_bytes_that_were_damaged_anywhere_are_noticed(copy):
    """Damaged WebP is decoded to other pixels without a word."""
    path = copy / "data" / "train-mixed-00000.parquet"
    whole = path.read_bytes()
    group = pq.read_metadata(path).row_group(0)
    last = group.column(group.num_columns - 1)
    end = last.data_page_offset + last.total_compressed_size
    seeds = PairDataset(copy).pair_seeds("mixed")
    for place in np.linspace(4, end - 1, 100).astype(int):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged.*dig-env audit"):
            for seed in seeds:
                PairDataset(copy).pair(seed)


@pytest.mark.parametrize("path", ["../{name}", "{folder}/{name}", "data/../../{name}"])
def test_a_manifest_cannot_name_files_outside_its_folder(copy, path):
    manifest = json.loads((copy / MANIFEST).read_text())
    file = copy / manifest["files"][0]["path"]
    file.rename(copy.parent / file.name)
    manifest["files"][0]["path"] = path.format(name=file.name, folder=copy.parent)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="leads out of"):
        PairDataset(copy)


def test_a_datasets_files_may_be_links(copy, tmp_path):
    """As in the cache of the Hugging Face hub, where a snapshot links to blobs."""
    pair = PairDataset(copy).pair(1)
    for file in copy.rglob("*.*"):
        if file.is_file():
            file.symlink_to(file.rename(tmp_path / f"blob-{file.name}"))
    assert np.array_equal(PairDataset(copy).pair(1).image_b, pair.image_b)


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "GIF", "too large"])
def test_a_row_holds_pictures_of_its_own_formats_alone(folder, kind):
    dataset = PairDataset(folder)
    row = read_row(folder / dataset.manifest.files[0].path, 0)
    buffer = io.BytesIO()
    if kind == "too large":
        Image.new("L", (4097, 1)).save(buffer, format="PNG")
    else:
        Image.fromarray(dataset.pair(row["pair_seed"]).ids_a).save(buffer, format=kind)
    row["ids_a"]["bytes"] = buffer.getvalue()
    with pytest.raises(Exception, match="cannot identify image|4096 a side"):
        decode(row)
