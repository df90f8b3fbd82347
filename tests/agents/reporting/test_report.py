"""Reports: what every one of them is, whatever it tells."""

import html
import json
import re

import pytest
from paths import ROOT
from PIL import Image

from dig_env.agents.reporting.plots import Panel, curves
from dig_env.agents.reporting.report import (
    Section,
    throttled,
    versions,
    write_report,
    write_results,
)
from dig_env.agents.reporting.table import Table

DOCS = ROOT / "docs"


@pytest.fixture
def report(tmp_path):
    """A report of a short run: its file."""
    steps = [1, 2, 3, 4]
    figure = curves(
        [Panel("mean", {"reward": (steps, [0.1, 0.2, 0.2, 0.4])}, noisy=True)],
        "step",
        [(1, "single"), (2, "single"), (3, "dual"), (4, "dual")],
    )
    table = Table(("stage", "F1"), [("<single>", "0.40")])
    made = {"seed": 3, "settings": {"rollouts": 8, "stages": ("single", "dual")}}
    path = tmp_path / "new" / "report.html"
    write_report(path, "A run", "It ran.", [Section("Training", "", figure, [table])], made)
    return path


def test_a_report_is_one_file_with_its_plot_beside_it(report):
    assert {path.name for path in report.parent.iterdir()} == {"report.html", "report.png"}
    assert Image.open(report.with_suffix(".png")).size[0] > 500
    page = report.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)|url\((?!#)|@import|<script', page)


def test_the_plot_names_its_curves_and_the_stages(report):
    svg = report.read_text().partition("<svg")[2].partition("</svg>")[0]
    assert all(f">{text}</text>" in svg for text in ("mean", "step", "single", "dual"))


def test_settings_and_machine_are_told_and_nothing_is_taken_for_html(report):
    page = report.read_text()
    assert "rollouts" in page and "single, dual" in page and "cores" in page
    assert "<single>" not in page and "<single>" in html.unescape(page)


def test_of_a_benchmark_every_number_is_on_the_page(tmp_path):
    results = json.loads((DOCS / "results" / "stages.json").read_text())
    bars = {row["stage"] + row["size"]: row["pairs_per_s"] for row in results["rows"]}
    write_results(tmp_path / "stages.json", results, "pairs a second", bars)
    assert (tmp_path / "stages.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "stages.json").read_text()) == results
    page = html.unescape((tmp_path / "stages.html").read_text())

    def leaves(value):
        if isinstance(value, dict):
            value = list(value.values())
        return (
            [leaf for part in value for leaf in leaves(part)]
            if isinstance(value, list)
            else [value]
        )

    assert all(str(leaf) in page for leaf in leaves(results) if isinstance(leaf, (int, float, str)))


def test_a_run_is_told_of_now_and_then_and_not_at_every_step():
    told = []
    call = throttled(told.append, first_s=0, every_s=1000)
    for step in range(5):
        call(step)
    assert told == [0]
    call = throttled(told.append, first_s=1000)
    call(9)
    assert told == [0]


def test_versions_are_those_of_the_libraries_that_are_installed(monkeypatch):
    """The extra eval is installed without torch."""
    monkeypatch.setattr("dig_env.agents.reporting.report.LIBRARIES", ("numpy", "no-such-library"))
    assert versions().keys() == {"dig-env", "python", "numpy"}
