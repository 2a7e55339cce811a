"""The command `simnet calibrate`: what it shows while it measures, and what it prints and writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from simnet.calibration import Calibration, MeasuredCall, calibrate
from simnet.errors import InputError
from simnet.scenario import Scenario
from simnet.storage import write_atomically
from simnet.units import human


def run_calibration(
    name: str | None, out: Path, device: str | None, threads: int | None, overwrite: bool, json_: bool
) -> None:
    """Measure, print and write. Raises InputError before any work where the file cannot be written."""
    if out.exists() and not overwrite:
        raise InputError(f"{out} is already there; name another file with --out, or replace it with --overwrite")
    if not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent} to write {out.name} to")
    scenario = None if name is None else Scenario.read(name)
    found = calibrate(scenario, {"device": device, "threads": threads}, _told if sys.stderr.isatty() else None)
    if sys.stderr.isatty():
        typer.echo("\r\033[K", nl=False, err=True)
    write_atomically(out, found.profile.text().encode())
    if json_:
        typer.echo(json.dumps({"profile": found.profile.plain(), "calls": [_plain(call) for call in found.calls],
                               "spread": found.spread, "file": str(out), "notes": found.notes()}))  # fmt: skip
        return
    typer.echo(_text(found))
    typer.echo(f"\nwritten to {out}; use it as\n\n    nodes:\n      device: {out}")
    for note in found.notes():
        typer.echo(f"note: {note}", err=True)


def _told(done: int, of: int, label: str) -> None:
    typer.echo(f"\r\033[Kmeasuring {done + 1} of {of}: {label}", nl=False, err=True)


def _text(found: Calibration) -> str:
    lines = [found.profile.text().rstrip(), "", "models it was not fitted to:", ""]
    rows = [["model", "oracle", "batch", "measured", "predicted", "error"]]
    for call in found.calls:
        if call.held_out:
            rows.append([call.model, call.oracle, str(call.batch), human(call.timing.median_s, "s"),
                         human(call.predicted_s, "s"), f"{100 * call.error:+.0f} %"])  # fmt: skip
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(w) if c < 2 else cell.rjust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join([*lines, "", f"{found.profile.error_text()}; spread of repeated calls {100 * found.spread:.0f} %"])


def _plain(call: MeasuredCall) -> dict[str, Any]:
    return {"kind": call.kind, "model": call.model, "oracle": call.oracle, "batch": call.batch,
            **call.timing._asdict(), "predicted_s": call.predicted_s, "held_out": call.held_out}  # fmt: skip
