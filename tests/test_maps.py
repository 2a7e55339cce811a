"""Maps and measurements of real networks: what is filled up, what is cleaned, and that the user is told."""

from __future__ import annotations

import math
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from simnet.cli import app
from simnet.errors import DataError, TopologyError
from simnet.models.topologies.geography import EARTH_RADIUS_M, great_circle_m
from simnet.models.topologies.maps import gml, graphml
from simnet.models.topologies.rtt import clean, rtt_matrix
from simnet.record import Record
from tests.shared import shared_dir

MAP = """graph [
  node [ id 5 label "a" Latitude 0 Longitude 0 ]
  node [ id 6 label "a" Latitude 0 Longitude 90 ]
  node [ id 7 label "b" ]
  node [ id 8 label "alone" ]
  edge [ source 5 target 6 LinkSpeedRaw 8000 ]
  edge [ source 5 target 6 LinkSpeedRaw 9000 ]
  edge [ source 6 target 7 LinkSpeedRaw 24000.0 latency 0.5 ]
  edge [ source 5 target 7 ]
  edge [ source 7 target 7 ]
]
"""


def test_a_map_is_filled_by_the_rules_said(tmp_path: Path) -> None:
    (tmp_path / "m.gml").write_text(MAP)
    graph = gml(path="m.gml", base_dir=tmp_path)
    assert [graph.nodes[v]["id"] for v in graph] == [5, 6, 7]
    assert {edge: data["bandwidth"] for *edge_, data in graph.edges(data=True) if (edge := tuple(edge_))} == {
        (0, 1): 1000.0, (1, 2): 3000.0, (0, 2): 2000.0,
    }  # fmt: skip
    quarter_s = EARTH_RADIUS_M * math.pi / 2 / 2e8
    assert graph.edges[0, 1]["latency"] == pytest.approx(quarter_s)
    assert graph.edges[1, 2]["latency"] == 0.5
    assert graph.edges[0, 2]["latency"] == pytest.approx(quarter_s / 2)  # it stands in the middle of the others
    assert graph.graph["read_notes"] == (
        "m.gml: 1 of 4 nodes are not joined to the largest component, and are left out",
        "m.gml: 1 of 5 links run beside another: the first between two nodes counts",
        "m.gml: 1 of 5 links lead from a node to itself, and are left out",
        "m.gml: 1 of 3 links say no speed: the median of the others counts",
        "m.gml: 1 of 3 nodes have no place: the middle of their neighbours counts",
    )
    bare = gml(path="m.gml", fill=False, base_dir=tmp_path)
    assert "bandwidth" not in bare.edges[0, 2] and "latency" not in bare.edges[0, 1]


def test_a_node_beside_one_neighbour_alone_stands_where_that_one_stands(tmp_path: Path) -> None:
    nodes = "node [ id 1 Latitude 52.35 Longitude 4.91667 ] node [ id 2 ]"
    (tmp_path / "m.gml").write_text(f"graph [ {nodes} edge [ source 1 target 2 ] ]")
    assert gml(path="m.gml", base_dir=tmp_path).edges[0, 1]["latency"] == 0.0  # and no rounding error besides


def test_a_map_that_says_nothing_leaves_links_to_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "m.gml").write_text("graph [ node [ id 0 ] node [ id 1 ] edge [ source 0 target 1 ] ]")
    graph = gml(path="m.gml", base_dir=tmp_path)
    assert graph.edges[0, 1] == {}
    assert [note.partition(": ")[2] for note in graph.graph["read_notes"]] == [
        "none of 1 links says its speed: network.link.bandwidth counts",
        "1 of 1 links have ends without a place: network.link.latency counts",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("LinkSpeedRaw 8000", 'LinkSpeedRaw "fast"', "LinkSpeedRaw = 'fast' is no number"),
        ("LinkSpeedRaw 8000", "LinkSpeedRaw 0", "bandwidth = 0: must be above 0"),
        ("Latitude 0 Longitude 90", "Latitude 95 Longitude 90", "there is no place at 95, 90"),
    ],
)
def test_a_map_with_numbers_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "m.gml").write_text(MAP.replace(old, new, 1))
    with pytest.raises(DataError, match=said):
        gml(path="m.gml", base_dir=tmp_path)


