"""Shipped scenarios print what lies beside them, show what their comments say, and agree on every executor.

Beside `name.yaml` lies `name.out`: one or more commands after `$`, each with the text it must print, up to the line
that begins with `host:`. Words must be equal. Numbers may differ by 1 % or one unit of the last digit printed, for a
sum of floats ends differently on another processor; where a target was reached, by 10 %, since there one evaluation
more or less decides.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import simnet
from simnet.cli import app
from simnet.errors import Outcome
from simnet.registry import shipped_scenarios
from tests.shared import ROOT

FOLDER = ROOT / "scenarios"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ESTIMATED = {"seven_billion_parameters"}  # too large to run
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w.])")


def printed(command: str) -> str:
    """What a command prints, without what depends on the machine."""
    words = shlex.split(command)
    assert words[:2] in (["simnet", "run"], ["simnet", "estimate"]), command
    said = CliRunner().invoke(app, [*words[1:], *(["--no-plots"] if words[1] == "run" else [])])
    assert said.exit_code == 0, said.output
    return said.stdout.partition("\nhost:")[0].rstrip()


def expected(name: str) -> dict[str, str]:
    """Command -> text, from the file beside a scenario."""
    parts = re.split(r"^\$ (.+)\n", (FOLDER / f"{name}.out").read_text(encoding="utf-8"), flags=re.M)
    assert not parts[0]
    return {command: text.strip() for command, text in zip(parts[1::2], parts[2::2], strict=True)}


def assert_same_text(now: str, then: str) -> None:
    assert [NUMBER.sub("#", line).split() for line in now.splitlines()] == [
        NUMBER.sub("#", line).split() for line in then.splitlines()
    ], f"other words:\n{now}\n-- in place of --\n{then}"
    for here, there in zip(now.splitlines(), then.splitlines(), strict=True):
        part = 0.1 if ">=" in here or "<=" in here else 0.01
        for a, b in zip(NUMBER.findall(here), NUMBER.findall(there), strict=True):
            x, y = float(a.replace(",", "")), float(b.replace(",", ""))
            decimals = len(b.partition("e")[0].partition(".")[2])
            last = 10.0**-decimals * (10.0 ** int(b.partition("e")[2]) if "e" in b else 1.0)
            assert abs(x - y) <= max(part * abs(y), 1.01 * last), f"{a} in place of {b}:\n{here}\n{there}"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_prints_what_lies_beside_it(name: str) -> None:
    for command, text in expected(name).items():
        assert_same_text(printed(command), text)


@pytest.mark.parametrize("name", NAMES)
def test_begins_with_what_it_teaches_and_runs_under_its_own_name(name: str) -> None:
    first = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and first.endswith(".") and len(first) > 30
    assert name in shipped_scenarios()
    assert next(iter(expected(name))) == f"simnet {'estimate' if name in ESTIMATED else 'run'} {name}"


@pytest.mark.parametrize("name", sorted({*NAMES} - ESTIMATED))
def test_executors_and_the_node_run_agree(name: str) -> None:
    short = {"rounds": 6, "evaluate_every": 6, "execution.dtype": "float64"}
    batched = simnet.run(name, set=short)
    for other in ({"execution.executor": "one_by_one"}, {"execution.node_run": True}):
        again = simnet.run(name, set={**short, **other})
        np.testing.assert_allclose(again.final["x"], batched.final["x"], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(again.rounds["sim_time_s"], batched.rounds["sim_time_s"], rtol=1e-9)
        assert again.summary["wire_bytes"] == batched.summary["wire_bytes"]


# ---- what the comments say ----------------------------------------------------------------------------------------


def test_loss_costs_bytes_and_time_and_no_rounds() -> None:
    lossy = simnet.run("digits_on_a_lossy_ring")
    clean = simnet.run("digits_on_a_lossy_ring", set={"network.link.loss": 0})
    np.testing.assert_array_equal(lossy.rounds["objective"], clean.rounds["objective"])
    assert lossy.summary["sim_time_s"] > 1.5 * clean.summary["sim_time_s"]
    again = lossy.summary["bytes_by_kind"]["retransmitted"]
    assert again == pytest.approx(0.1 * lossy.summary["wire_bytes"], rel=0.05)


def test_the_exponential_graph_is_ahead_at_equal_bytes_under_label_skew_and_the_ring_where_data_are_equal() -> None:
    ring, exponential = simnet.run("ring_at_equal_bytes"), simnet.run("exponential_at_equal_bytes")
    assert exponential.summary["wire_bytes"] == pytest.approx(ring.summary["wire_bytes"], rel=0.01)
    assert ring.header["spectral_gap"] == pytest.approx(0.0507, rel=0.01)
    assert exponential.header["spectral_gap"] == pytest.approx(0.4, rel=0.01)
    assert ring.summary["accuracy"] < 0.6 < 0.9 < exponential.summary["accuracy"]
    equal = {"problem.split": "iid"}
    ring, exponential = simnet.run("ring_at_equal_bytes", equal), simnet.run("exponential_at_equal_bytes", equal)
    assert ring.summary["objective"] < exponential.summary["objective"]


def test_gradient_tracking_cures_label_skew_and_is_exact_only_without_loss() -> None:
    plain, tracking = simnet.run("dpsgd_under_label_skew"), simnet.run("gradient_tracking_under_label_skew")
    assert plain.summary["accuracy"] < 0.6 < 0.94 < tracking.summary["accuracy"]
    assert plain.summary["accuracy_mean_model"] > 0.9
    assert tracking.summary["tracker_residual"] < 1e-6
    losing = {"network.policy": "drop", "network.link.loss": 0.05}
    assert simnet.run("gradient_tracking_under_label_skew", losing).summary["tracker_residual"] > 1e-3


def test_gossip_is_first_at_a_millisecond_and_the_server_at_fifty() -> None:
    seconds = {}
    for latency in ("1 ms", "50 ms"):
        for name in ("gossip", "parameter_server"):
            record = simnet.run(f"{name}_as_latency_grows", set={"network.link.latency": latency})
            seconds[name, latency] = record.summary["targets"]["accuracy"]["sim_time_s"]
    assert seconds["gossip", "1 ms"] < seconds["parameter_server", "1 ms"]
    assert seconds["gossip", "50 ms"] > seconds["parameter_server", "50 ms"]


def test_the_ring_is_first_at_a_millisecond_and_the_server_at_fifty() -> None:
    seconds, models = {}, []
    for latency in ("1 ms", "50 ms"):
        for pattern in ("server", "ring", "tree", "hierarchical"):
            dotted = {"network.link.latency": latency, "collective.pattern": pattern, "rounds": 5}
            record = simnet.run("all_reduce_by_pattern", set=dotted)
            seconds[pattern, latency] = record.summary["sim_time_s"]
            models.append(record.final["x"])
    for model in models:
        np.testing.assert_array_equal(model, models[0])
    order = [sorted(("server", "ring", "tree", "hierarchical"), key=lambda p: seconds[p, latency])
             for latency in ("1 ms", "50 ms")]  # fmt: skip
    assert order[0][0] == "ring" and order[0][-1] == "server"
    assert order[1][0] == "server" and order[1][-1] == "ring"


def slowest_branch_s(n: int, latency_s: float, one_s: float) -> float:
    """Up a binary tree, a hop at a time, and down it, each parent serving one child after the other."""
    up_s, down_s = np.zeros(n), np.zeros(n)
    for i in range(n - 1, 0, -1):
        up_s[(i - 1) // 2] = max(up_s[(i - 1) // 2], up_s[i] + latency_s + one_s)
    for i in range(1, n):
        down_s[i] = down_s[(i - 1) // 2] + latency_s + (1 if i % 2 else 2) * one_s
    return float(up_s[0] + down_s.max())


@pytest.mark.parametrize("latency_s", [0.001, 0.05])
@pytest.mark.parametrize(("nodes", "groups"), [(16, 4), (64, 8)])
def test_an_all_reduce_takes_what_its_closed_form_says(nodes: int, groups: int, latency_s: float) -> None:
    """The table of the README. Parts of a vector are whole bytes."""
    numbers, bandwidth = 64 * 32 + 32 + 32 * 10 + 10, 10e6 / 8
    one_s, members = 4 * numbers / bandwidth, nodes // groups

    def ring_s(hosts: int) -> float:
        return 2 * (hosts - 1) * (latency_s + np.ceil(4 * numbers / hosts) / bandwidth)

    expected_s = {
        "server": 2 * latency_s + nodes * one_s,
        "ring": ring_s(nodes),
        "tree": slowest_branch_s(nodes, latency_s, one_s),
        "hierarchical": 2 * latency_s + members * one_s + ring_s(groups),
    }
    for pattern, seconds in expected_s.items():
        values = {"network.nodes": nodes, "network.link.latency": latency_s, "collective.pattern": pattern}
        end = simnet.estimate("all_reduce_by_pattern", {**values, "rounds": 1}).summary
        assert end["sim_time_s"] - end["compute_s"] / nodes == pytest.approx(seconds, rel=1e-12), pattern


def test_who_waits_for_nobody_learns_sooner_among_stragglers_and_sends_more() -> None:
    waits, meets = simnet.run("stragglers"), simnet.run("stragglers", {"algorithm.name": "ADPSGD"})
    assert waits.summary["sim_time_s"] == meets.summary["sim_time_s"] == 3.0
    slow = np.isin(np.arange(16), [3, 11])
    assert waits.nodes["reports"].max() < 1.1 * waits.nodes["reports"].min()
    assert meets.nodes["reports"][~slow].min() > 3 * meets.nodes["reports"][slow].max()
    assert waits.nodes["idle_s"][~slow].mean() > 2.0 and meets.nodes["idle_s"].max() == 0
    late, soon = (r.summary["targets"]["accuracy"] for r in (waits, meets))
    assert late["sim_time_s"] > 3 * soon["sim_time_s"]
    assert late["wire_bytes"] < soon["wire_bytes"]


def test_overlap_hides_the_shorter_of_gradient_and_message() -> None:
    for latency, hidden_s in (("2 ms", 0.002 + 2 * 2600 / 1.25e6), ("20 ms", 0.010)):
        values = {"network.link.latency": latency, "rounds": 100}
        on = simnet.estimate("overlap_on_and_off", values).summary
        off = simnet.estimate("overlap_on_and_off", {**values, "algorithm.name": "DPSGD"}).summary
        assert off["sim_time_s"] - on["sim_time_s"] == pytest.approx(100 * hidden_s, rel=0.02)
        assert off["wire_bytes"] == on["wire_bytes"]
    on, off = simnet.run("overlap_on_and_off"), simnet.run("overlap_on_and_off", {"algorithm.name": "DPSGD"})
    assert on.summary["exposed_comm_s"] == 0
    assert off.summary["exposed_comm_s"] > 0.3 * 16 * off.summary["sim_time_s"]
    late, soon = (r.summary["targets"]["accuracy"] for r in (off, on))
    assert late["round"] < soon["round"] and late["sim_time_s"] > soon["sim_time_s"]


def test_relayed_sums_agree_on_a_chain_where_gossip_does_not() -> None:
    relay, gossip = simnet.run("relay_on_a_chain"), simnet.run("relay_on_a_chain", {"algorithm.name": "DPSGD"})
    assert gossip.header["spectral_gap"] == pytest.approx(0.0128, rel=0.01)
    assert relay.summary["wire_bytes"] * 650 == gossip.summary["wire_bytes"] * 651
    assert relay.summary["consensus_distance"] < 1e-3 and gossip.summary["consensus_distance"] > 1
    assert gossip.summary["accuracy"] < 0.6 < 0.9 < relay.summary["accuracy"]
    assert gossip.summary["node_objective_mean"] < 0.3 * gossip.summary["objective"]


def test_running_sums_repair_what_push_sum_loses_for_ever() -> None:
    sums, whole = simnet.run("push_sum_under_loss"), simnet.run("push_sum_under_loss", {"network.link.loss": 0})
    assert sums.summary["lost_messages"] == pytest.approx(0.3 * sums.summary["messages"], rel=0.05)
    assert sums.summary["accuracy"] == pytest.approx(whole.summary["accuracy"], abs=0.02)
    plain = simnet.run("push_sum_under_loss", {"algorithm.running_sums": False, "evaluate_every": 1})
    assert plain.ended is Outcome.DIVERGED
    assert plain.summary["rounds"] < 60
    assert plain.rounds["objective"][19] > plain.rounds["objective"][0]


def test_zo_nodes_take_part_and_make_everybody_wait() -> None:
    hybrid, gradients = simnet.run("hybrid_of_fo_and_zo"), simnet.run("hybrid_of_fo_and_zo", {"nodes.groups": []})
    assert hybrid.summary["accuracy_mean_model"] == pytest.approx(gradients.summary["accuracy_mean_model"], abs=0.01)
    assert hybrid.summary["consensus_distance"] > 3 * gradients.summary["consensus_distance"]
    compute = hybrid.nodes["compute_s"]
    is_zo = hybrid.nodes["oracle"] == "zo"
    assert compute[is_zo].min() > 5 * compute[~is_zo].max()
    assert hybrid.summary["sim_time_s"] > 1.5 * gradients.summary["sim_time_s"]


def test_networks_change_the_time_of_one_training_and_not_its_rounds() -> None:
    order = [
        simnet.run("gossip_by_network", {"network.graph": g}) for g in ("switch", "dumbbell", "abilene", "fat_tree")
    ]
    for record in order[1:]:
        np.testing.assert_array_equal(record.rounds["objective"], order[0].rounds["objective"])
    seconds = [record.summary["targets"]["accuracy"]["sim_time_s"] for record in order]
    assert seconds == sorted(seconds) and seconds[-1] > 2 * seconds[0]  # six links' latency instead of two, 13 times
    graphs = [{"network.graph": g, "network.model": "maxmin", "rounds": 20} for g in ("fat_tree", "dumbbell")]
    spread, narrow = (simnet.estimate("gossip_by_network", values).summary["sim_time_s"] for values in graphs)
    assert spread < 0.7 * narrow  # its ways are spread over all core switches


def test_a_deadline_costs_rounds_and_saves_hours_where_nodes_are_away_at_night() -> None:
    with_it = simnet.run("away_at_night").summary["targets"]["accuracy"]
    without = simnet.run("away_at_night", {"algorithm.deadline_s": None}).summary["targets"]["accuracy"]
    assert without["round"] < with_it["round"]
    assert without["sim_time_s"] > 5 * with_it["sim_time_s"]


def test_traffic_of_others_costs_time_and_nothing_else() -> None:
    loads = ({"network.background": []}, {}, {"network.background.0.load": "9 Mbit/s"})
    made = [simnet.run("background_traffic", each) for each in loads]
    for other in made[1:]:
        np.testing.assert_array_equal(other.rounds["objective"], made[0].rounds["objective"])
        assert other.summary["wire_bytes"] == made[0].summary["wire_bytes"]
    times = [record.summary["targets"]["accuracy"]["sim_time_s"] for record in made]
    assert 1.3 * times[0] < times[1] < 1.5 * times[0] and times[2] > 2.5 * times[0]


def test_where_nodes_sit_costs_time_and_bytes_and_no_rounds() -> None:
    tour = {"given": [0, 1, 10, 7, 6, 3, 4, 5, 8, 9, 2]}
    made = [simnet.run("placement_on_abilene", {"network.placement": rule}) for rule in (tour, "nearest", "random")]
    for other in made[1:]:
        np.testing.assert_allclose(other.rounds["objective"], made[0].rounds["objective"], rtol=1e-6)
    for column in ("sim_time_s", "wire_bytes"):
        assert made[0].summary[column] < made[1].summary[column] < made[2].summary[column]
    assert (made[0].links["messages"].max(), made[0].links["messages"].sum()) == (100, 2200)  # each crosses one link


def test_a_bottleneck_is_for_who_crosses_it_seldom_and_open_links_for_who_seldom_waits() -> None:
    def seconds(**values: str) -> float:
        dotted = {key.replace("__", "."): value for key, value in values.items()}
        record = simnet.run("all_reduce_and_gossip_through_a_bottleneck", dotted)
        return float(record.summary["targets"]["accuracy"]["sim_time_s"])

    ring = {"algorithm__name": "DPSGD", "topology": "ring"}
    assert 5 * seconds() < seconds(algorithm__name="DPSGD")
    assert seconds() < seconds(**ring) < 2 * seconds()
    wide = {"network__graph__bottleneck": "100 Mbit/s"}
    assert 1.8 * seconds(**ring, **wide) < seconds(**wide)


def test_windows_make_loss_dear_and_bbr_does_not_mind() -> None:
    clean, bbr = ({"network.link.loss": 0}, {"network.tcp.control": "bbr"})
    end = [simnet.estimate("loss_under_tcp", values, full=True).summary for values in ({}, clean, bbr)]
    assert end[0]["sim_time_s"] > 1.5 * end[1]["sim_time_s"] > 1.45 * end[2]["sim_time_s"]
    assert 0 < end[0]["bytes_by_kind"]["retransmitted"] < 0.02 * end[0]["wire_bytes"]


def test_a_scaling_takes_fewer_rounds_and_bytes_where_features_are_badly_scaled() -> None:
    def reached(**values: Any) -> dict[str, float]:
        record = simnet.run("savic_by_rounds_and_bytes", {f"algorithm.{name}": v for name, v in values.items()})
        return record.summary["targets"]["accuracy"]

    scaled, plain = reached(), reached(scaling="identity", eta=0.3)
    assert 4 * scaled["round"] < plain["round"] and 3 * scaled["wire_bytes"] < plain["wire_bytes"]


def test_steps_by_speed_make_more_rounds_in_less_time() -> None:
    by_speed, equal = (simnet.run("stragglers_by_speed", values) for values in ({}, {"algorithm.H": 10}))
    assert by_speed.summary["rounds"] > 2 * equal.summary["rounds"]
    one, other = (record.summary["targets"]["accuracy"] for record in (by_speed, equal))
    assert one["sim_time_s"] < 0.7 * other["sim_time_s"] and one["wire_bytes"] > other["wire_bytes"]


def test_rounds_that_optex_saves_are_worth_time_where_the_port_is_wide() -> None:
    def reached(**values: Any) -> tuple[int, float]:
        dotted = {key.replace("__", "."): value for key, value in values.items()}
        found = simnet.run("optex_by_port", dotted).summary["targets"]["objective"]
        return found["round"], found["sim_time_s"]

    plain, zero = reached(algorithm__mode="vanilla"), reached(algorithm__mode="zero")
    alone_s = plain[0] * 0.0129434
    for n, rounds in ((4, 45), (8, 28)):
        assert reached(algorithm__N=n) == (pytest.approx(rounds, abs=1), pytest.approx(0.4 * alone_s, rel=0.15))
        assert reached(algorithm__N=n, network__link__bandwidth="20 Mbit/s")[1] == pytest.approx(alone_s, rel=0.1)
        assert reached(algorithm__N=n, network__link__bandwidth="5 Mbit/s")[1] > 2.5 * alone_s
    assert zero[0] == pytest.approx(plain[0], rel=0.05) and zero[1] > plain[1]
    assert reached(algorithm__mode="last_grad")[0] == pytest.approx(56, abs=1)


def test_guessing_nothing_beats_optex_on_ackley_and_nowhere_else() -> None:
    def rounds(mode: str, **values: Any) -> int:
        dotted = {key.replace("__", "."): value for key, value in values.items()} | {"algorithm.mode": mode}
        found: int = simnet.run("guessing_nothing_beats_optex", dotted).summary["targets"]["objective"]["round"]
        return found

    assert rounds("target") < rounds("zero") < rounds("optex") < rounds("vanilla")
    other = {
        "problem__name": "Rosenbrock",
        "problem__start": 1,
        "algorithm__step__eta": 0.02,
        "target__objective": 1.65,
    }
    assert 2 * rounds("optex", **other) < rounds("zero", **other)


def test_a_deadline_leaves_a_late_worker_of_optex_behind() -> None:
    hurries, waits = (simnet.run("optex_with_a_late_worker", {"algorithm.deadline_s": s}) for s in ("30 ms", None))
    assert 9 * hurries.summary["sim_time_s"] < waits.summary["sim_time_s"]
    assert hurries.summary["rounds"] < 1.4 * waits.summary["rounds"]
    assert hurries.nodes["compute_s"][3] == pytest.approx(4 * 0.258867, rel=1e-3)


def test_one_message_of_vectors_takes_fewer_bytes_and_gossip_rounds_than_loops_and_matrices() -> None:
    def reached(**values: Any) -> tuple[int, int]:
        record = simnet.run(
            "bilevel_bytes_to_a_tolerance", set={name.replace("__", "."): v for name, v in values.items()}
        )
        found = record.summary["targets"]["stationarity_gap"]
        return found["wire_bytes"], found["gossip_rounds"]

    loops = {"rounds": 30, "evaluate_every": 2}
    here = reached(rounds=100)
    vectors = reached(algorithm={"name": "MADSBO", "Ty": 5, "N": 10}, **loops)
    matrices = reached(algorithm={"name": "DSBO", "Ty": 5, "N": 10}, **loops)
    assert here[1] < 0.5 * vectors[1] and here[1] < 0.5 * matrices[1]
    assert 0.7 * vectors[0] < here[0] < vectors[0] and here[0] < 0.25 * matrices[0]


def test_lost_messages_show_in_the_tracker_residual_and_nowhere_else() -> None:
    lost, again = (simnet.run("bilevel_with_lost_messages", set={"network.policy": p}) for p in ("drop", "retry"))
    assert lost.rounds["tracker_residual"][-1] > 0.01 > 1e-10 > again.rounds["tracker_residual"][-1]
    assert lost.rounds["stationarity_gap"][-1] > 1e5 * again.rounds["stationarity_gap"][-1]
    assert lost.rounds["consensus_distance"][-1] < 1e-15


def test_a_nodes_own_hessian_misjudges_labels() -> None:
    section = {"name": "MDBO", "ex": 200, "ey": 0.2, "c": 0.5, "J": 20}
    found, local = (simnet.run("hyper_cleaning", set=values).rounds["label_auc"][-1]
                    for values in ({}, {"algorithm": section, "rounds": 400}))  # fmt: skip
    assert found > 0.98 and local < 0.93
