"""`simnet bench network`: how near the network models come to real TCP, and what the flow engine costs.

The measurements lie in `tests/reference/real_tcp` of a checkout. SimGrid is asked through its Python bindings where
they are installed for this interpreter or the system's `python3` (Debian: python3-simgrid); its configuration is that
of the reference cases, with its full and its lazy solver, and only its engine's run is timed, in CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

import simnet
from simnet.benches import training
from simnet.benches.timing import Row
from simnet.errors import InputError
from simnet.network.flows.case import Transfers
from simnet.network.flows.links import Links
from simnet.network.flows.measured import QUANTITIES, Score, medians, score
from simnet.network.flows.models import MODELS, RouteTable, route_table
from simnet.network.flows.transfers import run_transfers

SEEDS = 31  # of the model that draws
ACCESS_FLOWS = (1000, 4000)  # beside SimGrid


def rows(chosen: argparse.Namespace) -> Iterator[Row]:
    """All results, one by one."""
    yield from real_tcp()
    yield from speed()
    yield from training.rows()
    yield from beside_simgrid()


# ---- real TCP -------------------------------------------------------------------------------------------------------


def real_tcp() -> Iterator[Row]:
    """Relative errors of `tcp` and `lv08` on every measured case, then medians and 90th percentiles over cases."""
    folder = Path(simnet.__file__).resolve().parent.parent / "tests" / "reference" / "real_tcp"
    paths = sorted(folder.glob("*.json"))
    if not paths:
        yield {"job": "real tcp", "skipped": f"no measurements in {folder}: this needs a checkout"}
        return
    scores: dict[str, list[Score]] = {"tcp": [], "lv08": []}
    for path in paths:
        for model, known in scores.items():
            known.append(score(path, model, SEEDS))
        ours, theirs = scores["tcp"][-1], scores["lv08"][-1]
        row: Row = {"job": f"real tcp, {path.stem}", **_errors("", ours.errors), **_errors("lv08 ", theirs.errors)}
        if ours.lossy:
            row["seeds 10-90 %"] = f"{ours.makespan_s[0]:.3f} to {ours.makespan_s[2]:.3f} s"
            row["measured"] = f"{ours.measured_s[0]:.3f} to {ours.measured_s[2]:.3f} s"
        yield row
    for lossy, word in ((False, "without loss"), (True, "with loss")):
        for share, name in ((0.5, "median"), (0.9, "90th percentile")):
            ours_, theirs_ = (medians([s for s in scores[m] if s.lossy == lossy], share) for m in ("tcp", "lv08"))
            yield {"job": f"real tcp, {name} over cases {word}", **_errors("", ours_), **_errors("lv08 ", theirs_)}


def _errors(model: str, errors: tuple[float, float, float]) -> Row:
    return {model + name: f"{100 * error:.1f} %" for name, error in zip(QUANTITIES, errors, strict=True)}


# ---- speed ----------------------------------------------------------------------------------------------------------


class Work(NamedTuple):
    """Routes of a network and F transfers over them."""

    links: Links
    forward: list[list[int]]
    backward: list[list[int]]
    route: np.ndarray  # int64 (F,)
    bytes: np.ndarray  # float64 (F,)
    start_s: np.ndarray  # float64 (F,)


def _links(bandwidth: Any, latency_s: Any) -> Links:
    n = len(bandwidth)
    return Links(
        np.array(bandwidth, np.float64), np.array(latency_s, np.float64), np.zeros(n, bool), np.zeros(n),
        np.zeros((n, 3)), np.full(n, np.inf), tuple(map(str, range(n))),
    )  # fmt: skip


def access(hosts: int, degree: int, flows: int, rng: np.random.Generator, even: bool) -> Work:
    """Hosts whose up and down links (100 Mbit/s, or half to twice that) alone are shared, on a regular overlay."""
    graph = nx.random_regular_graph(degree, hosts, seed=1)
    pairs = [*graph.edges(), *((b, a) for a, b in graph.edges())]
    bandwidth = np.full(2 * hosts, 1.25e7) * (1.0 if even else rng.uniform(0.5, 2.0, 2 * hosts))
    links = _links(bandwidth, np.full(2 * hosts, 0.005) * (1.0 if even else rng.uniform(0.5, 2.0, 2 * hosts)))
    route = np.arange(flows) if flows == len(pairs) else rng.integers(0, len(pairs), flows)
    nothing = np.zeros(flows)
    return Work(links, [[a, hosts + b] for a, b in pairs], [[b, hosts + a] for a, b in pairs], route, nothing, nothing)


def core(flows: int, rng: np.random.Generator, routers: int = 100, hosts: int = 1000) -> Work:
    """A burst through a routed core: hosts with 100 Mbit/s at the routers of a preferential-attachment graph."""
    graph = nx.barabasi_albert_graph(routers, 2, seed=1)
    for _, _, edge in graph.edges(data=True):
        edge["latency"], edge["bandwidth"] = rng.uniform(0.001, 0.01), 1.25e8 * rng.uniform(0.5, 2.0)
    number: dict[tuple[int, int], int] = {}
    bandwidth: list[float] = []
    latency: list[float] = []
    for a, b, edge in graph.edges(data=True):
        for way in ((a, b), (b, a)):
            number[way] = len(bandwidth)
            bandwidth.append(edge["bandwidth"])
            latency.append(edge["latency"])
    first = len(bandwidth)
    links = _links([*bandwidth, *[1.25e7] * (2 * hosts)], [*latency, *[0.0005] * (2 * hosts)])
    paths = dict(nx.all_pairs_dijkstra_path(graph, weight="latency"))
    at = rng.integers(0, routers, hosts).tolist()
    source = rng.integers(0, hosts, flows)
    target = (source + rng.integers(1, hosts, flows)) % hosts

    def route(a: int, b: int) -> list[int]:
        way = paths[at[a]][at[b]]
        return [first + a, *(number[hop] for hop in zip(way, way[1:], strict=False)), first + hosts + b]

    ends = list(zip(source.tolist(), target.tolist(), strict=True))
    return Work(
        links, [route(a, b) for a, b in ends], [route(b, a) for a, b in ends], np.arange(flows),
        1e6 * rng.uniform(0.5, 1.5, flows), np.zeros(flows),
    )  # fmt: skip


def speed() -> Iterator[Row]:
    """CPU seconds of the engine on large cases, compilation left out."""
    rng = np.random.default_rng(1)
    even = access(10_000, 10, 100_000, rng, True)
    same = even._replace(bytes=np.full(100_000, 1e6))
    unequal = even._replace(bytes=rng.exponential(1e6, 100_000))
    run(access(20, 4, 80, rng, True)._replace(bytes=np.full(80, 1e6)), "cm02")  # compiles, or loads what is kept
    for name, work in (("equal", same), ("exponential", unequal)):
        yield _timed(f"100,000 flows at once over 10,000 hosts, {name} sizes", work, "maxmin")
    many = 1_000_000
    steady = access(10_000, 4, many, rng, True)
    span = many * 1e5 / (0.5 * 1.25e7 * 10_000)  # half of what the hosts can send
    steady = steady._replace(bytes=np.full(many, 1e5), start_s=np.sort(rng.uniform(0.0, span, many)))
    yield _timed("1,000,000 flows of 100 kB arriving steadily over 10,000 hosts, 4-regular, half load", steady, "cm02")
    for model in ("maxmin", "lv08"):
        yield _timed("10,000 flows at once through a routed core", core(10_000, rng), model)


def _timed(name: str, work: Work, model: str) -> Row:
    spent, finish = run(work, model)
    return {"job": f"flows, {name}, {model}", "cpu_s": spent, "sim_time_s": float(finish.max())}


def run(work: Work, model: str) -> tuple[float, np.ndarray]:
    """CPU seconds that the engine needed, and the finish times."""
    table: RouteTable = route_table(work.links, work.forward, work.backward, MODELS[model])
    n = len(work.route)
    transfers = Transfers(work.route, work.route, work.bytes, work.start_s, np.zeros(n), [()] * n)
    started = time.process_time()
    finish = run_transfers(table, work.route, transfers).finish_s
    return time.process_time() - started, finish


# ---- SimGrid --------------------------------------------------------------------------------------------------------

SIMGRID = """
import json, sys, time
from simgrid import Actor, Comm, Engine, Link, LinkInRoute, NetZone, this_actor
work = json.load(sys.stdin)
engine = Engine(["bench", *work["config"], "--log=root.threshold:critical"])
zone = NetZone.create_full_zone("zone")
hosts = [zone.create_host(f"h{i}", 1e9) for i in range(work["hosts"])]
links = []
for i, (bandwidth, latency) in enumerate(work["links"]):
    link = zone.create_link(f"l{i}", float(bandwidth))
    link.set_latency(float(latency))
    links.append(link.seal())
