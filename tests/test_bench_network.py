"""The network benchmark's own code: its workloads run, SimGrid is left out with a word, the table is the README's."""

from __future__ import annotations

import numpy as np
import pytest

from simnet.benches import network, training


def test_workloads_end_and_agree_across_models_that_agree() -> None:
    rng = np.random.default_rng(0)
    access = network.access(20, 4, 80, rng, True)._replace(bytes=np.full(80, 1e6))
    _, plain = network.run(access, "maxmin")
    np.testing.assert_allclose(plain, 4e6 / 1.25e7 + 0.01, rtol=1e-9)  # four flows on every link, all the time
    _, core = network.run(network.core(50, rng, routers=8, hosts=20), "lv08")
    assert np.isfinite(core).all()


def test_without_simgrid_there_is_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "python_with_simgrid", lambda: None)
    (row,) = network.beside_simgrid()
    assert "python3-simgrid" in row["skipped"]


def test_with_simgrid_finish_times_are_equal() -> None:
    python = network.python_with_simgrid()
    if python is None:
        pytest.skip("no SimGrid bindings (Debian: python3-simgrid)")
    rng = np.random.default_rng(3)
    work = network.access(25, 4, 100, rng, False)._replace(bytes=np.floor(rng.uniform(1e5, 1e6, 100)))
    for model in network.CONFIG:
        _, theirs = network.simgrid(python, work, 25, model, "Full")
        np.testing.assert_allclose(network.run(work, model)[1], theirs, rtol=1e-9)


def test_training_is_timed_beside_independent_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "GRAPHS", ("switch",))
    monkeypatch.setattr(training, "MODELS", ("maxmin",))
    (row,) = training.rows(nodes=8, rounds=1, repeats=1)
    assert row["tier"] == "events" and row["to_independent"] > 0
