"""Tables of numbers: npz archives and csv text."""

from __future__ import annotations

import csv as csv_reader
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from simnet.dataset import Dataset, find_file, finish
from simnet.errors import DataError, nearest


def npz(
    path: str,
    *,
    x: str = "x",
    y: str = "y",
    test_x: str = "test_x",
    test_y: str = "test_y",
    test_fraction: float = 0.2,
    labels: Literal["auto", "classes", "values"] = "auto",
    base_dir: Path | None = None,
) -> Dataset:
    """Arrays of a numpy archive: features (M, ...) flattened to rows, labels (M,); floats keep their precision.

    Args:
        path: the file, absolute or relative to the scenario.
        x: name of the training features.
        y: name of the training labels.
        test_x: name of the test features; where the archive lacks it `test_fraction` of the rows are held
            out.
        test_y: name of the test labels.
        test_fraction: see `test_x`.
        labels: `classes`, `values` (regression), or by their being whole numbers.

    Raises:
        DataError: a missing or corrupt file, or arrays that are not there.
    """
    file = find_file(path, base_dir)
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file}: not a sound .npz archive; write it again with numpy.savez")
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in (x, y, test_x, test_y) if name in archive.files}
            names = archive.files
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{file}: not a sound .npz archive ({error}); write it again with numpy.savez") from error
    for name in (x, y):
        if name not in arrays:
            raise DataError(f"{file}: no array {name!r} among {', '.join(names)}{nearest(name, names)}")
    held = None
    if test_x in arrays and test_y in arrays:
        held = _rows(arrays[test_x], file, test_x), _numbers(arrays[test_y], file, test_y)
    return finish(file.name, _rows(arrays[x], file, x), _numbers(arrays[y], file, y), held, test_fraction, labels)


def csv(
    path: str,
    *,
    target: str | int = -1,
    separator: str = ",",
    test: str | None = None,
    test_fraction: float = 0.2,
    labels: Literal["auto", "classes", "values"] = "auto",
    base_dir: Path | None = None,
) -> Dataset:
    """A table of numbers with or without a header line; all columns but `target` are features.

    Labels that are words become classes in alphabetical order.

    Args:
        path: the file, absolute or relative to the scenario.
        target: the label's column, by its name in the header or by number (-1 is the last).
        separator: between the fields.
        test: a second file of the same columns with the test rows.
        test_fraction: held out where there is no `test`.
        labels: `classes`, `values` (regression), or by their being whole numbers.

    Raises:
        DataError: a missing file, a field that is no number, or a row of another length (the message gives
            the line).
    """
    file = find_file(path, base_dir)
    x, words = _table(file, target, separator)
    test_file = None if test is None else find_file(test, base_dir)
    held_x, held_words = (np.zeros((0, x.shape[1])), []) if test_file is None else _table(test_file, target, separator)
    y = _labels([*words, *held_words], labels)
    held = None if test_file is None else (held_x, y[len(words) :])
    return finish(file.name, x, y[: len(words)], held, test_fraction, labels)


def _table(file: Path, target: str | int, separator: str) -> tuple[np.ndarray, list[str]]:
    """(features, labels as text) of one csv file."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv_reader.reader(stream, delimiter=separator)
            lines = [(reader.line_num, [field.strip() for field in row]) for row in reader if any(row)]
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not text in UTF-8 ({error.reason} at byte {error.start})") from error
    except csv_reader.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from error
    if not lines:
        raise DataError(f"{file}: no rows")
    header = lines[0][1] if not any(_is_number(field) for field in lines[0][1]) else None
    width = len(lines[0][1])
    column = _column(target, header, width, file)
    words, values = [], []
    for number, fields in lines[header is not None :]:
        if len(fields) != width:
            raise DataError(f"{file}, line {number}: {len(fields)} fields where the first line has {width}")
        words.append(fields.pop(column))
        try:
            values.append([float(field) for field in fields])
        except ValueError:
            bad = next(field for field in fields if not _is_number(field))
            raise DataError(f"{file}, line {number}: {bad!r} is not a number") from None
    if not values:
        raise DataError(f"{file}: a header and no rows")
    x = np.array(values).reshape(len(values), -1)
    if not np.isfinite(x).all():
        line = lines[header is not None :][int(np.argmax(~np.isfinite(x).all(1)))][0]
        raise DataError(f"{file}, line {line}: a value that is not finite")
    return x, words


def _column(target: str | int, header: list[str] | None, width: int, file: Path) -> int:
    if isinstance(target, int):
        if not -width <= target < width:
            raise DataError(f"{file}: target = {target}, but there are {width} columns")
        return target % width
    if header is None:
        raise DataError(f"{file}: target = {target!r}, but the first line holds numbers, not names; give its number")
    if target not in header:
        raise DataError(f"{file}: no column {target!r} among {', '.join(header)}{nearest(target, header)}")
    return header.index(target)


def _labels(words: list[str], labels: str) -> np.ndarray:
    if all(_is_number(word) for word in words):
        return np.array([float(word) for word in words])
    if labels == "values":
        raise DataError(f"csv: the label {next(w for w in words if not _is_number(w))!r} is not a number")
    return np.unique(words, return_inverse=True)[1].astype(np.float64)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rows(array: np.ndarray, file: Path, name: str) -> np.ndarray:
    if array.ndim < 2:
        raise DataError(f"{file}: array {name!r} has shape {array.shape}; features have a row for each sample")
    flat = array.reshape(len(array), -1)
    x = flat if flat.dtype in (np.float32, np.float64) else _numbers(flat, file, name)
    if not np.isfinite(x).all():
        raise DataError(
            f"{file}: array {name!r}, row {int(np.argmax(~np.isfinite(x).all(1)))}: a value that is not finite"
        )
    return np.ascontiguousarray(x)


def _numbers(array: np.ndarray, file: Path, name: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{file}: array {name!r} holds {array.dtype}, not numbers")
    return array.astype(np.float64)
