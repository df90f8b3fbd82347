"""The examples run as they are, and so does the notebook, with the outputs that it shows."""

import re
import runpy

import nbclient
import nbformat
import pytest
from paths import ROOT

EXAMPLES, DOCS = ROOT / "examples", ROOT / "docs"
SAID = {
    "first_episode": "picture: first_episode.png",
    "custom_policy": "PixelDiffPolicy",
    "custom_curriculum": "episodes: single to dual",
    "look_closer": "what it saw: look_closer.png",
    "trainers/sb3": "on 4 test pairs",
    "trainers/trl_reward": "reward",
    "trainers/export": "verl: 4 rows",
    "trainers/easyr1_reward": "'overall': 1.0",
    "trainers/verl_reward": "'score': 1.0",
    "evaluation/external_set": "recall",
}
TESTED_ELSEWHERE = {  # with what they need: an endpoint, another environment, a longer time
    "evaluation/evaluate_api_model",
    "pairs/photographs",
    "trainers/merge_lora",
    "trainers/openenv_client",
    "trainers/trl_live",
    "trainers/unsloth_grpo",
    "trainers/verifiers_eval",
}


@pytest.mark.parametrize("example", SAID)
def test_an_example_runs_as_it_is(example, tmp_path, monkeypatch, capsys):
    """But for fewer episodes and pairs."""
    source = (EXAMPLES / f"{example}.py").read_text()
    source = re.sub(r'(episodes=|"single": )\d+', r"\g<1>4", source)
    (tmp_path / "example.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("example.py", run_name="__main__")
    assert SAID[example] in capsys.readouterr().out


def test_every_example_is_short_run_and_in_the_table():
    rooms = (EXAMPLES, *(EXAMPLES / room for room in ("trainers", "evaluation", "pairs")))
    paths = [path for room in rooms for path in room.glob("*.py")]
    names = {str(path.relative_to(EXAMPLES).with_suffix("")) for path in paths}
    table = (EXAMPLES / "README.md").read_text()
    assert names == SAID.keys() | TESTED_ELSEWHERE
    assert [path.name for path in paths if path.name not in table] == []
    long = {name for name in SAID if (EXAMPLES / f"{name}.py").read_text().count("\n") > 60}
    assert long == set()


def test_the_notebook_gives_the_outputs_that_it_shows(tmp_path):
    shown = nbformat.read(DOCS / "first_steps.ipynb", as_version=4)
    run = nbclient.execute(nbformat.from_dict(shown), cwd=tmp_path, kernel_name="python3")
    assert texts(shown) and texts(run) == texts(shown), (
        "run: jupyter execute --inplace docs/first_steps.ipynb"
    )
    assert (DOCS / "first_steps.ipynb").stat().st_size < 400_000


def texts(notebook) -> list[str]:
    """What its cells print, and of each picture that there is one."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [
        output["text"] if output["output_type"] == "stream" else " ".join(sorted(output["data"]))
        for output in outputs
        if output.get("name") != "stderr"
    ]
