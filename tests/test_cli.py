"""The command line, run as a user runs it."""

import json
import os
import subprocess
import sys

import pytest

import agents.doctor


def dig_env(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", "from agents.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_doctor_finds_this_machine_sound():
    result = dig_env("doctor")
    assert result.returncode == 0, result.stdout
    assert "Blender rendered a pair" in result.stdout


def test_doctor_names_the_debian_package_of_a_missing_library(monkeypatch):
    class Ldd:
        stdout = "\tlibXrender.so.1 => not found\n\tlibc.so.6 => /lib/libc.so.6\n"

    monkeypatch.setattr(agents.doctor.subprocess, "run", lambda *_, **__: Ldd)
    finding = agents.doctor._system_libraries()
    assert not finding.ok
    assert "libXrender.so.1" in finding.detail and "apt-get install libxrender1" in finding.remedy


def test_doctor_fails_where_blender_cannot_be_imported(tmp_path):
    (tmp_path / "bpy.py").write_text("raise ImportError('libXi.so.6: cannot open')")
    result = dig_env("doctor", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert "FAIL Rendering" in result.stdout and "libXi.so.6" in result.stdout


def test_eval_prints_tables_and_writes_json(tmp_path):
    out = tmp_path / "result.json"
    result = dig_env("eval", "--policy", "oracle", "--episodes", "3", "--out", str(out))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "count_accuracy" in result.stdout
    assert json.loads(out.read_text())["f1"] == 1.0


def test_bench_redteam_prints_a_table_and_writes_it(tmp_path):
    out = tmp_path / "redteam.json"
    result = dig_env("bench", "redteam", "--pairs", "3", "--out", str(out))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "honest answer: none" in result.stdout
    assert {row["wins"] for row in json.loads(out.read_text())["outcomes"]["strict"]} == {0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "--stage", "triple"), "single, dual, mixed"),
        (("eval", "--width", "0"), "width=0"),
        (("eval", "--policy", "/no/such/model"), "no model at"),
        (("eval", "--reward", "best"), "the rewards are full, paper"),
        (("eval", "--coordinates", "polar"), "norm1000, unit, pixel"),
        (("eval", "--out", "/no/such/folder/x.json"), "no folder /no/such/folder"),
        (("eval", "--base-url", "http://localhost:1", "--request", "[]"), "a JSON object"),
        (("train", "--rollouts", "1"), "rollouts=1"),
    ],
)
def test_a_mistake_is_one_clear_line_and_no_traceback(arguments, message):
    result = dig_env(*arguments)
    assert result.returncode == 2
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
