"""Every code block of README.md and docs/ runs, in one folder with a small dataset.

A block that cannot run here is marked, ``<!-- not run: why -->`` above it, and checked as far as
that goes: Python has no undefined names and its imports are there; a shell block is valid bash, its
``dig-env`` lines are accepted by the command line, its files exist. The pages of docs/environments
are docstrings, which doctest runs.
"""

import ast
import functools
import importlib
import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import tyro
from paths import ROOT
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from sybil.region import Lexeme

from dig_env.agents.cli import main as cli
from dig_env.scenes import PAPER_STAGES, RenderSettings, render_dataset
from dig_env.scenes.dataset import PRESETS

PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    if path.parent.name != "environments" and "```" in path.read_text()
)
SMALL = {"width": 128, "height": 96, "quality": "draft"}
# What a command is given besides, so that it takes a second or two. Of two values the last counts.
TINY = {
    "render": "--width 128 --height 96 --quality draft --workers 1",
    "questions": "--width 128 --height 96 --quality draft --workers 1",
    "audit": "",
    "eval": "--episodes 2",
    "train": "--dataset pairs --steps 1 --pairs-per-step 2 --rollouts 2 --eval-pairs 1",
    "export": "",
}
TINY_COUNT = "--count 16"
STOREYS = ("agents", "dig_env", "scenes")
ELSEWHERE = {"fastapi", "openenv", "verifiers"}  # in environments of tests/frameworks alone


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """A folder with pairs of each stage and split; a page finds it as the one before left it."""
    folder = tmp_path_factory.mktemp("docs")
    for split in ("train", "validation", "test"):
        render_dataset(
            folder / "pairs",
            dict.fromkeys(PAPER_STAGES, 2),
            split,
            RenderSettings(**SMALL),
            workers=1,
        )
    (folder / "runs").mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_blocks(page, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setitem(PRESETS, "paper", dict.fromkeys(PAPER_STAGES, 2))
    parsers = [CodeBlockParser("python", run_python), CodeBlockParser("sh", run_shell)]
    document = Sybil(parsers).parse(ROOT / page)
    examples = list(document.examples())
    fences = re.findall("^```.*$", (ROOT / page).read_text(), flags=re.MULTILINE)
    code = [fence for fence in fences[::2] if not re.match("```({.+}|text)$", fence)]
    assert len(code) == len(examples), f"each block is python or sh: {code}"
    for example in examples:
        example.evaluate()


def is_marked(example) -> bool:
    lines = Path(example.path).read_text().splitlines()
    return re.fullmatch(r"<!-- not run: .+ -->", lines[example.line - 2]) is not None


def run_python(example) -> None:
    if not is_marked(example):
        few = re.sub(r"\bepisodes=\d+", "episodes=2", example.parsed)
        example.parsed = Lexeme(few, example.parsed.offset, example.parsed.line_offset)
        PythonEvaluator()(example)
        return
    source = example.parsed
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom):
            continue
        try:
            module = importlib.import_module(node.module)
        except ModuleNotFoundError as error:  # of another environment
            assert find_spec(node.module) and error.name.split(".")[0] in ELSEWHERE, error
        else:
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
    check = [sys.executable, "-m", "ruff", "check", "--quiet", "--isolated", "--select=F821", "-"]
    found = subprocess.run(check, input=source, capture_output=True, text=True)
    assert found.returncode == 0, f"{example.path}:{example.line}: {found.stdout}{found.stderr}"


def run_shell(example) -> None:
    subprocess.run(["bash", "-n"], input=example.parsed, text=True, check=True)
    lines = example.parsed.replace("\\\n", " ").splitlines()
    for words in filter(None, (shlex.split(line, comments=True) for line in lines)):
        if ">" in words:
            words = words[: words.index(">")]
        if words[0] == "dig-env":
            run_command(words[1:], run=not is_marked(example))
            continue
        assert is_marked(example), f"{example.path}:{example.line}: only dig-env runs: {words}"
        for word in words:
            own = re.match(
                r"(examples|benchmarks|docs|environments|tests)/\S+$", word.removeprefix("./")
            )
            assert not own or (ROOT / word).exists(), f"{example.path}:{example.line}: {word}"


def run_command(words: list[str], run: bool) -> None:
    """Let the command line read the arguments; then carry the command out, small."""
    read = []
    original = tyro.extras.SubcommandApp.cli
    with pytest.MonkeyPatch.context() as patch:

        def only_read(app, **arguments):
            for spec in commands_of(app):
                patch.setattr(spec, "target", recorder(spec.target, read))
            original(app, **arguments)

        patch.setattr(tyro.extras.SubcommandApp, "cli", only_read)
        dig_env(words)
    assert len(read) == 1, shlex.join(words)
    if run:
        count = TINY_COUNT if "--count" in words else ""
        dig_env(words + shlex.split(f"{TINY[words[0]]} {count}"))


