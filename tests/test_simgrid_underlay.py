"""Training over a SimGrid platform: its hosts, its links, and its own ways, whatever is shortest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from simnet.errors import InputError, TopologyError
from simnet.models.algorithms.dpsgd import DPSGD
from simnet.models.topologies.simgrid import simgrid
from simnet.network.flows.transfers import transfer_times
from simnet.record import Record
from tests.programs import Gossips, base, go
from tests.shared import shared_dir

COMPUTE_S = 0.010  # of a round of `base`
PLATFORM = """<platform version="4.1"><zone id="w" routing="Full">
<host id="a" speed="1f"/><host id="b" speed="1f"/><host id="c" speed="1f"/>
<link id="k" bandwidth="125kBps" latency="5ms"/><link id="l" bandwidth="250kBps" latency="1ms"/>
<link id="f" bandwidth="125kBps" latency="1ms" sharing_policy="FATPIPE"/>
<route src="a" dst="b"><link_ctn id="k"/><link_ctn id="l"/></route>
<route src="b" dst="c"><link_ctn id="l"/></route>
<route src="a" dst="c"><link_ctn id="f"/></route>
</zone></platform>
"""


def trained(path: Path, model: str, topology: Any, algorithm: Any = None, **network: Any) -> Record:
    return go(
        base(
            algorithm or DPSGD(), topology=topology, rounds=1, problem={"name": "Quadratic", "dim": 250},
            network={"graph": {"name": "simgrid", "path": str(path)}, "model": model, **network},
            record={"timeline": False},
        )
    )  # fmt: skip


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    (tmp_path / "p.xml").write_text(PLATFORM)
    return tmp_path / "p.xml"


def pairs(*edges: tuple[str, str]) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from("abc")
    graph.add_edges_from(edges)
    return graph


def test_a_message_takes_the_given_way_though_another_is_quicker(platform: Path) -> None:
    """1,000 bytes at 125 kB/s are 8 ms; the way from a to b is k and l, not f and l."""
    record = trained(platform, "independent", pairs(("a", "b")), Gossips())
    assert record.rounds["sim_time_s"][-1] == pytest.approx(COMPUTE_S + 0.006 + 0.008)
    used = {t: b for t, b in zip(record.links["target"], record.links["wire_bytes"], strict=True) if "link" in t and b}
    assert used == {"link k": 2000, "link l": 2000}
    assert record.nodes["sent_bytes"].tolist() == record.nodes["received_bytes"].tolist() == [1000, 1000, 0]


def test_both_directions_share_a_link_and_a_fatpipe_is_not_shared(platform: Path) -> None:
    shared = trained(platform, "maxmin", pairs(("a", "b")), Gossips())
    assert shared.rounds["sim_time_s"][-1] == pytest.approx(COMPUTE_S + 0.006 + 0.016)
    free = trained(platform, "maxmin", pairs(("a", "c")), Gossips())
    assert free.rounds["sim_time_s"][-1] == pytest.approx(COMPUTE_S + 0.001 + 0.008)


@pytest.mark.parametrize("model", ["maxmin", "cm02", "lv08", "lv08_noxt", "tcp"])
def test_a_round_lasts_as_long_as_its_transfers(tmp_path: Path, model: str) -> None:
    file = shared_dir() / "data" / "simgrid_platforms" / "bypassRoute.xml"
    hosts = list(nx.DiGraph(simgrid(path=str(file))).nodes)[:4]
    ring = nx.relabel_nodes(nx.cycle_graph(4), dict(enumerate(hosts)))
    flows = ", ".join(f"{{from: {a}, to: {b}, bytes: 1000}}" for u, v in ring.edges for a, b in ((u, v), (v, u)))
    (tmp_path / "t.yaml").write_text(f"platform: {file}\nflows: [{flows}]\n")
    lasting = transfer_times(tmp_path / "t.yaml", model).finish_s.max()
    record = trained(file, model, ring, Gossips())
    assert record.rounds["sim_time_s"][-1] == pytest.approx(COMPUTE_S + lasting, rel=1e-9)


def test_the_first_hosts_of_a_large_platform(tmp_path: Path) -> None:
    (tmp_path / "p.xml").write_text(
        '<platform version="4.1"><cluster id="c" prefix="n" suffix="" radical="0-99" speed="1f" bw="1MBps" lat="1ms"/>'
        "</platform>"
    )
    graph = simgrid(4, path="p.xml", base_dir=tmp_path)
    assert [v for v, data in graph.nodes(data=True) if not data.get("router")] == ["n0", "n1", "n2", "n3"]
    record = trained(tmp_path / "p.xml", "independent", "ring", nodes=4)
    assert np.isfinite(record.rounds["sim_time_s"][-1])
    with pytest.raises(TopologyError, match="has 100 hosts, and 101 are asked for"):
        simgrid(101, path="p.xml", base_dir=tmp_path)


def test_what_a_run_cannot_do_over_a_platform_is_said(platform: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name its graph, such as 'topology: ring'"):
        trained(platform, "independent", None)
    lonely = PLATFORM.replace('<route src="a" dst="c"><link_ctn id="f"/></route>', "")
    (tmp_path / "lonely.xml").write_text(lonely)
    with pytest.raises(TopologyError, match="no route leads from host . to host ."):
        trained(tmp_path / "lonely.xml", "maxmin", "ring")
    at = '<host id="{}" coordinates="{} 0 0" speed="1f"/>'
    (tmp_path / "v.xml").write_text(
        '<platform version="4.1"><zone id="w" routing="Vivaldi">'
        f"{at.format('a', 0)}{at.format('b', 10)}</zone></platform>"
    )
    with pytest.raises(TopologyError, match="nothing limits the rate from host . to host . under model maxmin"):
        trained(tmp_path / "v.xml", "maxmin", "path")
    record = trained(tmp_path / "v.xml", "independent", "path")
    assert record.rounds["sim_time_s"][-1] == pytest.approx(COMPUTE_S + 0.010)


@pytest.mark.parametrize("model, ends_s", [("independent", [0.019, 0.038]), ("maxmin", [0.0235, 0.0465])])
def test_links_of_a_platform_change_by_their_profiles(tmp_path: Path, model: str, ends_s: list[float]) -> None:
    """Link k has 125 kB/s and 1 ms, from 20 ms on 250 kB/s and 5 ms; two messages of 1,000 bytes share it, or each has
    it for itself. A round computes for 10 ms: alone 8 + 1 ms, then 4 + 5 ms; shared, 1,125 bytes pass by 20 ms.
    """
    (tmp_path / "bw").write_text("0.02 250000\n")
    (tmp_path / "lat").write_text("0.02 0.005\n")
    changing = 'id="k" bandwidth="125kBps" latency="1ms" bandwidth_file="bw" latency_file="lat"'
    text = PLATFORM.replace('id="k" bandwidth="125kBps" latency="5ms"', changing).replace(
        '<link_ctn id="l"/></route>', "</route>", 1
    )
    (tmp_path / "m.xml").write_text(text)
    network = {"graph": {"name": "simgrid", "path": str(tmp_path / "m.xml")}, "model": model}
    problem = {"name": "Quadratic", "dim": 250}
    record = go(base(Gossips(), topology=pairs(("a", "b")), rounds=2, problem=problem, network=network,
                     evaluate_every=1, record={"timeline": False}))  # fmt: skip
    assert record.rounds["sim_time_s"] == pytest.approx(ends_s)
