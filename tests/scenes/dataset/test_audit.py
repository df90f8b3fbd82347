"""The audit finds what was tampered with, damaged or lost."""

import json
import re

import numpy as np
import pytest
from tiny_datasets import make, start

from dig_env.scenes import (
    STAGES,
    PairDataset,
    audit_dataset,
)
from dig_env.scenes.dataset.folder import refresh
from dig_env.scenes.dataset.manifest import Manifest
from dig_env.scenes.dataset.rows import (
    encode,
    read_origin,
    read_rows,
    to_parquet,
)

# The audit


def audit_finds(folder) -> set[str]:
    return {problem.check for problem in audit_dataset(folder).problems}


def test_the_audit_looks_at_everything_and_finds_nothing_wrong(folder):
    audit = audit_dataset(folder)
    assert not audit.problems
    boxes = 3 * sum(len(pair.differences) for pair in PairDataset(folder))
    rows = dict.fromkeys(("rows", "pixels", "labels", "plan", "seeds"), 16)
    assert audit.checked == {"files": 9, "boxes": boxes, "boxes IoU": boxes} | rows


def test_the_audit_command_prints_a_table_and_names_what_is_broken(copy):
    sound = start(str(copy), command="audit")
    assert "no problems" in sound.communicate()[0] and sound.returncode == 0
    path = copy / "data" / "train-mixed-00002.parquet"
    path.write_bytes(path.read_bytes()[:5000])
    broken = start(str(copy), command="audit")
    assert "data/train-mixed-00002.parquet: has 5000 bytes" in broken.communicate()[0]
    assert broken.returncode == 1


def tamper(folder, change, path="data/train-single-00001.parquet"):
    """Alter the rows of a file so that its checksum and the manifest know nothing of it."""
    origin, _ = read_origin(folder / path)
    rows = read_rows(folder / path)
    change(rows)
    (folder / path).write_bytes(to_parquet(rows, origin))
    refresh(folder, Manifest.load(folder), rewritten=path)


def swap_images(rows):
    rows[0]["image_a"], rows[0]["image_b"] = rows[0]["image_b"], rows[0]["image_a"]


def hide_the_change(rows):
    rows[0]["image_b"] = rows[0]["image_a"]


def nudge_box(rows):
    rows[0]["differences"][0]["box"][0] -= 0.25


def move_box(rows):
    box = rows[0]["differences"][0]["box"]
    box[:] = [box[0] + 5, box[1] + 5, box[2] + 5, box[3] + 5]


def drop_label(rows):
    rows[0]["differences"].pop()


def double_seed(rows):
    rows[1] = rows[0]


def flatter_certificate(rows):
    rows[0]["certificate"]["outside_mean"] = 0.0


def edit_plan(rows, edit):
    plan = json.loads(rows[0]["plan"])
    edit(plan)
    rows[0]["plan"] = json.dumps(plan)


def turn_changed_object(rows):
    def edit(plan):
        change = plan["changes"][0]
        for version in filter(None, (change["before"], change["after"])):
            version["rotation_deg"] += 1.0

    edit_plan(rows, edit)


def paint_another_object(rows):
    edit_plan(rows, lambda plan: plan["objects"][0].update(color="a colour of its own"))


def break_plan(rows):
    rows[0]["plan"] = rows[0]["plan"][:-1]


def rename_stage(rows):
    rows[0]["stage"] = "dual"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (swap_images, {"pixels"}),
        (hide_the_change, {"pixels", "labels"}),
        (nudge_box, {"boxes", "labels"}),
        (move_box, {"boxes", "boxes IoU", "labels"}),
        (drop_label, {"labels", "plan"}),
        (double_seed, {"seeds"}),
        (flatter_certificate, {"labels"}),
        (turn_changed_object, {"plan"}),
        (paint_another_object, {"plan"}),
        (break_plan, {"rows"}),
        (rename_stage, {"seeds"}),
    ],
)
def test_the_audit_finds_a_row_that_was_tampered_with(copy, change, found):
    tamper(copy, change)
    assert found <= audit_finds(copy)
    first, second = (change is not double_seed, change is double_seed)
    rows = {problem.row for problem in audit_dataset(copy).problems}
    assert rows == {0} if first else rows == {int(second)}


def test_the_audit_finds_a_second_attribute_that_changes(copy):
    """A change of colour that also turns the object: an unlabelled second difference."""

    def edit(plan):
        change = plan["changes"][0]
        change["after"]["rotation_deg"] += 1.0

    path = next(
        f"data/train-mixed-0000{pair // 2}.parquet"
        for pair, row in enumerate(PairDataset(copy).pair_seeds("mixed"))
        if PairDataset(copy).pair(row).plan.changes[0].change in STAGES["single"].changes[:4]
        and pair % 2 == 0
    )
    tamper(copy, lambda rows: edit_plan(rows, edit), path)
    messages = [problem.message for problem in audit_dataset(copy).problems]
    assert any(re.search("and changes [a-z, ]*rotate", message) for message in messages)


def test_the_audit_finds_a_stage_whose_k_is_out_of_range(copy):
    single = PairDataset(copy).pair(0)

    def replace(rows):
        rows[0] = encode(single, "dual") | {"pair_seed": rows[0]["pair_seed"]}

    tamper(copy, replace, "data/validation-dual-00000.parquet")
    messages = [problem.message for problem in audit_dataset(copy).problems]
    assert "K = 1, and the stage asks for 2 to 2" in messages


def test_the_audit_finds_files_that_are_missing_or_unlisted(copy):
    data = copy / "data"
    (data / "train-single-00000.parquet").rename(data / "train-single-00009.parquet")
    found = {(problem.check, problem.path) for problem in audit_dataset(copy).problems}
    assert found == {
        ("files", "data/train-single-00000.parquet"),
        ("files", "data/train-single-00009.parquet"),
    }


def test_any_flipped_byte_and_any_cut_is_reported_and_crashes_nothing(copy):
    path = copy / "data" / "train-mixed-00000.parquet"
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    # The last 5,000 bytes hold the footer, of which the reader believes most.
    places = [*rng.integers(0, len(good), 15), *rng.integers(len(good) - 5000, len(good), 30)]
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        assert audit_finds(copy) >= {"files"}
    for length in (0, 3, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        assert audit_finds(copy) >= {"files"}
    path.write_bytes(good)
    assert not audit_finds(copy)


def test_a_damaged_file_is_not_built_upon(copy):
    path = copy / "data" / "train-mixed-00002.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="delete it"):
        make(copy, {"mixed": 6})
    path.unlink()
    make(copy, {"mixed": 6})
    assert not audit_finds(copy)
