"""A record as text: what a person reads at the end of a run, the rows of an evaluation, and CSV.

Everything but the last line of `summary` follows from scenario and seed alone; that line begins with `host:`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simnet.analysis.scales import common_unit, words
from simnet.errors import InputError, nearest
from simnet.record import Record, rises
from simnet.units import human

BASE_COLUMNS = (
    "round", "sim_time_s", "host_time_s", "wire_bytes", "messages", "nodes", "host_tensor_s", "gossip_rounds",
)  # fmt: skip
READ_FIRST = ("round", "sim_time_s", "wire_bytes", "objective", "consensus_distance", "accuracy")
KINDS = {"payload": "payload", "index": "indices", "header": "headers", "retransmitted": "retransmissions",
         "acknowledgement": "acknowledgements"}  # fmt: skip
ROUNDING = 1e-6  # a tracker's residual below it is rounding, whose digits differ between processors
_LABEL = 30


def summary(record: Record) -> str:
    """The end of a run in aligned lines: outcome, time and where it went, bytes by kind, metrics, targets."""
    end = record.summary
    parts = [
        _title(record),
        _facts(record),
        _outcome(record),
        _time(record),
        _bytes(record),
        _metrics(record),
        _targets(record),
    ]
    host = _host(record, end)
    return "\n\n".join("\n".join(part) for part in [*parts, host] if part)


def rounds_table(record: Record, columns: Sequence[str] | None = None, every: int | None = None) -> str:
    """Evaluations as an aligned table, one row each, with units.

    `columns` names columns of `record.rounds` (default: those read first); `every` shows each every-th row and the
    last (default: about 20 rows). Raises InputError for a column that the record has not.
    """
    rounds = record.rounds
    names = list(columns) if columns is not None else [name for name in READ_FIRST if name in rounds]
    for name in names:
        if name not in rounds:
            raise InputError(f"the record has no column {name!r}{nearest(name, rounds)}")
    count = len(next(iter(rounds.values()), ()))
    step = every or max(1, math.ceil(count / 20))
    chosen = sorted({*range(0, count, step), count - 1} if count else ())
    columns_of_text = [_column(name, rounds[name][chosen]) for name in names]
    return "\n".join(_aligned([list(row) for row in zip(*columns_of_text, strict=True)], left=0))


def to_csv(record: Record, path: str | Path, table: str = "rounds") -> Path:
    """Write one table of the record (`rounds`, `nodes`, `links`, ...) with its raw names and numbers; NaN is empty."""
    columns: Mapping[str, np.ndarray] = getattr(record, table)
    path = Path(path)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            writer.writerow(["" if value != value else value for value in row])
    return path


# ---- the parts of the summary ------------------------------------------------------------------------------------


def _title(record: Record) -> list[str]:
    header = record.header
    parts = [str(header["name"])] if header.get("name") else []
    nodes = header.get("nodes") or len(record.nodes["node"])
    parts += [_count(nodes, "node")] if nodes else []
    parts += [f"seed {header['seed']}"] if "seed" in header else []
    return [", ".join(parts)] if parts else []


def _facts(record: Record) -> list[str]:
    """How fast the topology mixes, and how the data are dealt."""
    header, lines = record.header, []
    if "spectral_gap" in header:
        gap, least = header["spectral_gap"], header.get("lambda_min")
        lines.append(_line("spectral gap of W", "not computed" if gap is None else f"{gap:.4g}"))
        lines.append(_line("  smallest eigenvalue", "not computed" if least is None else f"{least:.4g}"))
    if rows := header.get("rows_per_node"):
        lines.append(_line("rows of data per node", _range(rows)))
    if count := header.get("accelerators_per_node"):
        note = "averages within a node take time" if header["inner_average"] else "averages within a node take no time"
        lines.append(_line("accelerators per node", _range(count), note))
    if placement := header.get("placement"):
        lines.append(_sentence("placement", f"{placement['rule']}: {', '.join(placement['hosts'])}"))
    return [*lines, *(_sentence("note", said) for said in header.get("notes", ()))]


def _range(numbers: Sequence[int]) -> str:
    few, many = min(numbers), max(numbers)
    return f"{few:,}" if few == many else f"{few:,} to {many:,}"


def _outcome(record: Record) -> list[str]:
    end = record.summary
    if not end.get("scaled_rounds"):
        return [_sentence("outcome", record.outcome), _sentence("", record.ended.advice)]
    simulated, left = int(end["simulated_rounds"]), int(end["scaled_rounds"])
    return [
        _sentence("outcome", "estimated"),
        _sentence(
            "", f"{simulated:,} rounds simulated, {left:,} scaled from the last {2 * (simulated // 3):,} of them,"
        ),
        _sentence("", f"whose two halves differ by {100 * end['scaled_spread']:.2f} %"),
    ]


_SECONDS = (
    ("compute_s", "compute"), ("exposed_comm_s", "exposed communication"), ("idle_s", "idle"), ("away_s", "away"),
)  # fmt: skip


def _time(record: Record) -> list[str]:
    total = _last(record, "sim_time_s")
    if total is None:
        return [_sentence("simulated time", "no round was reported")]
    rounds = _last(record, "round") or 0
    said = _same_unit(total, "sim_time_s")
    count = _count(int(rounds), "round")
    if record.header.get("rows_by_time") and len(reports := record.nodes.get("reports", np.empty(0))):
        count = f"{_range(reports.tolist())} rounds a node"
    lines = [_line("simulated time", said(total), count)]
    for name, label in _SECONDS:
        if name == "away_s" and not np.any(record.nodes.get(name, 0)):
            continue
        per_node = record.nodes.get(name, np.empty(0))
        if len(per_node) and np.isfinite(per_node).all():
            mean, low, high = float(per_node.mean()), float(per_node.min()), float(per_node.max())
            note = f"{_share(mean, total)} mean node"
            note += "" if said(low) == said(high) else f", {said(low)} to {said(high)}"
        elif record.summary.get(name) is not None:
            mean = float(record.summary[name])
            note = _share(mean, total)
        else:
            continue
        lines.append(_line(f"  {label}", said(mean), note))
    if gone := record.summary.get("never_returned"):
        lines.append(_sentence("never returned", f"node {', '.join(str(name) for name in gone)}"))
    return lines


def _bytes(record: Record) -> list[str]:
    wire = _last(record, "wire_bytes")
    if wire is None:
        return []
    messages = int(_last(record, "messages") or 0)
    lost = int(np.nansum(record.links.get("lost_messages", 0)))
    note = _count(messages, "message") + (f", {lost:,} lost" if lost else "")
    said = _same_unit(wire, "wire_bytes")
    lines = [_line("bytes on the wire", said(wire), note)]
    for kind, amount in _by_kind(record).items():
        if amount:
            lines.append(_line(f"  {KINDS.get(kind, kind)}", said(amount), _share(amount, wire)))
    for name, amount in record.summary.get("bytes_by_variable", {}).items():
        lines.append(_line(f"    {name}", said(amount), _share(amount, wire)))
    if (flows := record.summary.get("background_flows")) is not None:
        other = human(record.summary["background_bytes"], "bytes")
        lines.append(_line("background traffic", other, f"{_count(flows, 'flow')}, none of the bytes above"))
    if (nominal := record.summary.get("nominal_bits")) is not None:
        lines.append(_line("nominal bits", f"{_si(float(nominal))}bit", "the papers' count"))
    return lines


def _by_kind(record: Record) -> dict[str, float]:
    given = record.summary.get("bytes_by_kind")
    if given:
        return {kind.removesuffix("_bytes"): float(amount) for kind, amount in given.items()}
    links = record.links
    return {kind: float(np.nansum(links[f"{kind}_bytes"])) for kind in KINDS if len(links.get(f"{kind}_bytes", ()))}


def _metrics(record: Record) -> list[str]:
    names = [name for name in record.rounds if name not in BASE_COLUMNS]
    last = {name: record.rounds[name][-1] for name in names if len(record.rounds[name])}
    shown = {name: value for name, value in last.items() if not math.isnan(value) or name == "objective"}
    if not shown:
        return []
    head = "at the end" if record.header.get("rows_by_time") else f"after round {int(_last(record, 'round') or 0):,}"
    return [head, *(_line(f"  {words(name)}", number(value, name)) for name, value in shown.items())]


def _targets(record: Record) -> list[str]:
    targets: Mapping[str, Any] = record.summary.get("targets") or {}
    several = _several_gossip_rounds(record)
    rows = []
    for metric, reached in targets.items():
        if metric not in record.rounds:  # an estimate, in which nothing is learned
            continue
        reached = reached or {}
        wanted = reached.get("target", reached.get("value"))
        sign = "" if wanted is None else f" {'>=' if rises(metric) else '<='} {_exponent(f'{wanted:g}')}"
        row = [f"  {words(metric)}{sign}"]
        if reached.get("round") is None:
            last = record.rounds.get(metric, np.empty(0))
            row[0] = f"{row[0]:<{_LABEL}}  not reached" + (f" (last {number(last[-1])})" if len(last) else "")
        else:
            row += [
                f"{int(reached['round']):,}",
                *([f"{int(reached['gossip_rounds']):,}"] if several else []),
                human(reached["wire_bytes"], "bytes"),
                human(reached["sim_time_s"], "s"),
            ]
        rows.append(row)
    if not rows:
        return []
    head = ["target", "rounds", *(["gossip rounds"] if several else []), "bytes on the wire", "simulated time"]
    return _aligned([head, *rows], left=1, first=_LABEL)


def _several_gossip_rounds(record: Record) -> bool:
    """Whether a program that names its variables exchanges messages several times a round."""
    named = "bytes_by_variable" in record.summary and "gossip_rounds" in record.rounds
    return named and bool((record.rounds["gossip_rounds"] > record.rounds["round"]).any())


def _host(record: Record, end: Mapping[str, Any]) -> list[str]:
    """The one line that differs from machine to machine."""
    parts = []
    seconds = end.get("host_time_s", _last(record, "host_time_s"))
    if seconds is not None and math.isfinite(seconds):
        parts.append(human(seconds, "s"))
    if (rate := end.get("events_per_s")) is not None:
        parts.append(f"{_si(float(rate))}events/s")
    if (tensor := end.get("host_tensor_s")) is not None:
        parts.append(f"{human(tensor, 's')} of it tensor work")
    if tier := end.get("tier", record.header.get("tier")):
        parts.append(f"tier {tier}")
    parts += [str(record.header["device"])] if record.header.get("device") else []
    if threads := record.header.get("threads"):
        parts.append(_count(threads, "thread"))
    return ["host: " + ", ".join(parts)] if parts else []


# ---- pieces of text ----------------------------------------------------------------------------------------------


def number(value: float, name: str = "") -> str:
    """A metric to four digits; a tracker's residual that is rounding says so."""
    value = float(value)
    if name.startswith("tracker_residual") and abs(value) < ROUNDING:
        return f"< {_exponent(f'{ROUNDING:g}')}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = abs(value)
    text = (
        f"{value:#.4g}".rstrip(".") if 1e-3 <= size < 9999.5 else f"{value:.0f}" if 1 <= size < 1e7 else f"{value:.3e}"
    )
    return _exponent(text)


