"""Splits: every row dealt once, every node served, the same rows for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simnet.errors import DataError
from simnet.models.datasets.shipped import digits
from simnet.models.splits import draws, shipped

LABELS = digits().train_y
Split = Callable[..., list[np.ndarray]]
PARTITIONS: list[tuple[Split, dict[str, float]]] = [
    (shipped.iid, {}),
    (shipped.dirichlet, {"alpha": 0.1}),
    (shipped.dirichlet, {"alpha": 10.0}),
    (shipped.shards, {"per_node": 3}),
    (shipped.by_label, {}),
]


def label_skew(rows: list[np.ndarray]) -> float:
    """Mean over nodes of the share of the commonest class."""
    return float(np.mean([np.bincount(LABELS[r]).max() / len(r) for r in rows]))


@pytest.mark.parametrize(("split", "params"), PARTITIONS)
@given(nodes=st.integers(1, 40), seed=st.integers(0, 5))
def test_partitions_deal_every_row_once_and_leave_no_node_empty(
    split: Split, params: dict[str, float], nodes: int, seed: int
) -> None:
    rows = split(LABELS, nodes, seed, **params)
    assert len(rows) == nodes and min(len(r) for r in rows) >= 1
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(len(LABELS)))
    again = split(LABELS, nodes, seed, **params)
    assert all(np.array_equal(a, b) for a, b in zip(rows, again, strict=True))


@pytest.mark.parametrize(("split", "params"), PARTITIONS)
def test_as_many_nodes_as_rows_get_one_each(split: Split, params: dict[str, float]) -> None:
    few = LABELS[:30]
    nodes = 10 if split is shipped.shards else 30
    rows = split(few, nodes, 0, **params)
    assert all(len(r) >= 1 for r in rows) and len(np.concatenate(rows)) == 30


def test_another_seed_gives_another_split() -> None:
    for split in (shipped.iid, shipped.dirichlet, shipped.shards, shipped.main_class):
        assert not np.array_equal(np.concatenate(split(LABELS, 8, 0)), np.concatenate(split(LABELS, 8, 1)))


def test_skew_falls_as_alpha_grows() -> None:
    skews = [label_skew(shipped.dirichlet(LABELS, 10, 0, alpha=a)) for a in (0.01, 0.5, 1000.0)]
    assert skews[0] > 0.75 > skews[1] > 0.25 > skews[2]


def test_dirichlet_draws_have_the_right_mean_and_variance() -> None:
    alpha, columns, count = 0.5, 4, 20_000
    shares = draws.dirichlet_draws(3, "test", alpha, count, columns)
    assert shares.sum(1) == pytest.approx(1.0, abs=1e-12)
    variance = (1 / columns) * (1 - 1 / columns) / (columns * alpha + 1)
    assert shares.mean(0) == pytest.approx(np.full(columns, 1 / columns), abs=0.01)
    assert shares.var(0) == pytest.approx(np.full(columns, variance), rel=0.05)
    assert np.isfinite(draws.dirichlet_draws(3, "test", 1e-3, 100, 4)).all()


@pytest.mark.parametrize("shape", [0.3, 1.0, 4.0])
def test_gamma_draws_have_mean_and_variance_equal_to_their_shape(shape: float) -> None:
    values = np.exp(draws.log_gamma_draws(1, "test", shape, 40_000))
    assert values.mean() == pytest.approx(shape, rel=0.03)
    assert values.var() == pytest.approx(shape, rel=0.06)


def test_dirichlet_with_rows_draws_with_replacement_for_any_number_of_nodes() -> None:
    rows = shipped.dirichlet(LABELS, 2000, 0, alpha=0.5, rows=64)
    assert len(rows) == 2000 and {len(r) for r in rows} == {64}
    assert min(r.min() for r in rows) >= 0 and max(r.max() for r in rows) < len(LABELS)
    assert 0.35 < label_skew(rows) < 0.7


def test_shards_give_few_classes_to_each_node() -> None:
    rows = shipped.shards(LABELS, 10, 0, per_node=2)
    assert max(len(np.unique(LABELS[r])) for r in rows) <= 4


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.7])
def test_main_class_has_its_fraction_and_reuses_no_row_while_the_pool_lasts(fraction: float) -> None:
    rows = shipped.main_class(LABELS, 10, 0, fraction=fraction, rows=140)
    for node, own in enumerate(rows):
        counts = np.bincount(LABELS[own], minlength=10)
        assert len(own) == 140 and counts[node] == round(fraction * 140)
        assert np.ptp(np.delete(counts, node)) <= 1
    # every class is asked for 140 rows in all, and reused only where it has fewer
    assert len(np.unique(np.concatenate(rows))) == np.minimum(np.bincount(LABELS), 140).sum()


def test_main_class_starts_a_pool_again_when_it_is_used_up() -> None:
    rows = shipped.main_class(LABELS, 40, 0, fraction=1.0, rows=100)
    assert all(set(LABELS[r]) == {node % 10} for node, r in enumerate(rows))


def test_by_label_cuts_the_sorted_rows_into_blocks() -> None:
    rows = shipped.by_label(LABELS, 10, 0)
    assert max(len(np.unique(LABELS[r])) for r in rows) <= 3
    assert (np.diff(LABELS[np.concatenate(rows)]) >= 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shipped.dirichlet(LABELS, 4, 0, alpha=0.0), "alpha = 0.0; give a positive number"),
        (lambda: shipped.dirichlet(LABELS, 4, 0, alpha=-1.0), "alpha = -1.0"),
        (lambda: shipped.dirichlet(LABELS, 4, 0, rows=0), "rows = 0"),
        (
            lambda: shipped.dirichlet(LABELS[:5], 6, 0),
            "5 rows cannot give each of 6 parts one.*or give `rows`",
        ),
        (lambda: shipped.iid(LABELS[:5], 6, 0), "5 rows cannot give each of 6 parts one; use fewer nodes"),
        (lambda: shipped.by_label(LABELS[:5], 6, 0), "use fewer nodes"),
        (lambda: shipped.shards(LABELS[:5], 3, 0, per_node=2), "each of 6 parts one.*fewer shards"),
        (lambda: shipped.shards(LABELS, 3, 0, per_node=0), "per_node = 0"),
        (lambda: shipped.main_class(LABELS, 3, 0, fraction=1.5), "fraction = 1.5"),
        (lambda: shipped.main_class(LABELS[:5], 6, 0), "give `rows` to reuse rows"),
        (lambda: shipped.dirichlet(np.array([0.5, 1.5]), 2, 0), "labels are real numbers; use iid"),
    ],
)
def test_impossible_splits_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()
