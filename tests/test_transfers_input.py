"""What `simnet transfers` reads besides our own platforms and SimGrid's: maps and matrices; and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simnet
from simnet.errors import DataError, InputError, ScenarioError, TopologyError
from simnet.network.flows.transfers import TransferTimes
from tests.shared import shared_dir

MAP = """graph [
  node [ id 5 label "Ulm" Latitude 0 Longitude 0 ]
  node [ id 6 label "twin" Latitude 0 Longitude 1 ]
  node [ id 7 label "twin" Latitude 0 Longitude 2 ]
  edge [ source 5 target 6 LinkSpeedRaw 8000000 ]
  edge [ source 6 target 7 LinkSpeedRaw 16000000 ]
]
"""
HEAD = "flows: [{from: Ulm, to: 2, bytes: 1 MB}, {from: 2, to: 1, bytes: 2 MB}]\n"


def run(folder: Path, text: str, model: str = "maxmin") -> TransferTimes:
    (folder / "net.yaml").write_text(text)
    return simnet.transfer_times(folder / "net.yaml", model)


# ---- maps and matrices ----------------------------------------------------------------------------------------------


@pytest.fixture
def with_map(tmp_path: Path) -> Path:
    (tmp_path / "m.gml").write_text(MAP)
    return tmp_path


def test_a_map_s_nodes_are_hosts_by_label_or_number(with_map: Path) -> None:
    made = run(with_map, "platform: m.gml\n" + HEAD)
    assert made.case.hosts == ("Ulm", "1", "2")
    assert [made.case.links.names[k] for k in made.case.routes[0, 2]] == ["Ulm->1", "1->2"]
    latency = 6_371_008.8 * np.radians(1) / 2e8
    np.testing.assert_allclose(made.finish_s, [1 + 2 * latency, 1 + latency], rtol=1e-12)


def test_every_host_of_a_map_may_have_ports_and_links_what_the_map_leaves_open(with_map: Path) -> None:
    (with_map / "m.gml").write_text(MAP.replace(" LinkSpeedRaw 8000000", "").replace(" LinkSpeedRaw 16000000", ""))
    more = "link: {bandwidth: 4 MB/s, loss: 1 %}\nhost: {down: 1 MB/s}\n"
    made = run(with_map, "platform: m.gml\n" + more + HEAD)
    assert made.bottleneck(0) == "2 down"
    assert made.ignored_loss == ["Ulm->1", "1->2", "2->1"]
    assert "none of 2 links says its speed: link.bandwidth counts" in made.case.notes[0]


def test_a_matrix_joins_every_pair_by_a_link_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "rtt.csv").write_text("0,10,1000\n10,0,10\n-1,10,0\n")
    flows = "flows: [{from: 0, to: 2, bytes: 1 MB}, {from: 1, to: 2, bytes: 1 MB}]\n"
    made = run(tmp_path, "platform: rtt.csv\nlink: {bandwidth: 1 MB/s}\n" + flows)
    np.testing.assert_allclose(made.finish_s, [1.5, 1.005], rtol=1e-12)  # not by host 1, though that were quicker
    assert made.case.notes == ("rtt.csv: 1 negative round-trip times: those of the other direction count",)


def test_every_shared_map_and_the_matrix_serve() -> None:
    folder = shared_dir() / "data"
    files = [*sorted((folder / "topology_zoo").glob("*.g*ml")), folder / "wan_rtt" / "wonder227_rtt_ms.csv"]
    assert len(files) == 32
    for file in files:
        case = {
            "platform": str(file), "link": {"bandwidth": "1 Gbit/s"},
            "flows": [{"from": 0, "to": 1, "bytes": "1 MB"}, {"from": 3, "to": 2, "bytes": "1 MB"}],
        }  # fmt: skip
        for model in ("tcp", "lv08"):
            assert np.isfinite(simnet.transfer_times(case, model).finish_s).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("platform: m.gml\nflows: [{from: Ulmm, to: 1, bytes: 1 MB}]", "3:16 flows.0.from: there is no host 'Ulmm' in"),
        ("platform: m.gml\nflows: [{from: 0, to: 3, bytes: 1 MB}]", "a number from 0 to 2 serves"),
        ("platform: m.gml\nflows: [{from: 0, to: twin, bytes: 1 MB}]", "there is no host 'twin'"),
        ("platform: m.txt\nflows: []", "must be a SimGrid platform (.xml), a map (.gml, .graphml) or a matrix"),
        ("platform: n.gml\nflows: []", "no data file at"),
        ("platform: m.gml\nhosts: {a: {}}\nflows: []", "2:1 hosts: stands beside `platform`"),
        ("platform: m.gml\nlink: {loss: 1}\nflows: []", "2:14 link.loss: must be below 1"),
        ("platform: p.xml\nlink: {loss: 0}\nflows: []", "2:1 link: is for maps"),
    ],
)
def test_what_no_map_can_be_is_refused(with_map: Path, text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        run(with_map, text.replace("flows: [{from: Ulmm", "\nflows: [{from: Ulmm"))
    assert said in str(raised.value)


def test_a_map_that_says_no_speed_needs_one(with_map: Path) -> None:
    (with_map / "m.gml").write_text(MAP.replace("LinkSpeedRaw", "speed"))
    with pytest.raises(ScenarioError, match=r"says no bandwidth of Ulm - 1: give `link: \{bandwidth: 1 Gbit/s\}`"):
        run(with_map, "platform: m.gml\n" + HEAD)


@pytest.mark.parametrize(("name", "said"), [("m.gml", "a map"), ("r.csv", "a matrix"), ("p.xml", "a SimGrid platform")])
def test_a_network_alone_says_nothing_of_flows(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=f"{name}: {said}.* says nothing of flows: name it in a YAML file, `platform:"):
        simnet.transfer_times(tmp_path / name)


# ---- platforms ------------------------------------------------------------------------------------------------------

PLATFORM = """\
hosts: {a: {}, b: {}, c: {}}
links:
  - {between: [a, b], bandwidth: 1 MB/s}
  - {between: [b, c], bandwidth: 1 MB/s}
