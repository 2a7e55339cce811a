"""How many rows a minibatch has: everywhere the same, or as many for fo and as many for zo nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simnet.errors import ScenarioError

if TYPE_CHECKING:
    from simnet.book import Book

Size = int | tuple[int, int]  # everywhere, or at fo and at zo nodes


def size_of(batch: int | str | dict[str, int]) -> Size | None:
    """The scenario's `batch` as the kernel has it; None for all rows."""
    if isinstance(batch, dict):
        return batch["fo"], batch["zo"]
    return None if batch == "full" else int(batch)


def rows_of(book: Book, size: Size | None) -> np.ndarray:
    """Rows of one call at every host: a minibatch, or (None) all that it has; 0 where it has none."""
    if size is None:
        return book.samples_n
    here = np.where(book.zo_n, size[1], size[0]) if isinstance(size, tuple) else size
    return np.where(book.samples_n > 0, here, 0)


def flop_of(book: Book, oracle: str, size: Size | None) -> np.ndarray:
    """FLOP of one call at every host, (n,); of all its rows where `size` is None."""
    if size is not None:
        counted = np.asarray(book.problem.flop(oracle, rows_of(book, size)), np.float64)
        return np.broadcast_to(counted, (book.n,))
    flop_n = np.zeros(book.n)
    flop_n[book.data_hosts] = book.problem.flop_of_all(oracle)
    return flop_n


def check_batch(book: Book, size: Size) -> None:
    """Raises ScenarioError for a batch of no row, or one drawn without replacement that exceeds a node's data."""
    least = min(size) if isinstance(size, tuple) else size
    if least < 1:
        raise ScenarioError("a batch has at least 1 row", field="problem.batch", value=least)
    rows, sizes = np.minimum.reduce(book.problem.row_groups()), rows_of(book, size)[book.data_hosts]
    if book.replace or not rows.any() or (sizes <= rows).all():
        return
    who = int((rows - sizes).argmin())
    raise ScenarioError(
        f"node {book.network.hosts[int(book.data_hosts[who])]} has {rows[who]} rows, fewer than a batch drawn without "
        f"replacement: take a batch of at most {rows[who]}, or 'replace: true'",
        field="problem.batch",
        value=int(sizes[who]),
    )
