"""Text as blocks of characters, each with the character that follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simnet import streams
from simnet.dataset import Dataset, find_file
from simnet.errors import DataError


def text(
    path: str,
    *,
    block: int = 32,
    test_fraction: float = 0.1,
    characters: int | None = None,
    base_dir: Path | None = None,
) -> Dataset:
    """A plain text file, cut into blocks of characters: row = `block` characters, label = the one that follows.

    Characters are numbered in ascending order of their code points, over the whole file. Rows are in the text's
    order and do not overlap; its end is held out for testing.

    Args:
        path: the file in UTF-8, absolute or relative to the scenario.
        block: characters of a row.
        test_fraction: of the rows.
        characters: read only so many from the start.

    Raises:
        DataError: a missing file, one that is no text, or one too short for a training row.
    """
    file = find_file(path, base_dir)
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not text in UTF-8 ({error.reason} at byte {error.start})") from error
    return _blocks(content[:characters], block, test_fraction, file.name)


def sample_text(*, characters: int = 8000, block: int = 16, test_fraction: float = 0.1, seed: int = 0) -> Dataset:
    """Made-up sentences of a small grammar, for trying things out where no text file is at hand; as `text`."""
    subjects, verbs = ("a node", "the server", "one peer", "a slow link"), ("sends", "waits for", "averages", "loses")
    objects, ends = ("a gradient", "the model", "its neighbour", "every message"), (".", ".", ";", "!")
    count = characters // 16 + 1  # the shortest sentence has more characters than that
    draws = streams.uniform1(streams.key(seed, "sample text"), 4 * count).reshape(count, 4) * 4
    said = [f"{subjects[a]} {verbs[b]} {objects[c]}{ends[d]} " for a, b, c, d in draws.astype(int).tolist()]
    return _blocks("".join(said)[:characters], block, test_fraction, "sample text")


def _blocks(content: str, block: int, test_fraction: float, name: str) -> Dataset:
    """`content` as rows of `block` character numbers, int64 (M, T), and labels (M,)."""
    if block < 1 or not 0 <= test_fraction < 1:
        raise DataError(f"{name}: block = {block}, test_fraction = {test_fraction}; give at least 1, and one in [0, 1)")
    codes = np.frombuffer(content.encode("utf-32-le"), np.uint32)
    known, numbers = np.unique(codes, return_inverse=True)
    rows = (len(codes) - 1) // block
    held = round(test_fraction * rows)
    if rows - held < 1:
        raise DataError(f"{name}: {len(codes)} characters make no training row of {block}; give a smaller block")
    if len(known) < 2:
        raise DataError(f"{name}: one character over and over; there is nothing to predict")
    x, y = numbers[: rows * block].reshape(rows, block).astype(np.int64), numbers[block : rows * block + 1 : block]
    cut, y = rows - held, y.astype(np.int64)
    return Dataset(name, x[:cut], y[:cut], x[cut:], y[cut:], len(known))
