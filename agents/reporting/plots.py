"""The reports' plots: curves over a run, and dots with their intervals."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from dig_env.scenes.extras import extra

with extra("eval"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

SMOOTHING = 10
"""Points over which a noisy curve's mean is drawn."""
# Okabe and Ito's colours, which the colour-blind can tell apart.
CURVE_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass(frozen=True)
class Panel:
    """One of the plots that share a time axis.

    Attributes:
        label: of the vertical axis.
        lines: (x, y) of each curve by its name.
        noisy: draw the mean of the last ``SMOOTHING`` points over the points.
        limits: of the vertical axis; None: those of the values.
    """

    label: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    noisy: bool = False
    limits: tuple[float, float] | None = None


def curves(
    panels: Sequence[Panel], xlabel: str, stages: Iterable[tuple[float, str]] = ()
) -> Figure:
    """Panels below one another, the first the tallest.

    Args:
        panels: what is drawn.
        xlabel: of the axis that they share.
        stages: (x, stage) of each step: when which stage was on is drawn below, and where it
            changed, if that is not too often to be seen.
    """
    spans = stage_spans(stages)
    heights = [3.6] + [1.5] * (len(panels) - 1) + ([0.3 + 0.2 * len(spans)] if spans else [])
    figure = Figure(figsize=(9, sum(heights) + 0.4), layout="constrained")
    all_axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)
    for axes, panel in zip(all_axes[:, 0], panels, strict=False):
        _draw(axes, panel)
        starts = sorted(start for of in spans.values() for start, _ in of)[1:]
        for start in starts if len(starts) <= 12 else ():
            axes.axvline(start, color="gray", linestyle=":", linewidth=1)
    if spans:
        _draw_spans(all_axes[-1, 0], spans)
    all_axes[-1, 0].set_xlabel(xlabel)
    all_axes[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def stage_spans(stages: Iterable[tuple[float, str]]) -> dict[str, list[tuple[float, float]]]:
    """When each stage was on: (start, end) of its unbroken times, in order.

    >>> stage_spans([(1, "single"), (2, "single"), (3, "dual"), (4, "single")])
    {'single': [(1, 3), (4, 4)], 'dual': [(3, 4)]}
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    unbroken = [(stage, [x for x, _ in of]) for stage, of in groupby(stages, lambda step: step[1])]
    for index, (stage, xs) in enumerate(unbroken):
        end = unbroken[index + 1][1][0] if index + 1 < len(unbroken) else xs[-1]
        spans.setdefault(stage, []).append((xs[0], end))
    return spans


def dots(axes: Axes, names: Iterable[str], series: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """A line of the plot for each name, on it a dot with its interval for each series.

    Args:
        axes: to draw on; its horizontal axis runs from 0 to 1.
        names: from top to bottom.
        series: [mean, low, high] of each name.
    """
    names = list(names)
    for place in range(0, len(names), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="gray", alpha=0.1, linewidth=0)
    for index, (label, values) in enumerate(series.items()):
        offset = 0.6 * ((index + 0.5) / len(series) - 0.5)
        means = [mean for mean, _, _ in values]
        errors = [
            [max(0.0, mean - low) for mean, low, _ in values],
            [max(0.0, high - mean) for mean, _, high in values],
        ]
        places = [place + offset for place in range(len(names))]
        color = CURVE_COLORS[index % len(CURVE_COLORS)]
        axes.errorbar(means, places, xerr=errors, fmt="o", markersize=4, color=color, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5))
    axes.grid(axis="x", alpha=0.3)
    if len(series) > 1:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=len(series), frameon=False
        )


def dots_figure(
    names: Iterable[str], series: Mapping[str, Sequence[Sequence[float]]], xlabel: str
) -> Figure:
    """``dots`` alone in a figure that is as high as they need."""
    names = list(names)
    height = 1.2 + len(names) * (0.22 + 0.04 * (len(series) - 1))
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    dots(axes, names, series)
    axes.set_xlabel(xlabel)
    return figure


def bars_figure(values: Mapping[str, float], xlabel: str) -> Figure:
    """A horizontal bar for each name, from top to bottom."""
    figure = Figure(figsize=(9, 1 + 0.3 * len(values)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(values), list(values.values()), color=CURVE_COLORS[0])
    axes.bar_label(bars, fmt="%.4g", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(xlabel)
    return figure


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG file, black on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def figure_svg(figure: Figure) -> str:
    """The figure as SVG for an HTML page, on whose ground and in whose text colour it is drawn."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dig-env"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace("#000000", "currentColor")


def _draw(axes: Axes, panel: Panel) -> None:
    for color, (name, (xs, ys)) in zip(CURVE_COLORS * 2, panel.lines.items(), strict=False):
        if panel.noisy:
            axes.plot(xs, ys, color=color, alpha=0.25, linewidth=0.8)
            axes.plot(xs, _smooth(ys), color=color, label=name)
        else:
            axes.plot(xs, ys, color=color, label=name, marker="o" if len(xs) < 50 else "", ms=3)
    axes.set_ylabel(panel.label)
    if panel.limits is not None:
        axes.set_ylim(panel.limits)
    axes.grid(alpha=0.25)
    if len(panel.lines) > 1:
        # Above and to the left: seen on a phone, too, where the right end is scrolled to.
        columns = min(6, 100 // (7 + max(map(len, panel.lines))))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, frameon=False)


def _draw_spans(axes: Axes, spans: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for place, (color, times) in enumerate(zip(CURVE_COLORS * 2, spans.values(), strict=False)):
        axes.broken_barh([(a, b - a) for a, b in times], (place - 0.4, 0.8), color=color)
    axes.set_yticks(range(len(spans)), list(spans))
    axes.set_ylim(len(spans) - 0.5, -0.5)
    axes.set_ylabel("stage")


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean of the last ``SMOOTHING`` values at each point."""
    ends = range(1, len(values) + 1)
    return [float(np.mean(values[max(0, end - SMOOTHING) : end])) for end in ends]
