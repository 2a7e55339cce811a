"""What `simnet transfers` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from simnet.network.flows.transfers import TransferTimes
from simnet.units import human


def text(times: TransferTimes) -> str:
    """Start, finish, mean rate and bottleneck of every transfer, and the utilisation of every link used."""
    case, t = times.case, times.case.transfers
    rows = [("transfer", "from", "to", "bytes", "start", "finish", "mean rate", "bottleneck")]
    for i, rate in enumerate(times.mean_rate.tolist()):
        ends = case.hosts[int(t.source[i])], case.hosts[int(t.target[i])]
        rows.append((str(i), *ends, human(t.bytes[i], "bytes"), _seconds(times.start_s[i]),
                     _seconds(times.finish_s[i]), human(rate, "bytes/s"), times.bottleneck(i)))  # fmt: skip
    used = [("link", "bandwidth", "carried", "utilisation")]
    for k, share in enumerate(times.utilisation.tolist()):
        if times.carried_bytes[k] > 0:
            used.append((case.links.names[k], human(case.links.bandwidth[k], "bytes/s"),
                         human(times.carried_bytes[k], "bytes"), f"{100 * share:.1f} %"))  # fmt: skip
    never = [str(i) for i in np.flatnonzero(np.isinf(times.finish_s))]
    last = f"the last ends at {times.makespan_s:.6g} s" if len(never) < len(t) else "none ends"
    head = f"{case.name}: {len(t)} transfers, model {times.model}, {last}"
    lost = times.lost_packets.sum()
    if lost:
        head += f", {lost:.0f} packets lost and sent again"
    notes = list(case.notes)
    if never:
        notes.append(
            f"transfers {_some(never)} never end, over links that stand still for good; they are not counted below"
        )
    if ignored := times.ignored_loss:
        notes.append(f"{times.model} draws no losses; the loss of {_some(ignored)} is left out (--model tcp has it)")
    head = "\n".join([head, *(f"note: {note}" for note in notes)])
    return "\n\n".join([head, _table(rows), _table(used)])


def as_json(times: TransferTimes) -> str:
    """One object; `start` and `finish` in seconds, in the order of the case's flows, null for never."""
    n = len(times.case.transfers)
    return json.dumps(
        {
            "name": times.case.name,
            "model": times.model,
            "makespan": times.makespan_s if np.isfinite(times.finish_s).all() else None,
            "start": _or_null(times.start_s),
            "finish": _or_null(times.finish_s),
            "mean_rate": times.mean_rate.tolist(),
            "bottleneck": [times.bottleneck(i) for i in range(n)],
            "lost_packets": [int(lost) for lost in times.lost_packets.tolist()],
            "ignored_loss": times.ignored_loss,
            "links": list(times.case.links.names),
            "carried_bytes": times.carried_bytes.tolist(),
            "utilisation": times.utilisation.tolist(),
        }
    )


def _seconds(t: float) -> str:
    return f"{t:.6g} s" if t < np.inf else "never"


def _or_null(times_s: np.ndarray) -> list[float | None]:
    return [t if t < np.inf else None for t in times_s.tolist()]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns of equal width: names to the left, numbers to the right."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    right = [
        all(not row[c] or row[c][0].isdigit() or row[c] == "never" for row in rows[1:]) for c in range(len(widths))
    ]
    lines = []
    for row in rows:
        cells = [x.rjust(w) if r else x.ljust(w) for x, w, r in zip(row, widths, right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
