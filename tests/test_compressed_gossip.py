"""Algorithms of compressed gossip, against matrix forms of their papers, and what they promise at every step."""

from __future__ import annotations

import importlib
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import simnet
from simnet.algorithm import Algorithm
from simnet.analysis.reproduce import engine
from simnet.analysis.reproduce.gossip_problems import Points, Skewed
from simnet.analysis.reproduce.gossip_runs import at, first, gap_of, go, mixing
from simnet.compressor import Compressor
from simnet.models.algorithms.choco_gossip import ChocoGossip
from simnet.models.algorithms.choco_sgd import ChocoSGD
from simnet.models.algorithms.dcd_psgd import DCDPSGD
from simnet.models.algorithms.deep_squeeze import DeepSqueeze
from simnet.models.algorithms.deli_coco import DeLiCoCo
from simnet.models.algorithms.dgd import DGD
from simnet.models.algorithms.naive_gossip import NaiveGossip
from simnet.models.compressors.shipped import QSGD, Identity, RandK, RandomGossip, Sign, TopK
from tests.dense import Quadratics, metropolis

P = Quadratics.drawn(8, 6)
W = metropolis(nx.cycle_graph(8))
ETA, GAMMA, ROUNDS = 0.1, 0.3, 9


def top(k: int, x_ND: np.ndarray) -> np.ndarray:
    """The k largest of each row, by a stable sort."""
    order = np.argsort(-np.abs(x_ND), axis=1, kind="stable")[:, :k]
    kept = np.zeros_like(x_ND)
    np.put_along_axis(kept, order, np.take_along_axis(x_ND, order, 1), 1)
    return kept


def sign(x_ND: np.ndarray) -> np.ndarray:
    return np.abs(x_ND).mean(1, keepdims=True) * np.sign(x_ND)


def run(algorithm: Algorithm, rounds: int = ROUNDS, **sections: Any) -> simnet.Record:
    return simnet.run(P.scenario(algorithm, rounds=rounds, **sections))


def close(x: np.ndarray, y: np.ndarray) -> bool:
    return bool(np.abs(x - y).max() <= 1e-12 * max(1.0, np.abs(y).max()))


@pytest.mark.parametrize("Q", (1, 3))
def test_deli_coco_equals_its_matrix_form(Q: int) -> None:
    x = P.start
    z = s = np.zeros_like(x)
    for _ in range(ROUNDS):
        x = x - ETA * P.gradient(x)
        for _ in range(Q):
            m = top(2, x - z)
            s, z = s + W @ m, z + m
            x = x + GAMMA * (s - z)
    final = run(DeLiCoCo(ETA, GAMMA, Q, TopK(k=2))).final
    assert close(final["x"], x) and close(final["z"], z) and close(final["s"], s)


def test_choco_sgd_is_deli_coco_with_one_step_and_its_step_may_decay() -> None:
    one = run(ChocoSGD(ETA, GAMMA, compressor=Sign())).final["x"]
    assert close(one, run(DeLiCoCo(ETA, GAMMA, 1, Sign())).final["x"])
    x = P.start
    z = np.zeros_like(x)
    for t in range(ROUNDS):
        x = x - ETA / (1 + t / 4.0) * P.gradient(x)
        z = z + sign(x - z)
        x = x + GAMMA * (W @ z - z)
    assert close(run(ChocoSGD(ETA, GAMMA, 4.0, Sign())).final["x"], x)


def test_exact_compression_makes_it_dgd_with_that_many_steps() -> None:
    mix = np.linalg.matrix_power((1 - GAMMA) * np.eye(8) + GAMMA * W, 3)
    x = P.start
    for _ in range(ROUNDS):
        x = mix @ (x - ETA * P.gradient(x))
    assert close(run(DeLiCoCo(ETA, GAMMA, 3)).final["x"], x)
    whole = P.start
    for _ in range(ROUNDS):
        whole = np.linalg.matrix_power(W, 3) @ (whole - ETA * P.gradient(whole))
    assert close(run(DGD(ETA, 3)).final["x"], whole) and close(run(DeLiCoCo(ETA, 1.0, 3)).final["x"], whole)