for a, b, used in work["routes"]:
    zone.add_route(hosts[a].netpoint, hosts[b].netpoint, None, None, [LinkInRoute(links[k]) for k in used], False)
zone.seal()
finish = [0.0] * len(work["flows"])
def all_flows():
    comms = [Comm.sendto_async(hosts[a], hosts[b], int(size)) for a, b, size in work["flows"]]
    number = {id(comm): i for i, comm in enumerate(comms)}
    for comm in comms:
        comm.wait()
    for i, comm in enumerate(comms):
        finish[i] = comm.finish_time
Actor.create("all", hosts[0], all_flows)
started = time.process_time()
engine.run()
print("RESULT" + json.dumps({"cpu_s": time.process_time() - started, "finish": finish}))
"""
CONFIG: dict[str, list[str]] = {  # as the reference cases were made
    "lv08": [],
    "cm02": ["network/model:CM02", "network/crosstraffic:0", "network/TCP-gamma:1e15"],
}
SOLVERS = ("Full", "Lazy")
COMMON = ["maxmin/precision:1e-9", "surf/precision:1e-12"]


def python_with_simgrid() -> str | None:
    """An interpreter that has SimGrid's bindings."""
    for python in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if python and not subprocess.run([python, "-c", "import simgrid"], capture_output=True).returncode:
            return python
    return None


