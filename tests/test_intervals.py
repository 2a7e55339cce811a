"""Absences from files and by laws, from the scenario to the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet.errors import DataError, InputError, ScenarioError
from simnet.intervals import read_intervals
from simnet.prepare import prepare
from simnet.presence import Presence
from simnet.scenario import Scenario
from tests.programs import Gossips, base, go

FILE = """\
# who was away when
host,from_s,to_s
a,3,4      # lines of a host in any order
a,1,2.5

b, 0.5, never
"""


def scenario(absence: Any, graph: nx.Graph | None = None, **more: Any) -> dict[str, Any]:
    named = nx.relabel_nodes(nx.cycle_graph(4), dict(enumerate("abcd")))
    return base(Gossips(), network={"graph": graph or named}, nodes={"step": 0.4, "absence": absence}, **more)


def presence_of(absence: Any, **more: Any) -> Presence:
    return prepare(Scenario.of(scenario(absence, **more))).presence


def test_a_file_says_who_is_away_when(tmp_path: Path) -> None:
    file = tmp_path / "away.csv"
    file.write_text(FILE)
    presence = presence_of({"file": str(file)})
    assert [presence.back(0, t) for t in (0.9, 1.0, 2.6, 3.5, 9.0)] == [0.9, 2.5, 2.6, 4.0, 9.0]
    assert presence.left_s.tolist() == [np.inf, 0.5, np.inf, np.inf]
    file.write_text(FILE.replace("host,from_s,to_s\n", "").replace("b, 0.5, never", "b, 0.5, 5"))
    wrapped = presence_of({"file": str(file), "wrap": "6 s"})
    assert [wrapped.back(0, t) for t in (7.0, 9.0, 61.0, 62.5)] == [8.5, 10.0, 62.5, 62.5]
    assert wrapped.there(1, 0.0, 60.0) == pytest.approx(15.0)


def test_hosts_of_a_file_may_be_numbers_and_its_path_counts_from_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "away.csv").write_text("2,1,2\n")
    (tmp_path / "run.yaml").write_text(
        "network: {nodes: 4}\nnodes: {step: 10 ms, absence: {file: away.csv}}\n"
        "problem: Quadratic\nalgorithm: DPSGD\nrounds: 2\n"
    )
    assert prepare(Scenario.read(tmp_path / "run.yaml")).presence.back(2, 1.5) == 2.0


@pytest.mark.parametrize(
    "absence",
    (
        {"nodes": "all", "law": "weibull", "every": 1.5, "for": 0.5, "shape": 0.7, "shape_away": 2.0},
        {"nodes": ["a", "c"], "law": "diurnal", "period": 2.0, "share": 0.3},
        {"nodes": "all", "law": "diurnal", "period": 2.0, "share": 0.3, "phase": 1.5},
    ),
)
@pytest.mark.parametrize("model", ("independent", "maxmin"))
def test_tiers_and_node_runs_see_the_same_absences(absence: Any, model: str) -> None:
    made = scenario(absence, rounds=20)
    made["network"] = {**made["network"], "model": model}
    tiers = ["auto", "events", "processes"]
    records = [go({**made, "execution": {"tier": tier, "dtype": "float64"}}) for tier in tiers]
    for other in records[1:]:
        assert np.array_equal(other.rounds["sim_time_s"], records[0].rounds["sim_time_s"])
        assert other.nodes["away_s"].tolist() == records[0].nodes["away_s"].tolist()
    assert sum(records[0].nodes["away_s"]) > 1.0
    again = go({**made, "seed": 1, "execution": {"dtype": "float64"}})
    drawn = "phase" not in absence
    assert np.array_equal(again.rounds["sim_time_s"], records[0].rounds["sim_time_s"]) != drawn


BAD_FILES = [
    ("", r"away\.csv: has no interval"),
    ("# only\nhost,from_s,to_s\n", r"away\.csv: has no interval"),
    ("a,1\n", r"away\.csv:1: has 2 columns"),
    ("a,1,2\nhost,from_s,to_s\n", r"away\.csv:2: from_s = 'from_s' is no number"),
    ("a,x,2\n", r"away\.csv:1: from_s = 'x' is no number of seconds"),
    ("a,never,2\n", r"away\.csv:1: from_s = 'never' is no number"),
    ("a,-1,2\n", r"away\.csv:1: from_s = -1: needs at least 0 s"),
    ("a,nan,2\n", r"away\.csv:1: from_s = nan: needs at least 0 s"),
    ("\na,2,2\n", r"away\.csv:2: is from 2 s to 2 s: give an end after"),
    ("a,2,nan\n", r"away\.csv:1: is from 2 s to nan s: give an end after"),
    ("a,1,3\nb,1,2\na,2,4\n", r"away\.csv:3: host a is away from 2 s, and by another line until 3 s"),
    ("a,1,3\ne,1,3\n", r"away\.csv:2: there is no host 'e'; there are 4"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_file_that_is_none_is_refused_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "away.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        presence_of({"file": str(file)})


def test_what_is_no_text_and_no_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "away.csv"
    file.write_bytes(b"a,1,2\n\xff\xfe")
    with pytest.raises(DataError, match=r"away\.csv: is no text"):
        read_intervals(file)
    with pytest.raises(DataError, match=r"no data file at .*nobody\.csv"):
        presence_of({"file": "nobody.csv"})
    file.write_text("a,1,never\n")
    with pytest.raises(DataError, match=r"away\.csv:1: lasts until inf s, and `wrap` begins again at 10 s"):
        presence_of({"file": str(file), "wrap": 10})


BAD = [
    ({"nodes": "all", "law": "weibull", "every": 1, "for": 1}, "shape", "a law needs `shape`"),
    ({"nodes": "all", "law": "weibull", "every": 1, "for": 1, "shape": 0}, "shape", "at least 0.1"),
    ({"nodes": "all", "law": "poisson", "every": 1, "for": 1, "shape": 2}, "shape", "belongs to `law: weibull`"),
    ({"nodes": "all", "law": "diurnal"}, "share", "a law needs `share`"),
    ({"nodes": "all", "law": "diurnal", "share": 1.0}, "share", "must be below 1"),
    ({"nodes": "all", "law": "diurnal", "share": 0.5, "every": 3}, "every", "belongs to `law: poisson` or"),
    ({"nodes": "all", "law": "diurnal", "share": 0.5, "phase": "25 h"}, "phase", "within the first day"),
    ({"nodes": "all", "law": "diurnal", "share": 0.5, "period": float("inf")}, "period", "must be finite"),
    ({"nodes": "all", "file": "x.csv"}, "nodes", "a file names its hosts itself"),
    ({"law": "diurnal", "share": 0.5}, "nodes", "needs `nodes`"),
    ({"nodes": "all", "away": [[1, 2]], "wrap": 3}, "wrap", "belongs to `file`"),
    ({"nodes": "all", "away": [[1, 2]], "file": "x.csv"}, "", "needs either"),
]


@pytest.mark.parametrize(("absence", "field", "message"), BAD)
def test_a_law_that_is_none_is_refused_by_its_field(absence: Any, field: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        presence_of(absence)
    assert isinstance(caught.value, ScenarioError)
    assert caught.value.field == "nodes.absence" + (f".{field}" if field else "")


def test_a_host_has_one_law(tmp_path: Path) -> None:
    file = tmp_path / "away.csv"
    file.write_text("a,1,2\n")
    day = {"nodes": ["a"], "law": "diurnal", "share": 0.5}
    for both in ([{"file": str(file)}, day], [day, {"file": str(file), "wrap": 9}], [day, day]):
        with pytest.raises(ScenarioError, match=r"nodes\.absence\.1: host a has a law of absence and another entry"):
            presence_of(both)


def test_a_resolved_scenario_with_laws_and_files_reads_back(tmp_path: Path) -> None:
    absence = [{"nodes": ["a"], "law": "diurnal", "share": 0.5, "phase": "6 h"}, {"file": "x.csv", "wrap": "1 d"}]
    made = scenario(absence) | {"problem": "Quadratic", "algorithm": "DPSGD", "network": {"nodes": 4}}
    (tmp_path / "again.yaml").write_text(Scenario.of(made).dump())
    assert Scenario.read(tmp_path / "again.yaml") == Scenario.of(made)
    assert simnet.Scenario.of(made).nodes.absence[1].wrap == 86400.0
