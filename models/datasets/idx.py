"""IDX files, the format of MNIST: a big-endian header (type, dimensions) and raw numbers."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from simnet.dataset import Dataset, find_file, finish
from simnet.errors import DataError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx(
    images: str,
    labels: str,
    *,
    test_images: str | None = None,
    test_labels: str | None = None,
    test_fraction: float = 0.2,
    scale: float | None = None,
    base_dir: Path | None = None,
) -> Dataset:
    """Images and labels in IDX files (plain or .gz), each image flattened to a row of float32 features.

    Args:
        images: numbers of shape (M, ...).
        labels: whole numbers of shape (M,).
        test_images: the test part, with `test_labels`; without them `test_fraction` of the rows are held out.
        test_labels: see `test_images`.
        test_fraction: see `test_images`.
        scale: features are the raw numbers divided by this; by default 255 for bytes and 1 otherwise.

    Raises:
        DataError: a missing or truncated file, or parts that do not fit together.
    """
    if (test_images is None) != (test_labels is None):
        raise DataError("idx: give both test_images and test_labels, or neither")
    x, y = _pair(images, labels, scale, base_dir)
    held = None if test_images is None or test_labels is None else _pair(test_images, test_labels, scale, base_dir)
    return finish(Path(images).name, x, y, held, test_fraction, "classes")


def _pair(images: str, labels: str, scale: float | None, base_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    raw, y = read_idx(find_file(images, base_dir)), read_idx(find_file(labels, base_dir))
    if y.ndim != 1 or raw.ndim < 2 or len(raw) != len(y):
        raise DataError(f"idx: {images} has shape {raw.shape} and {labels} {y.shape}; need (M, ...) and (M,)")
    divisor = scale if scale is not None else 255.0 if raw.dtype == np.uint8 else 1.0
    return raw.reshape(len(raw), -1).astype(np.float32) / np.float32(divisor), y


def read_idx(file: Path) -> np.ndarray:
    """The array in one IDX file."""
    raw = file.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{file}: not a sound .gz file ({error}); fetch it again") from error
    if len(raw) < 4 or raw[:2] != b"\x00\x00" or raw[2] not in _TYPES:
        raise DataError(
            f"{file}, byte 0: {raw[:4]!r} is no IDX header (two zero bytes, a type, the number of dimensions)"
        )
    kind, start = np.dtype(_TYPES[raw[2]]), 4 + 4 * raw[3]
    if len(raw) < start:
        raise DataError(f"{file}, byte {len(raw)}: the file ends within its header of {start} bytes")
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", raw[3], 4))
    wanted = start + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if len(raw) != wanted:
        raise DataError(f"{file}, byte {min(len(raw), wanted)}: {len(raw)} bytes, but shape {shape} needs {wanted}")
    return np.frombuffer(raw, kind, offset=start).reshape(shape)
