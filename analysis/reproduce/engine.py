"""Runs a system's experiments, keeps each as it ends, and writes table, figures and report.

folder/
├── R2.json       claims and numbers of an experiment; one that is there from the same sources is not run again
├── R2.png        its figure
└── report.md     the table, with every figure
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import simnet
from simnet import registry
from simnet.analysis.reproduce.claims import Claim, Experiment, Result
from simnet.errors import InputError, UnknownName, nearest
from simnet.storage import write_atomically

SYSTEMS: dict[str, str] = {  # the name for the command -> the module
    "hdo": "simnet.analysis.reproduce.hdo",
    "multi-gossip": "simnet.analysis.reproduce.multi_gossip",
    "savic": "simnet.analysis.reproduce.savic",
    "optex": "simnet.analysis.reproduce.optex",
    "bilevel": "simnet.analysis.reproduce.bilevel",
}

Told = Callable[[str], None]


@dataclass(frozen=True)
class Reproduction:
    """All claims of one system, in the order of its experiments."""

    system: str
    module: ModuleType
    claims: dict[str, list[Claim]]  # experiment -> its claims
    folder: Path

    @property
    def holds(self) -> bool:
        """Whether every verdict is `pass`."""
        return all(claim.holds for claims in self.claims.values() for claim in claims)


def reproduce(
    system: str, quick: bool, folder: Path | None = None, fresh: bool = False, told: Told = print
) -> Reproduction:
    """Run the experiments of a system that `folder` does not hold yet, and write its report.

    `fresh` runs all again; `told` hears of progress. Raises UnknownName for a system that is not shipped.
    """
    if system not in SYSTEMS:
        raise UnknownName(f"no system {system!r}{nearest(system, SYSTEMS)}; there are {', '.join(SYSTEMS)}")
    module = importlib.import_module(SYSTEMS[system])
    folder = folder or Path("reproductions") / f"{system}-{'quick' if quick else 'full'}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); name another folder with --out") from error
    found: dict[str, Result] = {}
    chosen = [each for each in module.EXPERIMENTS if each.quick or not quick]
    for k, each in enumerate(chosen):
        head = f"[{k + 1}/{len(chosen)}] {each.name} {each.title}"
        kept = None if fresh else _kept(folder, module, each, quick)
        if kept is not None:
            told(f"{head}: kept from before")
            found[each.name] = kept
            continue
        told(head)
        began = time.perf_counter()
        result = each.run(quick, lambda text: told(f"    {text}"))
        _keep(folder, module, each, quick, result, time.perf_counter() - began)
        found[each.name] = result
    whole = Reproduction(system, module, {name: result.claims for name, result in found.items()}, folder)
    write_atomically(folder / "report.md", report(whole, chosen, quick).encode())
    return whole


# ---- what is kept --------------------------------------------------------------------------------------------------


def _sources(module: ModuleType, quick: bool) -> str:
    """A digest of all that an experiment's result follows from: the package's own sources."""
    digest = hashlib.sha256(f"{simnet.__version__} {quick} {inspect.getsource(module)}".encode())
    for base in registry.package_path():
        for path in sorted(base.rglob("*.py")):
            if "tests" not in path.parts and ".venv" not in path.parts:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _keep(folder: Path, module: ModuleType, each: Experiment, quick: bool, result: Result, seconds: float) -> None:
    claims = [{**claim.plain(), "holds": bool(claim.holds)} for claim in result.claims]
    content = {"sources": _sources(module, quick), "seconds": seconds, "claims": claims, "data": result.data}
    write_atomically(folder / f"{each.name}.json", json.dumps(content, indent=1).encode())
    if each.draw is not None:
        figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        each.draw(figure, result.data)
        figure.savefig(folder / f"{each.name}.png")


def _kept(folder: Path, module: ModuleType, each: Experiment, quick: bool) -> Result | None:
    path = folder / f"{each.name}.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError:
        return None
    if content.get("sources") != _sources(module, quick):
        return None
    claims = [
        Claim(c["claim"], c["expected"], c["measured"], c["holds"], c.get("condition", "")) for c in content["claims"]
    ]
    return Result(claims, content["data"])


# ---- text ----------------------------------------------------------------------------------------------------------


def table(whole: Reproduction) -> str:
    """The claims as aligned text: experiment, claim, expected, measured, verdict; conditions below."""
    rows = [["", "claim", "expected", "measured", "verdict"]]
    notes: list[str] = []
    for name, claims in whole.claims.items():
        for claim in claims:
            mark = ""
            if claim.condition:
                notes.append(claim.condition)
                mark = f" [{len(notes)}]"
            rows.append([name, claim.claim + mark, claim.expected, claim.measured, claim.verdict])
    widths = [max(len(row[c]) for row in rows) for c in range(5)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"[{k}] holds under conditions: {note}" for k, note in enumerate(notes, 1)]
    failed = sum(not claim.holds for claims in whole.claims.values() for claim in claims)
    count = sum(map(len, whole.claims.values()))
    return "\n".join([*lines, "", f"{whole.system}: {count - failed} of {count} claims hold"])


def report(whole: Reproduction, experiments: list[Experiment], quick: bool) -> str:
    """The reproduction as markdown."""
    lines = [
        f"# {whole.module.TITLE}", "", whole.module.REFERENCE, "",
        f"simnet {simnet.__version__}, Python {platform.python_version()}, {'quick' if quick else 'full'} reproduction "
        f"(`simnet reproduce {whole.system} --{'quick' if quick else 'full'}`).", "",
    ]  # fmt: skip
    for each in experiments:
        lines += [f"## {each.name}: {each.title}", "", "| claim | expected | measured | verdict |", "|---|---|---|---|"]
        for claim in whole.claims[each.name]:
            words = claim.claim + (f" (holds under conditions: {claim.condition})" if claim.condition else "")
            cells = [words, claim.expected, claim.measured, claim.verdict]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
        if each.draw is not None:
            lines += [f"![{each.title}]({each.name}.png)", ""]
    return "\n".join(lines)


def as_json(whole: Reproduction) -> str:
    """The claims as one JSON list of objects."""
    listed: list[dict[str, Any]] = [
        {"experiment": name, **claim.plain()} for name, claims in whole.claims.items() for claim in claims
    ]
    return json.dumps(listed, indent=1)
