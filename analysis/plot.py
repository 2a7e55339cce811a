"""Figures of a record, without a display: curves, consensus, and who computed, sent and waited when.

    save_plots(record, directory)          objective.png, accuracy.png, consensus.png, timeline.png, as they apply
    compare({"ring": a, ...}, "both.png")  several records over rounds, bytes and simulated time

Colours are those of Okabe and Ito, which readers with any colour vision tell apart; lines differ in dashes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.patches
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from simnet.analysis.scales import common_unit, words
from simnet.errors import InputError, Outcome, nearest
from simnet.record import Record

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK)
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
GREY, LIGHT = "#8C8C8C", "#D9D9D9"
ABSCISSAE = ("round", "wire_bytes", "sim_time_s")
LARGEST = 1e12  # beyond it a run has diverged, and drawing more would flatten the rest
TIMELINE_NODES = 24
TIMELINE_ROUNDS = 6
_STYLE: dict[Any, Any] = {
    "font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "legend.fontsize": 9, "xtick.labelsize": 9,
    "ytick.labelsize": 9, "figure.titlesize": 12, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.8, "axes.axisbelow": True, "lines.linewidth": 1.8,
    "legend.frameon": False, "savefig.dpi": 150, "figure.constrained_layout.use": True,
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One line: a column of a record against its rounds, bytes and simulated time."""

    record: Record
    name: str
    label: str
    colour: str
    dash: Any = "-"
    width: float = 1.8

    @property
    def y(self) -> np.ndarray:
        """The column, with NaN where a diverged run has left what an axis can show."""
        y = self.record.rounds[self.name].astype(np.float64)
        return np.where(np.abs(y) < LARGEST, y, np.nan)


def save_plots(record: Record, directory: str | Path) -> list[Path]:
    """Draw what the record has into `directory` (made if missing); returns the files in the order above."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    rounds, paths = record.rounds, []
    together = ("consensus_distance",) if _reporting(record) != 1 else ()  # one model agrees with itself
    title = _title(record)
    with matplotlib.rc_context(_STYLE):
        if _has(rounds, "objective"):
            paths.append(_save(_objective(record, title), directory / "objective.png"))
        if _has(rounds, "accuracy"):
            paths.append(_save(_accuracy(record, title), directory / "accuracy.png"))
        if shown := [name for name in (*together, "stationarity_gap") if _has(rounds, name)]:
            paths.append(_save(_consensus(record, shown, title), directory / "consensus.png"))
        if len(record.spans["node"]):
            paths.append(_save(_timeline(record, title), directory / "timeline.png"))
    return paths


def compare(records: Mapping[str, Record], path: str | Path, y: str = "objective") -> Path:
    """Overlay column `y` of several records, named by the mapping's keys, over rounds, bytes and simulated time.

    Raises InputError where a record lacks the column.
    """
    curves = []
    for i, (label, record) in enumerate(records.items()):
        if not _has(record.rounds, y):
            raise InputError(f"the record {label!r} has no column {y!r}{nearest(y, record.rounds)}")
        dash = DASHES[(i + i // len(COLOURS)) % len(DASHES)]
        curves.append(Curve(record, y, label, COLOURS[i % len(COLOURS)], dash))
    if not curves:
        raise InputError("there is nothing to compare: no record was given")
    with matplotlib.rc_context(_STYLE):
        figure = _three_panels(curves, words(y), "", percent=y.startswith("accuracy"))
        return _save(figure, Path(path))


def _title(record: Record) -> str:
    """The run's name, with its outcome where that is not a plain end."""
    bad = (Outcome.DIVERGED, Outcome.STARVED, Outcome.TOO_LARGE, Outcome.INTERRUPTED)
    words_ = [str(record.header.get("name") or ""), record.ended.value if record.ended in bad else ""]
    return " - ".join(word for word in words_ if word)


# ---- curves ------------------------------------------------------------------------------------------------------


def _objective(record: Record, title: str) -> Figure:
    if _has(record.rounds, "objective_gap") and (record.rounds["objective_gap"] > 0).any():
        curves = [Curve(record, "objective_gap", "at the mean model", BLUE)]
        return _three_panels(curves, r"objective gap  $f(\bar{x}) - f^\star$", title)
    curves = [Curve(record, "objective", "mean model", BLUE)]
    if _has(record.rounds, "validation_loss_mean_model"):
        curves.append(Curve(record, "validation_loss_mean_model", "mean model, validation", GREEN, DASHES[2]))
    if _has(record.rounds, "node_objective_mean"):
        curves.append(Curve(record, "node_objective_mean", "nodes' own, mean", ORANGE, DASHES[1]))
    return _three_panels(curves, "objective", title, target=_target(record, "objective"))


def _accuracy(record: Record, title: str) -> Figure:
    curves = [Curve(record, "accuracy", "mean over nodes", BLUE)]
    if _has(record.rounds, "accuracy_mean_model") and _reporting(record) != 1:
        curves.append(Curve(record, "accuracy_mean_model", "mean model", ORANGE, DASHES[1]))
    target = _target(record, "accuracy")
    return _three_panels(curves, "validation accuracy", title, target=target, percent=True)


