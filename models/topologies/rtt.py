"""Networks from measured round-trip times."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import networkx as nx
import numpy as np

from simnet.dataset import find_file
from simnet.errors import DataError, TopologyError

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def rtt_matrix(
    n: int | None = None, *, path: str, unit: Literal["s", "ms", "us"] = "ms", base_dir: Path | None = None
) -> nx.Graph:
    """All pairs joined, with half the measured round-trip time as latency: a csv file of n rows with n numbers.

    Cleaned, and counted in the graph's `read_notes`: the diagonal is left out; a number below 0, or none (an empty
    field, `nan`), was not measured, and the other direction's counts in its place, or where that has none either the
    median of the matrix; two directions that differ count as their mean. Of larger matrices the first n rows and
    columns are taken.

    Args:
        n: nodes; leave it out to take all.
        path: the file, absolute or relative to the scenario.
        unit: what the numbers are.
        base_dir: folder that the path counts from.
    """
    file = find_file(path, base_dir)
    if unit not in _SECONDS:
        raise DataError(f"unit = {unit!r}: must be one of {', '.join(_SECONDS)}")
    measured_NN = _matrix(file)
    size = len(measured_NN)
    if n is not None and n > size:
        raise TopologyError(f"{file.name}: has {size} rows, and {n} nodes are asked for")
    try:
        rtt_NN, notes = clean(measured_NN[:n, :n])
    except DataError as error:
        raise DataError(f"{file.name}: {error}") from None
    if n is not None and n < size:
        notes.insert(0, f"the first {n} of {size} rows and columns are taken")
    graph = nx.empty_graph(len(rtt_NN))
    graph.graph["read_notes"] = tuple(f"{file.name}: {note}" for note in notes)
    graph.add_edges_from(
        (i, j, {"latency": float(rtt_NN[i, j]) * _SECONDS[unit] / 2})
        for i in range(len(rtt_NN))
        for j in range(i + 1, len(rtt_NN))
    )
    return graph


def clean(measured_NN: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """A symmetric matrix without negative times and with a diagonal of 0, and how many of each were mended.

    Raises DataError where no pair was measured at all.
    """
    n = len(measured_NN)
    off_NN = ~np.eye(n, dtype=bool)
    missing_NN, negative_NN = np.isnan(measured_NN), measured_NN < 0
    bad_NN = (missing_NN | negative_NN) & off_NN
    if n > 1 and bad_NN[off_NN].all():
        raise DataError("no pair of the matrix has a round-trip time of 0 or more")
    rtt_NN = np.where(bad_NN, measured_NN.T, measured_NN)
    neither_NN = bad_NN & bad_NN.T
    if n > 1:
        rtt_NN[neither_NN] = np.median(measured_NN[off_NN & ~bad_NN])
    differ = int(((rtt_NN != rtt_NN.T) & off_NN).sum()) // 2
    rtt_NN = (rtt_NN + rtt_NN.T) / 2
    np.fill_diagonal(rtt_NN, 0.0)
    diagonal = np.diagonal(measured_NN)
    counts = (
        (int((negative_NN & off_NN).sum()), "negative round-trip times: those of the other direction count"),
        (int((missing_NN & off_NN).sum()), "missing round-trip times: those of the other direction count"),
        (int(neither_NN.sum()) // 2, "pairs that neither direction measured: the median of all counts"),
        (differ, "pairs whose directions differ: their mean counts"),
        (int(((diagonal != 0) & ~np.isnan(diagonal)).sum()), "entries of the diagonal that are not 0: left out"),
    )
    return rtt_NN, [f"{count} {what}" for count, what in counts if count]


def _matrix(file: Path) -> np.ndarray:
    rows: list[list[float]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file.name}, line {number}"
        row = []
        for word in line.split(","):
            try:
                row.append(float(word) if word.strip() else np.nan)
            except ValueError:
                said = f"{where}: {word.strip()[:20]!r} is no number; a line is numbers with commas between them"
                raise DataError(said) from None
        if np.isinf(row).any():
            raise DataError(f"{where}: a time without end; leave the field empty where nothing was measured")
        if rows and len(row) != len(rows[0]):
            raise DataError(f"{where}: {len(row)} numbers, and {len(rows[0])} in the lines before")
        rows.append(row)
    if not rows or len(rows) != len(rows[0]):
        raise DataError(f"{file.name}: {len(rows)} lines of {len(rows[0]) if rows else 0} numbers are no square matrix")
    return np.array(rows)
