"""LIBSVM text: one row a line, `label index:value index:value ...`, indices from 1 and ascending."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Literal

import numpy as np

from simnet.dataset import Dataset, find_file, finish
from simnet.errors import DataError


def libsvm(
    path: str,
    *,
    features: int | None = None,
    test: str | None = None,
    test_fraction: float = 0.2,
    labels: Literal["auto", "classes", "values"] = "auto",
    base_dir: Path | None = None,
) -> Dataset:
    """A file in LIBSVM text (also .gz and .bz2), as a dense float64 matrix.

    Features left out of a row are zero; a row with a label alone is a zero row. Blank lines, CRLF line ends
    and `#` comments are fine.

    Args:
        path: the file, absolute or relative to the scenario.
        features: their number; by default the largest index in the training and test files.
        test: a second file with the test rows; without it `test_fraction` of the rows are held out.
        labels: `classes` numbers the labels in ascending order (-1/+1 become 0/1), `values` keeps them for
            regression; `auto` takes whole numbers as classes.

    Raises:
        DataError: a missing file, or one that does not parse (the message gives the line).
    """
    file = find_file(path, base_dir)
    train_x, train_y = parse(_read(file), str(file), features)
    held = None
    if test is not None:
        test_file = find_file(test, base_dir)
        test_x, test_y = parse(_read(test_file), str(test_file), features)
        width = max(train_x.shape[1], test_x.shape[1])
        train_x, held = _widen(train_x, width), (_widen(test_x, width), test_y)
    return finish(file.name, train_x, train_y, held, test_fraction, labels)


def parse(text: bytes, name: str, features: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of LIBSVM text: float64 (M, F) and float64 (M,)."""
    labels: list[float] = []
    lengths: list[int] = []
    tokens: list[bytes] = []
    lines: list[int] = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        if b"#" in line:
            line = line[: line.index(b"#")]
        parts = line.split()
        if not parts:
            continue
        try:
            labels.append(float(parts[0]))
        except ValueError:
            raise DataError(
                f"{name}, line {number}: {_shown(parts[0])} is not a label; expected '+1 3:0.5 7:1'"
            ) from None
        lengths.append(len(parts) - 1)
        lines.append(number)
        tokens += parts[1:]
    if not labels:
        raise DataError(f"{name}: no rows")
    columns, values = _pairs(tokens, lengths, lines, name)
    rows = np.repeat(np.arange(len(labels)), lengths)
    _check(columns, values, np.array(labels), rows, lines, name)
    width = int(columns.max(initial=0))
    if features is not None and width > features:
        line = lines[rows[int(np.argmax(columns > features))]]
        raise DataError(f"{name}, line {line}: feature index {width} exceeds features = {features}")
    x = np.zeros((len(labels), width if features is None else features))
    x[rows, columns - 1] = values
    return x, np.array(labels)


def _pairs(tokens: list[bytes], lengths: list[int], lines: list[int], name: str) -> tuple[np.ndarray, np.ndarray]:
    """All `index:value` tokens as two arrays: one pass in C when they are sound, a search for the line when not."""
    halves = [token.partition(b":") for token in tokens]
    try:
        columns = np.array([h[0] for h in halves], dtype="S").astype(np.int64)
        values = np.array([h[2] for h in halves], dtype="S").astype(np.float64)
    except ValueError:
        line, token = _first_bad(tokens, np.repeat(lines, lengths))
        raise DataError(f"{name}, line {line}: {_shown(token)} is not 'index:value'") from None
    return columns, values


def _first_bad(tokens: list[bytes], lines: np.ndarray) -> tuple[int, bytes]:
    for line, token in zip(lines, tokens, strict=True):
        index, _, value = token.partition(b":")
        try:
            int(index), float(value)
        except ValueError:
            return int(line), token
    return int(lines[-1]), tokens[-1]


def _check(
    columns: np.ndarray, values: np.ndarray, labels: np.ndarray, rows: np.ndarray, lines: list[int], name: str
) -> None:
    """Indices from 1 and ascending within a row, all numbers finite."""
    if len(columns) and columns.min() < 1:
        line = lines[rows[int(np.argmin(columns))]]
        raise DataError(f"{name}, line {line}: feature index {columns.min()}; LIBSVM counts features from 1")
    unordered = (np.diff(columns) <= 0) & (np.diff(rows) == 0)
    if unordered.any():
        at = int(np.argmax(unordered)) + 1
        raise DataError(
            f"{name}, line {lines[rows[at]]}: feature index {columns[at]} after {columns[at - 1]}; must ascend"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{name}, line {lines[rows[int(np.argmax(~np.isfinite(values)))]]}: a value that is not finite")
    if not np.isfinite(labels).all():
        raise DataError(f"{name}, line {lines[int(np.argmax(~np.isfinite(labels)))]}: a label that is not finite")


def _read(file: Path) -> bytes:
    openers = {".gz": gzip.decompress, ".bz2": bz2.decompress}
    raw = file.read_bytes()
    if file.suffix not in openers:
        return raw
    try:
        return openers[file.suffix](raw)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{file}: not a sound {file.suffix} file ({error}); fetch it again") from error


def _widen(x: np.ndarray, width: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))


def _shown(token: bytes) -> str:
    return repr(token[:40].decode("utf-8", "replace"))
