"""How training rows are dealt to nodes: `(labels, nodes, seed, ...) -> rows of each node`, at least one to each.

Shapes: M training rows, N nodes, C classes.
"""

from __future__ import annotations

import numpy as np

from simnet import streams
from simnet.errors import DataError
from simnet.models.splits.draws import dirichlet_draws, shuffled_classes


def iid(labels: np.ndarray, nodes: int, seed: int) -> list[np.ndarray]:
    """A random permutation of all rows, dealt in turn: sizes differ by at most one."""
    _enough(labels, nodes, "iid")
    order = streams.permutation(streams.key(seed, "split iid"), len(labels))
    return [order[node::nodes] for node in range(nodes)]


def whole(labels: np.ndarray, nodes: int) -> list[np.ndarray]:
    """Every node holds all rows: machines that share one data set."""
    _enough(labels, 1, "whole")
    return [np.arange(len(labels))] * nodes


def dirichlet(
    labels: np.ndarray, nodes: int, seed: int, *, alpha: float = 0.5, rows: int | None = None
) -> list[np.ndarray]:
    """Label skew of strength 1/alpha.

    Without `rows`, each class is cut over the nodes in proportions drawn from Dirichlet(alpha) (Yurochkin et
    al., ICML 2019): sizes are uneven and sum to M; a node left empty takes a row from the largest. With
    `rows`, each node draws its own label mix from Dirichlet(alpha) and then that many rows with replacement
    (after Hsu, Qi and Brown, 2019), so that there may be more nodes than rows.
    """
    _classes(labels, "dirichlet")
    if not alpha > 0 or not np.isfinite(alpha):
        raise DataError(f"dirichlet: alpha = {alpha}; give a positive number (0.1 strong skew, 100 nearly iid)")
    pools = shuffled_classes(labels, seed, "split dirichlet")
    if rows is not None:
        return _drawn(pools, nodes, seed, alpha, rows)
    _enough(labels, nodes, "dirichlet", "or give `rows` to draw with replacement")
    shares_CN = dirichlet_draws(seed, "split dirichlet", alpha, len(pools), nodes)
    held: list[list[np.ndarray]] = [[] for _ in range(nodes)]
    for pool, shares in zip(pools, shares_CN, strict=True):
        cuts = np.round(np.cumsum(shares)[:-1] * len(pool)).astype(np.int64)
        for node, part in enumerate(np.split(pool, cuts)):
            held[node].append(part)
    return _fill_empty([np.concatenate(parts) for parts in held])


def shards(labels: np.ndarray, nodes: int, seed: int, *, per_node: int = 2) -> list[np.ndarray]:
    """Rows sorted by label, cut into nodes x `per_node` shards, dealt at random (McMahan et al., AISTATS 2017)."""
    _classes(labels, "shards")
    if per_node < 1:
        raise DataError(f"shards: per_node = {per_node}; give at least 1")
    _enough(labels, nodes * per_node, "shards", "or fewer shards per node")
    pieces = np.array_split(np.concatenate(shuffled_classes(labels, seed, "split shards")), nodes * per_node)
    dealt = streams.permutation(streams.key(seed, "split shards", "deal"), len(pieces))
    return [np.concatenate([pieces[p] for p in dealt[node::nodes]]) for node in range(nodes)]


def main_class(
    labels: np.ndarray, nodes: int, seed: int, *, fraction: float = 0.5, rows: int | None = None
) -> list[np.ndarray]:
    """Node m holds round(fraction * rows) rows of class m mod C, the rest round robin over the other classes.

    Without replacement while a class's pool lasts, then its rows again from the start. `rows` per node is M
    // N by default.
    """
    _classes(labels, "main_class")
    if not 0 <= fraction <= 1:
        raise DataError(f"main_class: fraction = {fraction}; give a number in [0, 1]")
    size = len(labels) // nodes if rows is None else rows
    if size < 1:
        _enough(labels, nodes, "main_class", "or give `rows` to reuse rows")
        raise DataError(f"main_class: rows = {rows}; give at least 1")
    pools = shuffled_classes(labels, seed, "split main_class")
    taken = np.zeros(len(pools), np.int64)
    main = round(fraction * size) if len(pools) > 1 else size
    held = []
    for node in range(nodes):
        own = node % len(pools)
        others = [(own + k) % len(pools) for k in range(1, len(pools))]  # each starts elsewhere, so none is worn out
        wanted = np.bincount([own] * main + [others[k % len(others)] for k in range(size - main)], minlength=len(pools))
        parts = [np.take(pools[c], np.arange(taken[c], taken[c] + w), mode="wrap") for c, w in enumerate(wanted)]
        taken += wanted
        held.append(np.concatenate(parts))
    return held


def by_label(labels: np.ndarray, nodes: int, seed: int) -> list[np.ndarray]:
    """Rows sorted by label (file order within one), cut into N contiguous blocks: the strongest skew; needs no seed."""
    _enough(labels, nodes, "by_label")
    return np.array_split(np.argsort(labels, kind="stable"), nodes)


def by_oracle(
    labels: np.ndarray, nodes: int, seed: int, oracles: np.ndarray, *, fo: list[int], zo: list[int]
) -> list[np.ndarray]:
    """FO nodes hold rows of the classes `fo` alone, ZO nodes those of `zo`: dealt at random among each kind."""
    _classes(labels, "by_oracle")
    held: list[np.ndarray] = [np.zeros(0, np.int64)] * nodes
    for kind, classes in (("fo", fo), ("zo", zo)):
        members = np.flatnonzero(np.asarray(oracles) == kind)
        rows = np.flatnonzero(np.isin(labels, classes))
        if len(members):
            _enough(rows, len(members), f"by_oracle: {kind} nodes")
            order = rows[streams.permutation(streams.key(seed, "split by_oracle", kind), len(rows))]
            for k, member in enumerate(members.tolist()):
                held[member] = order[k :: len(members)]
    return held


def _drawn(pools: list[np.ndarray], nodes: int, seed: int, alpha: float, rows: int) -> list[np.ndarray]:
    """Each node's own label mix, then `rows` rows with replacement."""
    if rows < 1:
        raise DataError(f"dirichlet: rows = {rows}; give at least 1")
    ids, classes = np.arange(nodes), len(pools)
    edges_NC = np.cumsum(dirichlet_draws(seed, "split dirichlet mixes", alpha, nodes, classes), 1)
    which = streams.uniform(streams.keys(streams.key(seed, "split dirichlet", "class"), ids), rows)
    within = streams.uniform(streams.keys(streams.key(seed, "split dirichlet", "row"), ids), rows)
    class_NR = np.minimum((which[:, :, None] >= edges_NC[:, None, :]).sum(2), classes - 1)
    sizes = np.array([len(pool) for pool in pools])
    starts = np.cumsum(sizes) - sizes
    return list(np.concatenate(pools)[starts[class_NR] + (within * sizes[class_NR]).astype(np.int64)])


def _fill_empty(held: list[np.ndarray]) -> list[np.ndarray]:
    for node, rows in enumerate(held):
        if len(rows) == 0:
            largest = max(range(len(held)), key=lambda i: len(held[i]))
            held[node], held[largest] = held[largest][-1:], held[largest][:-1]
    return held


def _enough(labels: np.ndarray, needed: int, name: str, cure: str = "") -> None:
    if len(labels) < needed:
        raise DataError(
            f"{name}: {len(labels)} rows cannot give each of {needed} parts one; use fewer nodes {cure}".rstrip()
        )


def _classes(labels: np.ndarray, name: str) -> None:
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: splits by class, but these labels are real numbers; use iid or by_label")