def _exponent(text: str) -> str:
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def _last(record: Record, name: str) -> float | None:
    """The run's total: from the summary, else from the last row (a run that was interrupted)."""
    key = {"round": "rounds"}.get(name, name)
    if (value := record.summary.get(key)) is not None:
        return float(value)
    column = record.rounds.get(name, np.empty(0))
    return float(column[-1]) if len(column) and not math.isnan(column[-1]) else None


def _line(label: str, value: str, note: str = "") -> str:
    return f"{label:<{_LABEL}}{value:>14}   {note}".rstrip()


def _count(number_: int, noun: str) -> str:
    return f"{number_:,} {noun}{'' if number_ == 1 else 's'}"


def _sentence(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}    {text}".rstrip()


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:5.1f} %" if whole else "    - %"


def _same_unit(total: float, name: str) -> Callable[[float], str]:
    """How to write parts of `total`: all in its unit and to its digits, so that they can be compared at a glance."""
    size, unit = common_unit([total], name)
    digits = _decimals(total / size) if name.endswith("_s") or size > 1 else 0
    return lambda value: f"{value / size:,.{digits}f} {unit}"


def _decimals(largest: float) -> int:
    """Decimals that give four digits to `largest`."""
    return max(0, 3 - math.floor(math.log10(max(1.0, abs(largest)))))