def _three_panels(
    curves: Sequence[Curve], label: str, title: str, target: float | None = None, percent: bool = False
) -> Figure:
    """The same curves against rounds, bytes on the wire and simulated time, with one y axis."""
    figure = Figure(figsize=(10.5, 3.9 if len(curves) > 1 else 3.5))
    panels = np.atleast_1d(figure.subplots(1, 3, sharey=True))
    for axes, abscissa in zip(panels, ABSCISSAE, strict=True):
        size, unit = common_unit(np.concatenate([c.record.rounds[abscissa] for c in curves]), abscissa)
        for curve in curves:
            _draw(axes, curve, curve.record.rounds[abscissa] / size)
        axes.set_xlabel(_rounds(curves[0].record) if abscissa == "round" else f"{words(abscissa)} ({unit})")
        _scale_x(axes, [curve.record.rounds[abscissa] / size for curve in curves], abscissa)
        if target is not None:
            axes.axhline(target, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    if target is not None:
        panels[0].annotate(
            "target",
            (0, target),
            xycoords=("axes fraction", "data"),
            xytext=(3, 3 if percent else -11),  # at the left the curves are still on the other side of the line
            textcoords="offset points",
            ha="left",
            color="#5F5F5F",
            fontsize=9,
        )
    panels[0].set_ylabel(label)
    every = np.concatenate([curve.y for curve in curves])
    _scale_y(panels[0], every if target is None else np.append(every, target), percent)
    _finish(figure, panels[0], title, len(curves))
    return figure


def _draw(axes: Axes, curve: Curve, x: np.ndarray) -> None:
    y = curve.y
    marker = "o" if len(y) <= 12 else None
    axes.plot(
        x, y, label=curve.label, color=curve.colour, linestyle=curve.dash, linewidth=curve.width, marker=marker,
        markersize=3.5,
    )  # fmt: skip


def _scale_x(axes: Axes, columns: Sequence[np.ndarray], abscissa: str) -> None:
    """Linear from 0, but logarithmic where one curve ends so early that it would vanish at the left edge."""
    ends = np.array([np.nanmax(column, initial=0.0) for column in columns])
    if ends.min() > 0 and ends.max() > 30 * ends.min():
        axes.set_xscale("log", nonpositive="mask")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        return
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=abscissa == "round"))
    axes.set_xlim(left=0)


def _scale_y(axes: Axes, values: np.ndarray, percent: bool) -> None:
    """A logarithmic axis where all values are positive and differ by a factor of 5, else a linear one."""
    seen = values[np.isfinite(values)]
    positive = seen[seen > 0]
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        return
    # A gap that rounding pushes to zero or below leaves a hole in the curve, not a linear axis.
    if not seen.any():
        axes.set_ylim(-0.05, 1.0)  # zero throughout, such as the consensus distance of an exact average
        return
    if len(positive) < 0.5 * len(seen) or positive.max() < 5 * positive.min():
        return
    axes.set_yscale("log", nonpositive="mask")
    decades = np.log10(positive.max() / positive.min())
    if decades < 2.5:
        digits = (1, 2, 5) if decades > 1.2 else (1, 2, 3, 5)
        ticks = np.array([d * 10.0**e for e in range(-20, 21) for d in digits])
        axes.yaxis.set_major_locator(FixedLocator(ticks.tolist()))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    else:
        axes.yaxis.set_major_locator(LogLocator(10, numticks=7))
    axes.yaxis.set_minor_formatter(NullFormatter())
    margin = max(decades, 0.5) * 0.06
    axes.set_ylim(positive.min() / 10**margin, positive.max() * 10**margin)


_LABELS = {
    "consensus_distance": (r"consensus distance  mean $\|x_i - \bar{x}\|^2$", BLUE),
    "stationarity_gap": (r"stationarity gap  $\|\nabla f(\bar{x})\|^2$", GREEN),
}


def _consensus(record: Record, names: Sequence[str], title: str) -> Figure:
    """How far nodes are from one another, and from a stationary point: by round, or by time where rows are."""
    abscissa = "sim_time_s" if record.header.get("rows_by_time") else "round"
    size, unit = common_unit(record.rounds[abscissa], abscissa)
    figure = Figure(figsize=(4.2 * len(names) + 0.6, 3.6))
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        label, colour = _LABELS[name]
        curve = Curve(record, name, label, colour)
        _draw(axes, curve, record.rounds[abscissa] / size)
        axes.set_xlabel("rounds" if abscissa == "round" else f"{words(abscissa)} ({unit})")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=abscissa == "round"))
        axes.set_xlim(left=0)
        _scale_y(axes, curve.y, percent=False)
    if title:
        figure.suptitle(title)
    return figure


# ---- the timeline ------------------------------------------------------------------------------------------------