def beside_simgrid() -> Iterator[Row]:
    """Access-link cases in SimGrid and here: CPU seconds of both, and how far their finish times differ."""
    python = python_with_simgrid()
    if python is None:
        yield {"job": "beside SimGrid", "skipped": "no SimGrid: install its Python bindings (Debian: python3-simgrid)"}
        return
    rng = np.random.default_rng(2)
    run(access(20, 4, 80, rng, True)._replace(bytes=np.full(80, 1e6)), "cm02")  # compiles, or loads what is kept
    for flows in ACCESS_FLOWS:
        hosts = flows // 4
        for model in CONFIG:
            work = access(hosts, 4, flows, rng, False)
            work = work._replace(bytes=np.floor(rng.uniform(0.5e6, 1.5e6, flows)))
            ours, own = run(work, model)
            for solver in SOLVERS:
                theirs, finish = simgrid(python, work, hosts, model, solver)
                yield {
                    "job": f"beside SimGrid ({solver}), {flows:,} flows over {hosts:,} hosts, access links, {model}",
                    "cpu_s": ours, "simgrid_cpu_s": theirs, "times": theirs / ours,
                    "largest_relative_difference": float(np.max(np.abs(own / finish - 1))),
                }  # fmt: skip


def simgrid(python: str, work: Work, hosts: int, model: str, solver: str) -> tuple[float, np.ndarray]:
    """CPU seconds of SimGrid's run, and its finish times."""
    ends = [(way[0], way[-1] - hosts) for way in work.forward]
    asked = {
        "config": [f"--cfg={each}" for each in (*CONFIG[model], *COMMON, f"network/optim:{solver}")],
        "hosts": hosts,
        "links": np.stack([work.links.bandwidth, work.links.latency_s], 1).tolist(),
        "routes": [(a, b, way) for (a, b), way in zip(ends, work.forward, strict=True)],
        "flows": [(*ends[r], size) for r, size in zip(work.route.tolist(), work.bytes.tolist(), strict=True)],
    }
    done = subprocess.run([python, "-c", SIMGRID], input=json.dumps(asked), capture_output=True, text=True)
    said = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), None)
    if done.returncode or said is None:
        raise InputError(f"SimGrid did not run: {(done.stderr or done.stdout).strip()[-400:]}")
    made = json.loads(said[len("RESULT") :])
    return made["cpu_s"], np.array(made["finish"])
