"""The command line, run as a user runs it."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from dig_env import REWARDS
from dig_env.agents.cli import doctor
from dig_env.agents.cli import main as cli
from dig_env.agents.cli.common import tasks_named
from dig_env.align import TASKS
from dig_env.scenes import RenderError

DOCS = ROOT / "docs"


def dig_env(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", "from dig_env.agents.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process: its exit code, what it printed, and what it told besides."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["dig-env", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run


# Help


def test_the_overview_has_a_line_for_every_command_in_its_group(call):
    code, out, _ = call("--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    for group, commands in cli.GROUPS.items():
        part = out.partition(f"\n{group}:\n")[2].partition("\n\n")[0]
        assert [line[2:18].rstrip() for line in part.splitlines()] == [
            cli.command_name(command) for command in commands
        ]


def test_no_command_is_a_usage_error_with_the_overview(call):
    code, out, _ = call()
    assert code == 2 and "Examples:" in out


def test_the_page_has_the_help_of_every_command_and_every_command_takes_quiet_and_json():
    reference = runpy.run_path(str(DOCS / "conf.py"))["command_reference"]()
    helps = reference.split("\n#### ")[1:]
    assert len(helps) == sum(map(len, cli.GROUPS.values()))
    for help_text in helps:
        takes = "  --quiet " in help_text and "  --json " in help_text
        assert takes == (not help_text.startswith("dig-env completion"))


def test_bash_completes_commands_and_options(call, tmp_path):
    code, script, _ = call("completion", "bash")
    assert code == 0
    (tmp_path / "dig-env").write_text(script)
    line = (
        "source ./dig-env; f=$(complete -p dig-env | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); "
        "COMP_WORDS=(dig-env eval --po); COMP_CWORD=2; $f dig-env --po eval; "
        'echo "${COMPREPLY[@]}"'
    )
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "--policy", ran.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_of_their_own(shell, call):
    code, script, _ = call("completion", shell)
    assert code == 0 and "eval-external" in script


# Output and exit codes


@pytest.mark.parametrize("command", ["eval", "eval-external", "play", "train"])
def test_the_help_names_every_reward(call, command):
    code, printed, told = call(command, "--help")
    assert code == 0
    text = " ".join(re.sub("[│|]", " ", printed + told).split())
    (listed,) = set(re.findall(r"[Nn]ame of the reward[^:]*: ([\w, ]+)\.", text))
    assert re.split(", | or ", listed) == list(REWARDS)


def test_json_is_one_object_on_stdout_and_the_rest_goes_elsewhere(call, tmp_path):
    out = tmp_path / "redteam.json"
    code, printed, told = call("redteam", "--pairs", 2, "--json", "--out", out)
    assert code == 0
    result = json.loads(printed)
    assert printed.count("\n") == 1 and f"{len(REWARDS)} of {len(REWARDS)} rewards" in told
    files = result.pop("files")
    assert result == json.loads(out.read_text())
    assert set(tmp_path.iterdir()) == {out, Path(files["report"]), tmp_path / "redteam.png"}
    page = Path(files["report"]).read_text()
    assert "attacks that outscored" in page and not re.search(r'(src|href)="(?!data:|#)', page)


def test_quiet_leaves_the_result_alone(call, tmp_path):
    code, printed, told = call("redteam", "--pairs", 2, "--quiet", "--out", tmp_path / "r.json")
    assert code == 0 and told == "" and "honest answer: none" in printed


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("no such stage"), 2),
        (FileNotFoundError("no such file"), 2),
        (RenderError("Blender died"), 1),
        (OSError(28, "No space left on device"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_tell_bad_input_failure_and_interruption_apart(error, code, call, monkeypatch):
    def broken(output=None):
        """Fail."""
        raise error

    monkeypatch.setattr(cli, "GROUPS", {"Broken": (broken, broken)})
    got, printed, told = call("broken")
    assert got == code and printed == "" and "error:" in told and "Traceback" not in told


def test_doctor_finds_this_machine_sound_and_says_so_as_json(call):
    code, printed, _ = call("doctor", "--json")
    result = json.loads(printed)
    assert code == 0 and result["ok"]
    names = [finding["name"] for finding in result["findings"]]
    assert names == [
        *("Python", "Libraries", "Blender", "System libraries", "Disk", "Memory", "Compute"),
        "Rendering",
    ]
    assert "rendered a pair" in result["findings"][-1]["detail"]
    compute = result["findings"][-2]["detail"]
    assert re.match(
        r"\d.* cores.* GB of free memory: \d+ Blender process\(es\) by default", compute
    )


def test_doctor_names_the_debian_package_of_a_missing_library(monkeypatch):
    class Ldd:
        stdout = "\tlibXrender.so.1 => not found\n\tlibc.so.6 => /lib/libc.so.6\n"

    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: Ldd)
    finding = doctor._system_libraries()
    assert not finding.ok
    assert "libXrender.so.1" in finding.detail and "apt-get install libxrender1" in finding.remedy


def test_doctor_fails_where_blender_cannot_be_imported(tmp_path):
    (tmp_path / "bpy.py").write_text("raise ImportError('libXi.so.6: cannot open')")
    result = dig_env("doctor", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1, result.stdout
    assert "FAIL Rendering" in result.stdout and "libXi.so.6" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "--stage", "triple"), "single, dual, mixed"),
        (("eval", "--width", "0"), "width=0"),
        (("eval", "--policy", "/no/such/model"), "no model at"),
        (("eval", "--reward", "best"), "the rewards are full, paper"),
        (("eval", "--coordinates", "polar"), "norm1000, unit, pixel"),
        (("eval", "--answers", "klingon"), "strict, lenient, qwen2-vl"),
        (("eval", "--out", "/no/such/folder/x.json"), "no folder /no/such/folder"),
        (("eval", "--out", "page.html"), "ends in .json"),
        (("eval", "--base-url", "http://localhost:1", "--request", "[]"), "a JSON object"),
        (("train", "--rollouts", "1"), "rollouts=1"),
    ],
)
def test_a_mistake_is_one_clear_line_and_no_traceback(arguments, message, call):
    code, printed, told = call(*arguments)
    assert code == 2 and printed == ""
    assert message in told and "Traceback" not in told


def test_all_alignment_tasks_are_named_by_all():
    assert tasks_named("all") == tuple(TASKS)
    assert tasks_named("relation,existence") == ("relation", "existence")
    with pytest.raises(ValueError, match="give one or more of text_to_box"):
        tasks_named("al")
