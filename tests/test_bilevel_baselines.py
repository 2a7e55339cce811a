"""The methods that DSVRBGD is compared with, against matrix forms of their own, and what each sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simnet.algorithm import Algorithm
from simnet.errors import ScenarioError
from simnet.models.algorithms.dsoba import DSOBA
from simnet.models.algorithms.gossip_dsbo import GossipDSBO
from simnet.models.algorithms.ma_dsbo import DSBO, MADSBO
from simnet.models.algorithms.mdbo import MDBO
from tests.bilevel import Array, Levels, run, uniform_ring

Q, W = Levels(), uniform_ring(8)
DX, DY, EDGES = 5, 10, 16


def dsoba(rounds: int, theta: float) -> tuple[Array, Array]:
    x, y, z = Q.start
    r = Q.hx(x, y, z)
    for t in range(rounds):
        r = Q.hx(x, y, z) if t == 0 else (1 - theta) * r + theta * Q.hx(x, y, z)
        x, y, z = W @ (x - 0.03 * r), W @ (y - 0.05 * Q.hy(x, y)), W @ (z - 0.05 * Q.hz(x, y, z))
    return x, y


def mdbo(rounds: int, a: float, terms: int = 7) -> tuple[Array, Array]:
    def h(x: Array, y: Array) -> tuple[Array, Array]:
        v, z = y - Q.c, np.zeros_like(y)
        for _ in range(terms):
            z, v = z + 0.15 * v, v - 0.15 * np.einsum("nij,nj->ni", Q.A, v)
        return Q.hx(x, y, z), Q.hy(x, y)

    x, y, _ = Q.start
    u = p = h(x, y)
    old = x, y
    for t in range(rounds):
        if t:
            new, back = h(x, y), h(*old)
            fresh = tuple(n + (1 - a) * (v - b) for n, v, b in zip(new, u, back, strict=True))
            p = tuple(W @ q + f - v for q, f, v in zip(p, fresh, u, strict=True))  # type: ignore[assignment]
            u = fresh  # type: ignore[assignment]
        old = x, y
        x, y = W @ x - 0.05 * p[0], W @ y - 0.04 * p[1]
    return x, y


def inner(v: Array, oracle: Callable[[Array], Array], step: float, count: int, tracked: bool) -> Array:
    h = p = oracle(v)
    for _ in range(count):
        v = W @ v - step * p
        new = oracle(v)
        p, h = (W @ p + new - h if tracked else new), new
    return v


def double_loop(rounds: int, a: float, tracked: bool, matrices: bool) -> tuple[Array, Array]:
    x, y, z = Q.start
    Z = np.zeros((8, DY * DX))
    r = p = None
    for _ in range(rounds):
        y = inner(y, lambda v, x=x: Q.hy(x, v), 0.05, 3, tracked)  # type: ignore[misc]
        if matrices:
            Z = inner(Z, lambda v: (Q.A @ v.reshape(8, DY, DX) + Q.B).reshape(8, -1), 0.06, 4, True)
            h = Q.rho * (x - Q.e) - np.einsum("nyx,ny->nx", Z.reshape(8, DY, DX), y - Q.c)
        else:
            z = inner(z, lambda v, x=x, y=y: Q.hz(x, y, v), 0.06, 4, True)  # type: ignore[misc]
            h = Q.hx(x, y, z)
        before, r = r, h if r is None else (1 - a) * r + a * h
        p = r if p is None or not tracked else W @ p + r - before
        x = W @ x - 0.4 * p
    return x, y


def gossip_dsbo(rounds: int, a: float, B: int = 4) -> tuple[Array, Array]:
    x, y, _ = Q.start
    kept: Any = None

    def mix(v: Array) -> Array:
        return np.tensordot(W, v, 1)

    for _ in range(rounds):
        hy = Q.hy(x, y)
        fresh = [Q.rho * (x - Q.e), y - Q.c, -Q.B.transpose(0, 2, 1), Q.A]
        kept = [mix(v if kept is None else (1 - a) * k + a * v) for v, k in zip(fresh, kept or fresh, strict=True)]
        v, z = kept[1], 0
        for _ in range(B):
            z, v = z + 0.3 * v, v - 0.3 * np.einsum("nij,nj->ni", kept[3], v)
        h = kept[0] - np.einsum("nxy,ny->nx", kept[2], z)
        x, y = W @ x - 0.05 * h, W @ y - 0.02 * hy
    return x, y


CASES: list[tuple[Algorithm, Callable[[], tuple[Array, Array]]]] = [
    (DSOBA(0.03, 0.05, 0.05), lambda: dsoba(12, 1.0)),
    (DSOBA(0.03, 0.05, 0.05, theta=0.3), lambda: dsoba(12, 0.3)),
    (MDBO(0.05, 0.04, 0.15, 7), lambda: mdbo(12, 1.0)),
    (MDBO(0.05, 0.04, 0.15, 7, a=0.2), lambda: mdbo(12, 0.2)),
    (MADSBO(0.4, 0.05, 0.06, 3, 4), lambda: double_loop(12, 1.0, True, False)),
    (MADSBO(0.4, 0.05, 0.06, 3, 4, a=0.4), lambda: double_loop(12, 0.4, True, False)),
    (MADSBO(0.4, 0.05, 0.06, 3, 4, tracking=False), lambda: double_loop(12, 1.0, False, False)),
    (DSBO(0.4, 0.05, 0.06, 3, 4), lambda: double_loop(12, 1.0, True, True)),
    (DSBO(0.4, 0.05, 0.06, 3, 4, a=0.4, tracking=False), lambda: double_loop(12, 0.4, False, True)),
    (GossipDSBO(0.05, 0.02, 0.3, 4, 0.2), lambda: gossip_dsbo(12, 0.2)),
]


@pytest.mark.parametrize(("algorithm", "form"), CASES, ids=[repr(a)[:60] for a, _ in CASES])
def test_each_is_its_matrix_form(algorithm: Algorithm, form: Callable[[], tuple[Array, Array]]) -> None:
    record = run(algorithm, 12)
    for name, expected in zip("xy", form(), strict=True):
        np.testing.assert_allclose(record.final[name], expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("algorithm", "numbers", "rounds"),
    [
        (DSOBA(), DX + 2 * DY, 1),
        (MDBO(J=3), 2 * DX + 2 * DY, 1),
        (MADSBO(Ty=3, N=4), 2 * DX + 2 * 3 * DY + 2 * 4 * DY, 3 + 4 + 1),
        (MADSBO(Ty=3, N=4, tracking=False), DX + 3 * DY + 2 * 4 * DY, 3 + 4 + 1),
        (DSBO(Ty=3, N=4), 2 * DX + 2 * 3 * DY + 2 * 4 * DX * DY, 3 + 4 + 1),
        (GossipDSBO(B=6), 2 * DX + 2 * DY + DX * DY + 6 * DY * DY, 1),
    ],
)
def test_bytes_and_gossip_rounds_of_an_outer_iteration(algorithm: Algorithm, numbers: int, rounds: int) -> None:
    record = run(algorithm, 3, evaluate_every=1)
    assert np.diff(record.rounds["wire_bytes"])[1] == EDGES * 4 * numbers
    assert record.rounds["gossip_rounds"].tolist() == [rounds, 2 * rounds, 3 * rounds]
    assert sum(record.summary["bytes_by_variable"].values()) == record.summary["wire_bytes"]


def test_the_ledger_tells_matrices_from_vectors() -> None:
    named = run(GossipDSBO(B=6), 2).summary["bytes_by_variable"]
    assert named["matrices"] == 2 * EDGES * 4 * (DX * DY + 6 * DY * DY)
    named = run(DSBO(Ty=3, N=4), 2).summary["bytes_by_variable"]
    assert named["matrices"] == 2 * EDGES * 4 * 4 * DX * DY


@pytest.mark.parametrize("algorithm", [MDBO(0.02, 0.03, 0.15, 5, a=0.1), MADSBO(0.05, a=0.3), DSBO(0.05, N=3, a=0.3)])
def test_their_trackers_keep_the_mean_of_their_estimates(algorithm: Algorithm) -> None:
    problem = {"name": "BilevelQuadratic", "noise": 0.3, "batch": 1}
    record = run(algorithm, 40, problem=problem, evaluate_every=1)
    assert record.rounds["tracker_residual"].max() <= 1e-10


def test_hessians_of_gossip_dsbo_are_drawn_apart() -> None:
    """B rows of noise of their own: the more Hessians, the nearer their average is to the exact one."""
    problem = {"name": "BilevelQuadratic", "noise": 0.3, "batch": 1}
    one, other = (run(GossipDSBO(B=3, a=1.0), 2, problem=problem).final["x"] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one, run(GossipDSBO(B=3, a=1.0), 2).final["x"])


def test_a_local_hessian_leads_to_a_wrong_point() -> None:
    record = run(MDBO(0.05, 0.05, 0.15, 60), 500)
    assert record.rounds["stationarity_gap"][-1] > 0.1
    assert record.rounds["tracker_residual"][-1] < 1e-10 and record.rounds["consensus_distance"][-1] < 1e-3
    assert (
        run(MDBO(0.05, 0.05, 0.15, 60), 500, problem={"name": "BilevelQuadratic", "het": 0.0}).rounds[
            "stationarity_gap"
        ][-1]
        < 1e-7
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DSOBA(theta=0.0), "algorithm.theta"), (lambda: MDBO(a=2.0), "algorithm.a"),
        (lambda: MADSBO(a=0.0), "algorithm.a"), (lambda: GossipDSBO(a=-1.0), "algorithm.a"),
        (lambda: run(MDBO(J=0), 1), "algorithm.J"), (lambda: run(DSBO(Ty=0), 1), "algorithm.Ty"),
    ],
)  # fmt: skip
def test_fields_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        make()