def test_dcd_psgd_and_deep_squeeze_equal_their_matrix_forms() -> None:
    x = P.start
    for _ in range(ROUNDS):
        x = x + (W @ x - ETA * P.gradient(x) - x)
    assert close(run(DCDPSGD(ETA)).final["x"], x)
    x = P.start
    e = np.zeros_like(x)
    for _ in range(ROUNDS):
        half = x - ETA * P.gradient(x)
        c = top(2, half + e)
        e = half + e - c
        x = half + GAMMA * (W @ c - c)
    assert close(run(DeepSqueeze(ETA, GAMMA, TopK(k=2))).final["x"], x)


@pytest.mark.parametrize("form", ("replace", "diff"))
def test_naive_gossip_equals_its_matrix_form(form: Any) -> None:
    x = P.start
    for _ in range(ROUNDS):
        x = x - ETA * P.gradient(x)
        for _ in range(2):
            c = top(2, x)
            x = W @ c if form == "replace" else x + GAMMA * (W @ c - c)
    assert close(run(NaiveGossip(form, ETA, GAMMA, 2, TopK(k=2))).final["x"], x)


@pytest.mark.parametrize("c", (QSGD(levels=7), RandK(k=2), RandomGossip(p=0.5), TopK(k=1)), ids=str)
def test_public_copies_and_the_mean_are_exact_at_every_step(c: Compressor) -> None:
    before = P.start
    for t in range(1, 11):
        final = run(DeLiCoCo(ETA, GAMMA, 2, c), rounds=t).final
        assert close(final["s"], W @ final["z"])
        assert close(final["x"].mean(0), before.mean(0) - ETA * P.gradient(before).mean(0))
        before = final["x"]


def test_gossip_alone_keeps_the_mean_and_agrees_on_it() -> None:
    c = torch.randn(9, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64).numpy()
    record = go(Points.of(c), ChocoGossip(gamma=0.3, compressor=TopK(fraction=0.25)), "torus", 300, 50)
    np.testing.assert_allclose(record.final["x"], np.tile(c.mean(0), (9, 1)), atol=1e-9)
    exact_ = go(Points.of(c), ChocoGossip(), "torus", 16)
    e = exact_.rounds["consensus_distance"]
    assert (e[-1] / e[7]) ** (1 / 8) == pytest.approx((1 - gap_of(mixing("torus", 9))) ** 2, rel=1e-3)


@pytest.mark.parametrize("policy", ("drop", "symmetric"))
def test_a_lost_message_leaves_the_copies_wrong_for_ever_and_a_retried_one_does_not(policy: str) -> None:
    link = {"loss": 0.05, "latency": "1 ms", "bandwidth": "1 Mbit/s"}
    for chosen in (policy, "retry"):
        network = {"link": link, "policy": chosen, "loss_unit": "message"}
        record = run(DeLiCoCo(ETA, GAMMA, 1, TopK(k=2)), rounds=400, network=network)
        off = np.abs(record.final["s"] - W @ record.final["z"]).max()
        assert off < 1e-12 if chosen == "retry" else off > 0.01
        lost = record.summary["lost_messages"]
        assert (lost > 0) == (chosen != "retry")


def test_floors_are_one_linear_solve_and_q_steps_lower_them() -> None:
    """The recipe of the specification: its first numbers to all digits given."""
    data = Skewed()
    assert (round(data.L, 3), round(data.mu, 4)) == (5.533, 0.0572)
    assert data.gap(np.zeros(60)) == pytest.approx(11.8212, rel=1e-5)
    for Q, floor in ((1, 2.9393e-2), (4, 7.0798e-4)):
        point = data.fixed_point(mixing("torus", 16), 1.0, Q)
        assert data.gap(point.mean(0)) == pytest.approx(floor, rel=2e-4)
    record = go(data.problem, DeLiCoCo(eta=data.eta), "torus", 210)
    assert [first(record, "objective_gap", g) for g in (1.0, 0.1, 0.035)] == [19, 90, 203]
    np.testing.assert_allclose(record.rounds["sim_time_s"], record.rounds["round"] * (1e-3 + 1e-3 + 1920e-6), rtol=1e-9)
    assert at(record, "wire_bytes", [210]) == [210 * 64 * 240]


def test_its_reproduction_is_listed_and_every_experiment_has_what_the_engine_asks() -> None:
    module = importlib.import_module(engine.SYSTEMS["multi-gossip"])
    names = [each.name for each in module.EXPERIMENTS]
    assert len(names) == len(set(names)) and {"S", "R1", "P1", "R2", "R3", "R4", "R5"} <= set(names)
    assert all(each.title and callable(each.run) for each in module.EXPERIMENTS)
    assert Identity() == module.LISTED["identity"][0]