def _timeline(record: Record, title: str) -> Figure:
    """Some rounds of some nodes as bars; beside them where the time of the whole run went."""
    spans = record.spans
    there = set(spans["node"].tolist())
    order = [node for node in record.nodes["node"].tolist() if node in there]  # the hosts' own: 2 before 10
    shown = _some_nodes(np.array(order) if len(order) == len(there) else np.unique(spans["node"]))
    start_s, end_s = _window(spans)
    whole_run = {kind: record.nodes.get(f"{kind}_s", np.empty(0)) for kind in ("compute", "exposed_comm", "idle")}
    has_totals = len(record.nodes["node"]) > 0 and all(
        len(column) and np.isfinite(column).all() for column in whole_run.values()
    )
    figure = Figure(figsize=(10.5, 1.5 + 0.24 * max(6, len(shown))))
    widths = [4.2, 1] if has_totals else [1]
    panels = np.atleast_1d(figure.subplots(1, len(widths), sharey=True, width_ratios=widths))
    size, unit = common_unit([end_s], "sim_time_s")
    looks = {"compute": (BLUE, -0.40, 0.48), "wait": (LIGHT, -0.40, 0.48), "send": (ORANGE, 0.12, 0.26)}
    inside = (spans["end_s"] > start_s) & (spans["start_s"] < end_s)
    seen = {name: column[inside] for name, column in spans.items()}
    for kind, (colour, offset, height) in looks.items():
        for place, node in enumerate(shown):
            at = (seen["kind"] == kind) & (seen["node"] == node)
            left = np.maximum(seen["start_s"][at], start_s) / size
            right = np.minimum(seen["end_s"][at], end_s) / size
            bars = list(zip(left.tolist(), (right - left).tolist(), strict=True))
            panels[0].broken_barh(bars, (place + offset, height), facecolors=colour, linewidth=0)
    panels[0].set_xlim(start_s / size, end_s / size)
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    panels[0].set_yticks(range(len(shown)), [str(node) for node in shown])
    panels[0].set_ylabel("node" if len(shown) == len(there) else "node (some)")
    panels[0].set_xlabel(f"simulated time ({unit})")
    panels[0].grid(False, axis="y")
    panels[0].set_title("the first rounds" if end_s < spans["end_s"].max() else "the run", loc="left")
    if has_totals:
        _totals(panels[1], record, shown, whole_run)
    legend = {"compute": BLUE, "send": ORANGE, "wait or idle" if has_totals else "wait": LIGHT}
    legend |= {"exposed communication": GREY} if has_totals else {}
    patches = [matplotlib.patches.Patch(color=colour, label=label) for label, colour in legend.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches))
    if title:
        figure.suptitle(title)
    return figure


def _totals(axes: Axes, record: Record, shown: list[Any], whole_run: Mapping[str, np.ndarray]) -> None:
    """Stacked shares of compute, exposed communication and idle time in the whole run's; the rest a node was away."""
    row = {node: i for i, node in enumerate(record.nodes["node"].tolist())}
    at = np.array([row[node] for node in shown if node in row])
    places = np.array([place for place, node in enumerate(shown) if node in row])
    total = max(float(np.sum(list(whole_run.values()), axis=0).max()), 1e-300)
    left = np.zeros(len(at))
    for kind, colour in (("compute", BLUE), ("exposed_comm", GREY), ("idle", LIGHT)):
        share = whole_run[kind][at] / total
        axes.barh(places, share, left=left, height=0.8, color=colour, linewidth=0)
        left += share
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_title("the whole run", loc="left")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _some_nodes(nodes: np.ndarray) -> list[Any]:
    """At most 24 nodes, evenly spread over all."""
    if len(nodes) > TIMELINE_NODES:
        nodes = nodes[np.linspace(0, len(nodes) - 1, TIMELINE_NODES).round().astype(int)]
    return nodes.tolist()


def _window(spans: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """From the first span to where half of the nodes are through with their first rounds."""
    first, last = float(np.min(spans["start_s"])), float(np.max(spans["end_s"]))
    early = spans["round"] < np.min(spans["round"]) + TIMELINE_ROUNDS
    numbers, place = np.unique(spans["node"][early], return_inverse=True)
    through_s = np.full(len(numbers), first)
    np.maximum.at(through_s, place, spans["end_s"][early])
    end = float(np.median(through_s))
    end = end if end > first else last
    return (0.0 if 0 < first < 0.1 * end else first), end


# ---- pieces ------------------------------------------------------------------------------------------------------


def _reporting(record: Record) -> int | None:
    """How many nodes reported: one where a server does; None where the record does not say."""
    reports = record.nodes.get("reports")
    return None if reports is None or not len(reports) else int(np.count_nonzero(reports))


def _rounds(record: Record) -> str:
    return "rounds of the slowest node" if record.header.get("rows_by_time") else "rounds"


def _has(rounds: Mapping[str, np.ndarray], name: str) -> bool:
    return name in rounds and bool(np.isfinite(rounds[name].astype(np.float64)).any())


def _target(record: Record, metric: str) -> float | None:
    reached = (record.summary.get("targets") or {}).get(metric) or {}
    wanted = reached.get("target", reached.get("value"))
    return None if wanted is None else float(wanted)


def _finish(figure: Figure, axes: Axes, title: str, curves: int) -> None:
    if title:
        figure.suptitle(title)
    if curves > 1:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, curves), handlelength=2.8)


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    figure.savefig(path)
    return path