def commands_of(app):
    """What tyro knows of each command, of those of two words too."""
    for spec in app._subcommands.values():
        if isinstance(spec.target, tyro.extras.SubcommandApp):
            yield from commands_of(spec.target)
        else:
            yield spec


def dig_env(words: list[str]) -> None:
    """Do as the command does; it has to end well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dig-env", *words])
        try:
            cli.main()
        except SystemExit as done:
            assert not done.code, shlex.join(words)


def recorder(function, calls: list):
    """A function of the same arguments that notes that it was called."""
    return functools.wraps(function)(lambda *_, **__: calls.append(function))


def rows(page: str, after: str) -> dict[str, list[str]]:
    """The cells of the page's first table after a text, by the cell on their left."""
    table = (ROOT / "docs" / page).read_text().partition(f"\n{after}")[2].partition("\n|")[2]
    lines = table.partition("\n\n")[0].splitlines()[2:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0].strip("`"): row[1:] for row in cells}


def result(name: str):
    return json.loads((ROOT / "docs/results" / name).read_text())


def test_the_table_of_difficulties_is_what_was_measured():
    f1 = {(row["condition"], row["policy"]): row["f1"][0] for row in result("axes.json")["rows"]}
    policies = ("pixel difference", "pixel difference at its best", "embedded policy")
    table = rows("difficulty.md", "## How policies do")
    assert len(table) >= 10
    for condition, cells in table.items():
        assert cells == [f"{f1[condition, policy]:.2f}" for policy in policies]


def test_the_table_of_alignment_tasks_has_what_blind_answers_earn():
    blind = result("align.json")["blind"]
    table = rows("align.md", "## Tasks")
    earned = {task: float(cells[-1]) for task, cells in table.items()}
    assert earned == {task: round(blind[task]["reward"][0], 2) for task in blind}


def test_the_table_of_vectors_is_what_was_measured():
    found = {
        (row["pairs"], row["mode"]): row
        for row in result("vector.json")["rows"]
        if row["environments"] == 16
    }
    table = rows("vectors.md", "16 environments")
    for column, mode in enumerate(("sync", "async", "vector_entry_point")):
        live, stored = found["live", mode], found["dataset", mode]
        assert [float(cells[column]) for cells in table.values()] == [
            live["episodes_per_second"],
            live["processes"],
            round(live["megabytes"] / 1000, 1),
            round(stored["episodes_per_second"]),
        ]


@pytest.mark.parametrize(
    ("page", "heading", "file", "arms"),
    [
        (
            "results.md",
            "### 1. GRPO",
            "reproduce_grpo.json",
            {
                "start": "start",
                "GRPO on single differences": "single_only-full",
                "GRPO, automatic curriculum": "automatic-full",
            },
        ),
        (
            "results.md",
            "### 2. Curriculum",
            "reproduce_curriculum.json",
            {
                "automatic promotion": "automatic-full",
                "mixed only": "mixed_only-full",
                "fixed schedule, a third each": "schedule-full",
                "random stages": "random-full",
            },
        ),
        (
            "results.md",
            "### 3. Reward",
            "reproduce_reward.json",
            {
                "format": "schedule-format",
                "format and IoU": "schedule-iou",
                "format and F1": "schedule-f1",
                "all": "schedule-full",
            },
        ),
        ("curricula.md", "## Compared", "curriculum_research.json", None),
    ],
)
def test_the_tables_of_experiments_are_what_was_measured(page, heading, file, arms):
    measured, table = result(file)["table"], rows(page, heading)
    assert table.keys() == (arms or measured).keys()
    for name, cells in table.items():
        found = measured[arms[name] if arms else name]
        f1 = [found[stage]["f1"] for stage in PAPER_STAGES]
        assert cells[:3] == [f"{mean:.2f} [{low:.2f}, {high:.2f}]" for mean, low, high in f1]


def test_the_table_of_seeds_is_what_was_measured():
    held_out, table = result("grpo_seeds.json")["held_out"], rows("results.md", "## GRPO in two")
    for stage, cells in table.items():
        for name, cell in zip(("f1", "reward", "sampled_f1"), cells, strict=True):
            before, after = (held_out[stage][name][when] for when in ("before", "after"))
            assert cell == f"{before['mean']:.2f} → {after['mean']:.2f} ± {after['sd']:.2f}"


def test_the_architecture_names_every_room():
    drawn = re.findall(r"── (\w+)/", (ROOT / "docs/architecture.md").read_text())
    rooms = [
        path.parent.name for storey in STOREYS for path in (ROOT / storey).glob("*/__init__.py")
    ]
    assert sorted(drawn) == sorted(room for room in rooms if room not in STOREYS)


LINKS = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md"))


@pytest.mark.parametrize("page", LINKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """To files that are there, and to headings; and no conflict of a merge was left."""
    assert "\n<<<<<<< " not in page.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if ":" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall("^#+ (.+)$", target.read_text(), flags=re.MULTILINE)
            assert anchor in map(slug, headings), link


def slug(heading: str) -> str:
    """GitHub's and MyST's name of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