flows:
  - {from: a, to: c, bytes: 1 MB}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{a: {}, b: {}, c: {}}", "[a, b, c]", "net.yaml:1:8 hosts: must be a mapping, which may give"),
        ("[a, b]", "[a, a]", "net.yaml:3:15 links.0.between: joins a node to itself"),
        ("1 MB/s}", "1 MB/s, loss: 100 %}", "net.yaml:3:48 links.0.loss: must be below 1"),
        ("1 MB/s}", "1 MB/s, burst: {to_bad: 0.1, to_good: 0}}", "links.0.burst: loses every packet in its bad state"),
        ("bandwidth: 1 MB/s", "trace: upp.csv", "upp.csv: there is no such file; did you mean 'up"),
        ("  - {between: [b, c], bandwidth: 1 MB/s}\n", "", "net.yaml:5:5 flows.0: no route leads from host a"),
        ("1 MB}", "1 MB, after: [3]}", "net.yaml:6:42 flows.0.after: waits for flow 3"),
        ("to: c", "to: a", "net.yaml:6:5 flows.0: goes from host a to itself"),
        ("flows:", "routes: [{from: a, to: c, via: [a, b, a, b, c]}]\nflows:", "routes.0.via: passes a twice"),
        ("flows:", "routes:" + 2 * "\n  - {from: a, to: c, via: [a, b, c]}" + "\nflows:", "routes.1: a route from"),
        (PLATFORM, "- a\n", "net.yaml: a platform is a mapping"),
    ],
)  # fmt: skip
def test_a_platform_s_faults_are_told_with_their_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "up.csv").write_text("0 1\n1 2\n")
    with pytest.raises(InputError) as raised:
        run(tmp_path, PLATFORM.replace(old, new, 1))
    assert said in str(raised.value)


# ---- cases ----------------------------------------------------------------------------------------------------------


def case(**change: Any) -> dict[str, Any]:
    good = {
        "hosts": 3, "links": [[1e6, 0.01]] * 2, "routes": [[0, 1, [0]], [1, 0, [1]]], "flows": [[0, 1, 1e6, 0, 0, []]],
    }  # fmt: skip
    return good | change


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"routes": 4}, DataError, r"routes must be a list of \[source, target"),
        ({"flows": 4}, DataError, r"flows must be a list of \[source, target, bytes"),
        ({"routes": [[0, 7, [0]]]}, TopologyError, "there is no host 7: there are 3"),
        ({"routes": [[0, 1, [0.5]]]}, DataError, "routes.0: must be .* whole numbers"),
        ({"routes": [[0, 1, "0"]]}, DataError, "routes.0: must be"),
        ({"routes": [[0, 1, [0]], [0, 1, [1]]]}, DataError, "routes.1: a route from host 0 to host 1 is given already"),
        ({"flows": [[0.5, 1, 1e6, 0, 0, []]]}, DataError, "flows.0: must be .* whole numbers"),
        ({"flows": [[True, 0, 1e6, 0, 0, []]]}, DataError, "flows.0: must be"),
        ({"warm": "no"}, DataError, "warm = 'no': must be true or false"),
        ({"fatpipe": [2, 0]}, DataError, "fatpipe must be a list of 2 times true or false"),
        ({"ge": [[0.1, 0.0, 1.0], None]}, InputError, "link 0: ge = .* lets nothing through"),
        ({"cc": "Cubic"}, InputError, "did you mean 'cubic'"),
        ({"model": "tcp"}, DataError, "it is an option: --model"),
    ],
)
def test_a_case_s_faults_are_told(change: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        simnet.transfer_times(case(**change))


def test_a_link_without_bursts_may_say_so_by_null() -> None:
    chain = [0.1, 0.5, 1.0]
    few = simnet.transfer_times(case(ge=[chain, None]))
    assert few.lost_packets.sum() > 0
    assert few.finish_s.tolist() == simnet.transfer_times(case(ge=[chain, [0, 0, 0]])).finish_s.tolist()


@pytest.mark.parametrize("source", [3, None, []])
def test_what_is_no_case_is_told(source: Any) -> None:
    with pytest.raises(InputError, match="a case is a file's name, a dict or a Case"):
        simnet.transfer_times(source)


@pytest.mark.parametrize("seed", [1.5, "a", None, True])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(InputError, match="seed = .*: must be a whole number"):
        simnet.transfer_times(case(), seed=seed)
