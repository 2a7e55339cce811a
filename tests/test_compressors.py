"""Compressors: what they keep, the bits that takes, and runs whose messages differ in size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet import registry, streams
from simnet.compressor import Compressor, one_number
from simnet.errors import InputError, ScenarioError
from simnet.models.algorithms.choco_gossip import ChocoGossip
from simnet.models.algorithms.dcd_psgd import DCDPSGD
from simnet.models.algorithms.deli_coco import DeLiCoCo
from simnet.models.compressors.shipped import (
    QSGD,
    DropCoord,
    EliasQSGD,
    Identity,
    RandK,
    RandomGossip,
    Sign,
    TopK,
    UnbiasedQSGD,
    elias_omega_bits,
    whole_levels,
)
from tests.programs import base, go

D, DRAWS = 500, 400
# measured 1 - |C(x) - x|^2 / |x|^2 on normal x of 500 numbers, as the specification of the system has it
MEASURED = {
    TopK(fraction=0.1): 0.438,
    RandK(fraction=0.1): 0.1002,
    QSGD(levels=7): 0.332,
    QSGD(levels=1): 0.0525,
    Sign(): 0.637,
    RandomGossip(p=0.1): 0.105,
}
ALL: list[Compressor] = [*MEASURED, Identity(), UnbiasedQSGD(levels=127), EliasQSGD(levels=7), DropCoord(p=0.3)]
IDS = str


def many(c: Compressor, v_SD: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, list[np.ndarray]]:
    """C of each row under draws of its own, and the draws of single numbers."""
    rows, d = v_SD.shape
    given, single = [], []
    for number, draw in enumerate(c.draws(d)):
        keys = streams.keys(streams.key(seed, "test", number), np.arange(rows))
        if draw.single:
            single.append(one_number(draw, d, keys))
            given.append(torch.as_tensor(single[-1])[:, None])
        else:
            assert draw.law == "uniform"
            given.append(torch.as_tensor(streams.uniform(keys, d)))
    return c.compress(v_SD, *given), single


def normal(rows: int, d: int = D) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(3).normal(size=(rows, d)))


# ---- exact ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", ALL, ids=IDS)
def test_nothing_becomes_nothing_and_one_row_is_as_many(c: Compressor) -> None:
    assert torch.equal(many(c, torch.zeros(4, D, dtype=torch.float64))[0], torch.zeros(4, D, dtype=torch.float64))
    x = normal(5)
    whole, single = many(c, x)
    assert whole.shape == x.shape
    for i in range(5):  # a row alone, with the same draws: what node runs compute
        given = []
        for number, draw in enumerate(c.draws(D)):
            keys = streams.keys(streams.key(0, "test", number), np.array([i]))
            if draw.single:
                given.append(torch.as_tensor(one_number(draw, D, keys)[0]))
            else:
                given.append(torch.as_tensor(streams.uniform(keys, D)[0]))
        assert torch.equal(c.compress(x[i], *given), whole[i])


def test_top_k_keeps_the_largest_and_of_equal_ones_the_first() -> None:
    v = torch.tensor([[1.0, -3.0, 2.0, 3.0, -2.0], [5.0, 5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 0.0, -1.0, 0.0]])
    kept = TopK(k=3).compress(v)
    assert kept.tolist() == [[0.0, -3.0, 2.0, 3.0, 0.0], [5.0, 5.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0, 0.0]]
    assert torch.equal(TopK(k=5).compress(v), v)
    x = torch.round(4 * normal(50, 30))  # many ties, against a stable sort
    order = torch.sort(x.abs(), dim=-1, descending=True, stable=True).indices[:, :7]
    assert torch.equal(TopK(k=7).compress(x), torch.zeros_like(x).scatter(-1, order, x.gather(-1, order)))


def test_a_vector_that_is_no_longer_finite_stays_seen() -> None:
    v = torch.tensor([1.0, math.nan, 2.0, 0.5])
    for c in (TopK(k=2), QSGD(levels=7), Sign()):
        assert torch.isnan(many(c, v[None].double())[0]).any(), c


def test_coordinates_kept_are_as_many_as_said() -> None:
    x = normal(DRAWS)
    assert ((many(RandK(k=50), x)[0] != 0).sum(1) == 50).all()
    assert ((many(TopK(fraction=0.0001), x)[0] != 0).sum(1) == 1).all()  # at least one
    kept, (m,) = many(DropCoord(p=0.3), x)
    assert ((kept != 0).sum(1).numpy() == m).all() and abs(m.mean() - 150) < 3 and m.std() > 5
    sent, (coin,) = many(RandomGossip(p=0.1), x)
    assert ((sent != 0).all(1).numpy() == (coin == 1)).all()


def test_qsgd_sends_whole_levels_within_one_step() -> None:
    x = normal(50)
    for s in (1, 7, 127):
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        levels = many(UnbiasedQSGD(levels=s), x)[0] * s / norm
        assert (levels - levels.round()).abs().max() < 1e-9 and levels.abs().max() <= s
        assert ((levels - x * s / norm).abs() < 1 + 1e-9).all()
        scaled = many(QSGD(levels=s), x)[0] * QSGD(levels=s).tau(D) * s / norm
        torch.testing.assert_close(scaled, levels)
    assert UnbiasedQSGD(levels=7).compress(torch.tensor([0.0, -5.0]), torch.tensor([0.9, 0.9])).tolist() == [0.0, -5.0]


def test_bits_by_the_formulas_of_the_literature() -> None:
    for c, bits, index, nominal in (
        (Identity(), 32 * D, 0, 32 * D),
        (TopK(k=50), 50 * (32 + 9), 450, 1600),
        (TopK(k=250), 32 * 250 + D, D, 8000),  # a bitmap is shorter
        (RandK(k=50), 32 * 50 + 64, 64, 1600),
        (QSGD(levels=7), 32 + 4 * D, 0, 4 * D),
        (QSGD(levels=127), 32 + 8 * D, 0, 8 * D),
        (UnbiasedQSGD(levels=1), 32 + 2 * D, 0, 2 * D),
        (Sign(), 32 + D, 0, D),
    ):
        assert (c.wire_bits(D), c.index_bits(D), c.nominal_bits(D)) == (bits, index, nominal), c
    assert RandomGossip(p=0.1).wire_bits(D, np.array([0.0, 1.0])).tolist() == [1, 1 + 32 * D]
    assert DropCoord(p=0.3).wire_bits(D, np.array([7.0])).tolist() == [32 * 7 + D]
    # the messages of the specification's comparison at equal bytes, d = 60
    sizes = [c.wire_bits(60) for c in (Identity(), QSGD(levels=7), QSGD(levels=1), TopK(fraction=0.1))]
    assert sizes == [1920, 272, 152, 228]
    assert TopK(k=1).wire_bits(1) == 32


def test_elias_sizes_are_those_of_the_levels_sent() -> None:
    # 1, 01 -> "0", "100", "110", "101000", ...: lengths of the code for 1, 2, 3, 4, 8, 16, 17, 100
    assert [elias_omega_bits(k) for k in (1, 2, 3, 4, 8, 16, 17, 100)] == [1, 3, 3, 6, 7, 11, 11, 13]
    c, x = EliasQSGD(levels=7), normal(40).float()
    sent = many(c, x)[0]
    for value, v in zip(sent, x.double(), strict=True):
        step = float(torch.linalg.vector_norm(v)) / (7 * c.tau(D))
        levels = (value.double().abs() / step).round().long()
        assert torch.equal(whole_levels(value, 7), levels)
        expected = 32 + sum(elias_omega_bits(int(k) + 1) + int(k > 0) for k in levels)
        assert c.wire_bits(D, value=value) == expected < c.wire_bits(D)
    assert c.wire_bits(D, value=torch.zeros(D)) == 32 + D
    # no level is 1: two and three are read as such, and a common factor goes into the norm
    assert whole_levels(torch.tensor([0.2, -0.3, 0.0]), 7).tolist() == [2, 3, 0]
    assert whole_levels(torch.tensor([0.4, -0.4]), 7).tolist() == [1, 1]
    assert whole_levels(torch.tensor([5.0, 7.0, 3.0]) / 7.3, 7).tolist() == [5, 7, 3]


# ---- moments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", ALL, ids=IDS)
def test_omega_measured_is_at_least_the_bound(c: Compressor) -> None:
    x = normal(4000 if isinstance(c, RandomGossip) else DRAWS)
    kept = 1 - ((many(c, x)[0] - x) ** 2).sum(1) / (x**2).sum(1)
    mean, error = float(kept.mean()), float(kept.std()) / math.sqrt(len(kept))
    bound = c.omega(D)
    if bound is not None:
        assert mean >= bound - 4 * error
    if c in MEASURED:
        assert mean == pytest.approx(MEASURED[c], rel=0.02, abs=4 * error)
    if isinstance(c, RandK | RandomGossip | DropCoord):  # with equality, coordinates and all
        assert mean == pytest.approx(bound, abs=4 * error + 1e-12)


def test_on_unlike_coordinates_rand_k_is_as_good_as_on_like_ones() -> None:
    x = (normal(1)[0] * torch.linspace(0.01, 10, D)).repeat(20_000, 1)[:, :]
    kept = 1 - ((many(RandK(fraction=0.1), x)[0] - x) ** 2).sum(1) / (x**2).sum(1)
    assert float(kept.mean()) == pytest.approx(0.1, abs=4 * float(kept.std()) / math.sqrt(len(kept)))


@pytest.mark.parametrize("c", [c for c in ALL if c.unbiased], ids=IDS)
def test_the_mean_of_what_is_sent_is_the_vector_where_it_says_so(c: Compressor) -> None:
    x = normal(1, 20).repeat(20_000, 1)
    sent = many(c, x)[0]
    error = sent.std(0) / math.sqrt(len(sent))
    assert ((sent.mean(0) - x[0]).abs() <= 4.5 * error + 1e-12).all()


def test_the_unscaled_rounding_contracts_only_with_enough_levels() -> None:
    assert UnbiasedQSGD(levels=7).omega(500) is None
    assert UnbiasedQSGD(levels=127).omega(500) == pytest.approx(1 - 500 / 127**2)
    assert QSGD(levels=7).omega(500) == pytest.approx(0.238, rel=2e-3)
    assert QSGD(levels=1).omega(500) == pytest.approx(0.0428, rel=2e-3)


# ---- runs -----------------------------------------------------------------------------------------------------------

LOSSES: dict[str, dict[str, Any]] = {
    "no loss": {},
    "retry": {"link": {"bandwidth": "50 kbit/s", "latency": "5 ms", "loss": 0.3}, "policy": "retry"},
    "drop": {"link": {"bandwidth": "50 kbit/s", "latency": "5 ms", "loss": 0.3}, "policy": "drop"},
    "symmetric": {"link": {"bandwidth": "50 kbit/s", "latency": "5 ms", "loss": 0.3}, "policy": "symmetric"},
    "shared": {"link": {"bandwidth": "50 kbit/s", "latency": "5 ms"}, "model": "maxmin"},
}
PROBLEM = {"name": "Quadratic", "dim": 12}


def scenario(c: Compressor, loss: str = "no loss", **more: Any) -> dict[str, Any]:
    network = {"nodes": 5, "graph": "ring", "link": {"bandwidth": "50 kbit/s", "latency": "5 ms"}} | LOSSES[loss]
    if c.by_value and loss in ("drop", "retry", "symmetric"):
        network["loss_unit"] = "message"
    return base(DeLiCoCo(eta=0.1, gamma=0.2, Q=2, compressor=c), network=network, problem=PROBLEM, **more)


CASES = [
    *((DropCoord(p=0.4), loss) for loss in LOSSES),
    *((EliasQSGD(levels=7), loss) for loss in ("no loss", "retry", "drop", "shared")),
    *((RandomGossip(p=0.5), loss) for loss in ("retry", "symmetric")),
    (QSGD(levels=7), "shared"),
    (TopK(k=3), "drop"),
]


@pytest.mark.parametrize(("c", "loss"), CASES, ids=IDS)
def test_tiers_executors_and_node_runs_agree_where_sizes_differ(c: Compressor, loss: str) -> None:
    unequal = not isinstance(c, QSGD | TopK) or c.by_value
    plain = go(scenario(c, loss), "auto")
    node_run = go(scenario(c, loss), "auto", execution__node_run=True)
    others = [node_run]
    if not c.by_value:
        others.append(go(scenario(c, loss), "events", "one_by_one"))
        others.append(go(scenario(c, loss), "auto", "one_by_one"))
    for other in others:
        assert other.summary["bytes_by_kind"] == plain.summary["bytes_by_kind"]
        assert other.summary["nominal_bits"] == pytest.approx(plain.summary["nominal_bits"], rel=1e-12)
        np.testing.assert_allclose(other.rounds["sim_time_s"], plain.rounds["sim_time_s"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(other.final["x"], plain.final["x"], rtol=0, atol=1e-11)
        np.testing.assert_array_equal(other.messages["bytes"], plain.messages["bytes"])
    if not c.by_value:
        assert others[0].summary["log_hash"] == others[1].summary["log_hash"]
    sizes = set(plain.messages["bytes"].tolist())
    assert len(sizes) > 1 if unequal or loss == "retry" else len(sizes) == 1


def test_the_ledger_has_every_drawn_byte() -> None:
    d, rounds, n = 12, 6, 5
    for c, key in ((RandomGossip(p=0.5), "coin"), (DropCoord(p=0.4), "count")):
        record = go(scenario(c))
        sizes = record.messages["bytes"]
        assert len(sizes) == 2 * n * 2 * rounds == record.summary["messages"]
        kinds = record.summary["bytes_by_kind"]
        assert sum(kinds.values()) == sizes.sum() == record.summary["wire_bytes"]
        both = sizes.reshape(-1, 2 * n)
        for row, sources in zip(both, record.messages["source"].reshape(-1, 2 * n), strict=True):
            for source in set(sources.tolist()):  # one draw for all neighbours
                assert len(set(row[sources == source].tolist())) == 1
        if key == "coin":
            assert set(sizes.tolist()) == {1, 4 * d + 1}  # 1 bit, and 1 + 384 bits
        else:
            assert (sizes - 2).max() <= 4 * d and ((sizes - 2) % 4 == 0).all()  # 4 m bytes and a bitmap of 12 bits
            assert kinds["index"] == 2 * len(sizes)
    record = go(scenario(TopK(k=3)))  # 3 (32 + 4) bits, 12 of them indices: 14 bytes
    assert record.summary["bytes_by_kind"] == {"payload": 12 * 120, "index": 2 * 120} | dict.fromkeys(
        ("header", "retransmitted", "acknowledgement"), 0
    )
    assert record.summary["nominal_bits"] == 3 * 32 * 120
    qsgd = go(scenario(QSGD(levels=7)))
    assert qsgd.summary["wire_bytes"] == 10 * 120 and qsgd.summary["nominal_bits"] == 48 * 120


def test_elias_coded_messages_are_timed_by_their_values_and_an_estimate_says_that_it_cannot() -> None:
    fixed, coded = go(scenario(QSGD(levels=7))), go(scenario(EliasQSGD(levels=7)))
    np.testing.assert_allclose(coded.final["x"], fixed.final["x"], rtol=0, atol=1e-12)
    assert len(set(coded.messages["bytes"].tolist())) > 3
    assert "notes" not in coded.header
    guessed = simnet.estimate(scenario(EliasQSGD(levels=7)))
    assert guessed.summary["wire_bytes"] == fixed.summary["wire_bytes"]
    (note,) = guessed.header["notes"]
    assert "EliasQSGD" in note and "80 bits" in note


# ---- what is refused, and what is said ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compressor", "field", "words"),
    [
        ({"name": "top_k", "k": 0}, "algorithm.compressor.k", "at least 1"),
        ({"name": "top_k", "k": 13}, "algorithm.compressor.k", "vectors have 12 numbers: keep at most 12"),
        ({"name": "rand_k", "fraction": 1.5}, "algorithm.compressor.fraction", "at most 1"),
        ({"name": "rand_k"}, "algorithm.compressor", "give one"),
        ({"name": "qsgd", "levels": 0}, "algorithm.compressor.levels", "at least 1, such as 7"),
        ({"name": "qsgd"}, "algorithm.compressor.levels", "needs it"),
        ({"name": "random_gossip", "p": 0}, "algorithm.compressor.p", "above 0"),
        ({"name": "qsgd_unbiased", "levels": 1}, "algorithm.compressor", "more levels"),
        ({"name": "topk"}, None, ""),
        ("top-q", "algorithm.compressor", "top_k"),
    ],
)
def test_a_compressor_that_does_not_fit_is_refused_by_its_field(compressor: Any, field: Any, words: str) -> None:
    part = {"name": "DeLiCoCo", "compressor": compressor}
    if field is None:  # case and dashes do not matter, but a number of coordinates does
        field, words = "algorithm.compressor", "give one"
    with pytest.raises(ScenarioError, match=words) as caught:
        simnet.run(base(part, problem=PROBLEM))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_method_without_error_feedback_wants_an_unbiased_compressor() -> None:
    with pytest.raises(ScenarioError, match="DCDPSGD needs an unbiased compressor, and .* TopK"):
        go(base(DCDPSGD(compressor=TopK(k=1))))
    assert go(base(DCDPSGD(compressor=UnbiasedQSGD(levels=1)))).outcome == "finished"


def test_elias_sizes_and_packets_do_not_go_together() -> None:
    losing = scenario(EliasQSGD(levels=7), "drop")
    losing["network"]["loss_unit"] = "packet"
    with pytest.raises(ScenarioError, match="loss_unit: message"):
        go(losing)


def test_only_float32_goes_on_the_wire_compressed() -> None:
    with pytest.raises(InputError, match="wire_dtype"):
        go(scenario(TopK(k=3)), network__wire_dtype="float64")


@pytest.mark.parametrize("policy", ("retry", "drop", "symmetric"))
def test_a_loss_for_good_is_said_before_anybody_wonders(policy: str) -> None:
    losing = base(ChocoGossip(gamma=0.3, compressor=TopK(k=2)), problem=PROBLEM | {"start_std": 1.0})
    losing["network"] = losing["network"] | {"policy": policy}
    assert "notes" not in go(losing).header
    record = go(losing, network__link__loss=0.1)
    assert ("notes" in record.header) == (policy != "retry")
    if policy != "retry":
        assert "differs from W Z for ever" in record.header["notes"][0] and policy in record.header["notes"][0]


def test_every_compressor_can_be_named() -> None:
    given: dict[str, dict[str, Any]] = {
        "top_k": {"k": 2}, "rand_k": {"k": 2}, "qsgd": {"levels": 7}, "qsgd_unbiased": {"levels": 7},
        "qsgd_elias": {"levels": 7}, "random_gossip": {"p": 0.5}, "drop_coord": {"p": 0.5},
    }  # fmt: skip
    for name in registry.shipped("compressors"):
        made = registry.find("compressors", name)(**given.get(name, {}))
        assert isinstance(made, Compressor) and 0 < (made.omega(4) or 1) <= 1


# ---- first points ---------------------------------------------------------------------------------------------------


def test_nodes_may_begin_apart() -> None:
    spread = {"name": "Quadratic", "dim": 200, "start_std": 0.5}
    apart = base(ChocoGossip(gamma=0.3), problem=spread, rounds=1, evaluate_every=1)
    batched, node_run = go(apart), go(apart, execution__node_run=True)
    np.testing.assert_allclose(batched.final["x"], node_run.final["x"], rtol=1e-13)
    still = go(base(ChocoGossip(gamma=1e-300), problem=spread, rounds=1, evaluate_every=1)).final["x"]
    assert np.std(still) == pytest.approx(0.5, rel=0.1)
    assert abs(np.corrcoef(still)[0, 1]) < 0.3
    np.testing.assert_allclose(batched.final["x"].mean(0), still.mean(0), atol=1e-15)