@given(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), st.tuples(st.floats(-90, 90), st.floats(-180, 180)))
def test_great_circles_are_symmetric_and_no_longer_than_half_the_earth(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    assert great_circle_m(a, b) == pytest.approx(great_circle_m(b, a), abs=1e-6)
    assert 0 <= great_circle_m(a, b) <= EARTH_RADIUS_M * math.pi
    assert great_circle_m(a, a) == 0


def test_new_york_to_london_is_as_far_as_atlases_say() -> None:
    assert great_circle_m((40.7128, -74.0060), (51.5074, -0.1278)) == pytest.approx(5.570e6, rel=2e-3)


def test_every_zoo_map_gets_a_latency_for_every_link() -> None:
    files = [
        file for file in sorted((shared_dir() / "data/topology_zoo").iterdir()) if file.suffix in (".gml", ".graphml")
    ]
    assert len(files) == 31
    for file in files:
        graph = (gml if file.suffix == ".gml" else graphml)(path=str(file))
        latencies = [latency for _, _, latency in graph.edges(data="latency")]
        assert all(0 <= latency < 0.1 for latency in latencies), file.name  # half round the earth takes 0.1 s
        speeds = [speed for _, _, speed in graph.edges(data="bandwidth")]
        assert None not in speeds or set(speeds) == {None}, file.name


def test_a_run_tells_what_was_filled_up(tmp_path: Path) -> None:
    (tmp_path / "m.gml").write_text(MAP)
    (tmp_path / "s.yaml").write_text(
        "network: {graph: {name: gml, path: m.gml}}\nnodes: {compute: 1 GFLOP/s}\n"
        "problem: {name: Softmax, data: digits, batch: 8}\nalgorithm: {name: DPSGD, eta: 0.1}\nrounds: 2\n"
    )
    for command in (["validate"], ["run", "--out", str(tmp_path / "r")]):
        said = CliRunner().invoke(app, [*command, str(tmp_path / "s.yaml")])
        assert said.exit_code == 0, said.output
        assert "m.gml: 1 of 3 links say no speed: the median of the others counts" in said.output
    header = Record.load(tmp_path / "r").header
    assert header["notes"][0] == "m.gml: 1 of 4 nodes are not joined to the largest component, and are left out"
    assert header["nodes"] == 3


# ---- round-trip times -----------------------------------------------------------------------------------------------


def test_a_matrix_is_cleaned_and_says_how_many_of_each(tmp_path: Path) -> None:
    (tmp_path / "rtt.csv").write_text("0.1,10,-1,-2\n20,0,30,8\n40,30,0,nan\n-3,8,,0\n")
    graph = rtt_matrix(path="rtt.csv", base_dir=tmp_path)
    half_ms = {edge: 1e3 * latency for *edge, latency in graph.edges(data="latency") for edge in [tuple(edge)]}
    # 0-1: mean of 10 and 20; 0-2: 40 alone; 0-3 and 2-3: the median of 10, 20, 30, 8, 40, 30, 8
    assert half_ms == pytest.approx({(0, 1): 7.5, (0, 2): 20, (0, 3): 10, (1, 2): 15, (1, 3): 4, (2, 3): 10})
    assert graph.graph["read_notes"] == (
        "rtt.csv: 3 negative round-trip times: those of the other direction count",
        "rtt.csv: 2 missing round-trip times: those of the other direction count",
        "rtt.csv: 2 pairs that neither direction measured: the median of all counts",
        "rtt.csv: 1 pairs whose directions differ: their mean counts",
        "rtt.csv: 1 entries of the diagonal that are not 0: left out",
    )
    part = rtt_matrix(2, path="rtt.csv", unit="s", base_dir=tmp_path)
    assert list(part.edges(data="latency")) == [(0, 1, 7.5)]
    assert part.graph["read_notes"][0] == "rtt.csv: the first 2 of 4 rows and columns are taken"


@given(st.integers(2, 6), st.integers(0, 2**32))
def test_a_cleaned_matrix_is_symmetric_and_a_clean_one_stays(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    measured = rng.uniform(-1, 10, (n, n))
    measured[rng.random((n, n)) < 0.2] = np.nan
    measured[0, 1] = 5.0
    rtt, _ = clean(measured)
    assert (rtt == rtt.T).all() and (rtt >= 0).all() and not np.diagonal(rtt).any()
    again, notes = clean(rtt)
    assert (again == rtt).all() and not notes


def test_the_real_matrix_is_cleaned() -> None:
    graph = rtt_matrix(path=str(shared_dir() / "data/wan_rtt/wonder227_rtt_ms.csv"))
    assert len(graph) == 227 and graph.number_of_edges() == 227 * 226 // 2
    latencies = [latency for _, _, latency in graph.edges(data="latency")]
    assert 0.030 < np.median(latencies) < 0.037 and min(latencies) >= 0  # the median round trip is 67 ms
    said = [note.partition(": ")[2].partition(" ")[0] for note in graph.graph["read_notes"]]
    assert said == ["51", "2", "25543", "227"]
    assert nx.density(graph) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2\n3\n", "line 2: 1 numbers"),
        ("1,2\n", "1 lines of 2 numbers are no square matrix"),
        ("", "no square matrix"),
        ("0,x\n1,0\n", "line 1: 'x' is no number"),
        ("0,inf\n1,0\n", "line 1: a time without end"),
        ("0,-1\n-1,0\n", "no pair of the matrix has a round-trip time"),
    ],
)
def test_what_is_no_matrix_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        rtt_matrix(path="m.csv", base_dir=tmp_path)


def test_more_nodes_than_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("0,1\n1,0\n")
    with pytest.raises(TopologyError, match="has 2 rows, and 3 nodes"):
        rtt_matrix(3, path="m.csv", base_dir=tmp_path)
