"""Rows of data and which node holds which: no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simnet import streams
from simnet.errors import DataError


def _no_rows() -> np.ndarray:
    return np.zeros((0, 0))


@dataclass(frozen=True)
class Dataset:
    """Training and test rows. Shapes: M rows, F features.

    Labels are int64 0 .. classes-1 for classification, float64 with `classes=None` for regression. The test
    part may be empty. `licence` says under which terms the data came and whom to cite.
    """

    name: str
    train_x: np.ndarray  # (M, F) float32 or float64; int64 where they are numbers of characters
    train_y: np.ndarray  # (M,)
    test_x: np.ndarray = field(default_factory=_no_rows)
    test_y: np.ndarray = field(default_factory=lambda: np.zeros(0))
    classes: int | None = None
    licence: str = ""

    def __post_init__(self) -> None:
        for part, x, y in (("training", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if x.ndim != 2 or y.shape != (len(x),):
                raise DataError(
                    f"{self.name}: {part} rows have shape {x.shape} and labels {y.shape}; need (M, F) and (M,)"
                )
        if len(self.train_x) == 0:
            raise DataError(f"{self.name}: no training rows")

    @property
    def features(self) -> int:
        """F."""
        return self.train_x.shape[1]

    @property
    def has_test(self) -> bool:
        return len(self.test_x) > 0


@dataclass(frozen=True)
class Parts:
    """A dataset and, for each node, the training rows that it holds (repeats allowed, uneven sizes allowed)."""

    dataset: Dataset
    rows: list[np.ndarray]  # N arrays of int64 row numbers

    def __post_init__(self) -> None:
        for node, rows in enumerate(self.rows):
            if len(rows) == 0:
                raise DataError(f"{self.dataset.name}: node {node} holds no rows; use fewer nodes or another split")

    @property
    def sizes(self) -> np.ndarray:
        """Rows per node, int64 (N,)."""
        return np.array([len(rows) for rows in self.rows], np.int64)


def find_file(path: str | Path, base_dir: Path | None) -> Path:
    """`path` as it stands or relative to the scenario's folder; DataError where there is no such file."""
    given = Path(path).expanduser()
    tried = [given] if given.is_absolute() or base_dir is None else [Path(base_dir) / given, given]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    places = " or ".join(dict.fromkeys(str(p) for p in tried))
    raise DataError(f"no data file at {places}; give its path, absolute or relative to the scenario file")


def class_numbers(train: np.ndarray, test: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels (any numbers) as 0 .. classes-1 in ascending order, so -1/+1 become 0/1."""
    values = np.unique(train)
    strange = np.setdiff1d(test, values)
    if len(strange):
        raise DataError(f"{name}: test label {strange[0]:g} never occurs in training ({len(values)} classes there)")
    if len(values) < 2:
        raise DataError(f"{name}: all training labels equal {values[0]:g}; classification needs two classes")
    return np.searchsorted(values, train), np.searchsorted(values, test), len(values)


def hold_out(
    x: np.ndarray, y: np.ndarray, fraction: float, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(train_x, train_y, test_x, test_y): a `fraction` of the rows, chosen under `seed`, set aside for testing."""
    if not 0 <= fraction < 1:
        raise DataError(f"{name}: test_fraction = {fraction}; give a number in [0, 1)")
    held = round(fraction * len(y))
    order = streams.permutation(streams.key(seed, "held-out rows"), len(y))
    test, train = np.sort(order[:held]), np.sort(order[held:])
    return x[train], y[train], x[test], y[test]


def finish(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    test: tuple[np.ndarray, np.ndarray] | None,
    test_fraction: float,
    labels: str,
    licence: str = "",
) -> Dataset:
    """The common end of every loader: hold rows out where no test part came, number the classes."""
    if test is None:
        x, y, test_x, test_y = hold_out(x, y, test_fraction, 0, name)
    else:
        test_x, test_y = test
    if len(test_x) and test_x.shape[1] != x.shape[1]:
        raise DataError(f"{name}: training rows have {x.shape[1]} features, test rows {test_x.shape[1]}")
    if labels == "auto":
        labels = "classes" if np.array_equal(y, np.round(y)) and len(np.unique(y)) <= 1000 else "values"
    if labels == "values":
        return Dataset(name, x, y.astype(np.float64), test_x, test_y.astype(np.float64), None, licence)
    train_y, held_y, classes = class_numbers(y, test_y, name)
    return Dataset(name, x, train_y, test_x, held_y, classes, licence)