def _si(value: float) -> str:
    """`value` to three digits with a decimal prefix, ready for a unit: `1.2 M`."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "


def _column(name: str, values: np.ndarray) -> list[str]:
    """A heading with the unit that suits the whole column, then one cell for each value."""
    if values.dtype.kind in "US":
        return [words(name), *values.tolist()]
    size, unit = common_unit(values, name)
    if not unit:
        whole = values.dtype.kind == "i"
        return [words(name), *("-" if v != v else f"{v:,}" if whole else number(v, name) for v in values.tolist())]
    scaled = values / size
    digits = _decimals(float(np.nanmax(np.abs(scaled), initial=1.0)))
    shown = ("-" if np.isnan(v) else f"{v:,.{digits}f}" for v in scaled)
    return [f"{words(name)} ({unit})", *shown]


def _aligned(rows: list[list[str]], left: int, first: int = 0) -> list[str]:
    """Rows as lines: the first `left` columns flush left, the others right; the first at least `first` wide."""
    full = [row for row in rows if len(row) == len(rows[0])]  # a row of one cell may run over its column
    widths = [max(len(row[c]) for row in full) for c in range(len(rows[0]))]
    if left:
        widths[0] = max(widths[0], first)
    lines = []
    for row in rows:
        cells = [cell.ljust(widths[c]) if c < left else cell.rjust(widths[c]) for c, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return lines
