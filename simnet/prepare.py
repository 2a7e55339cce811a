"""From a scenario to what a run needs: network, topology, problem, profiles, programs. No tensor is made here."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np

from simnet import mixing as mixings
from simnet import preflight, registry
from simnet.algorithm import Algorithm
from simnet.batches import size_of
from simnet.book import Book, MakeMixing
from simnet.costs import Costs, source_of
from simnet.dataset import Dataset, Parts
from simnet.errors import DataError, ScenarioError, UnknownName, nearest
from simnet.fields import Part
from simnet.hybrid import hybrid_facts, hybrid_notes
from simnet.network.network import Network
from simnet.network.places import centre, host_number
from simnet.placement import placed
from simnet.preflight import first_mixing
from simnet.presence import Presence
from simnet.problem import Problem
from simnet.profile import Profiles
from simnet.scenario import Scenario
from simnet.topology import StaticTopology, Topology
from simnet.underlay import build_network, count_nodes, hosts_of, make_graph, network_graph
from simnet.whereabouts import whereabouts

GAP_UP_TO = 600  # nodes: beyond this, the eigenvalues of W cost seconds


@dataclass(frozen=True)
class Plan:
    """Everything that a run starts from; `book()` opens a fresh set of exchanges for each attempt."""

    scenario: Scenario
    algorithm: Algorithm
    network: Network
    topology: Topology
    make_mixing: MakeMixing
    problem: Problem
    profiles: Profiles
    members: dict[str, np.ndarray]
    data_hosts: np.ndarray
    grain: float
    presence: Presence
    costs: Costs

    def book(self) -> Book:
        """A fresh book: nothing has travelled yet."""
        scenario, problem = self.scenario, self.scenario.problem
        every = self.evaluate_every
        last = scenario.rounds - 1
        return Book(
            scenario.seed, self.network, self.topology, self.make_mixing, self.problem, self.profiles, self.members,
            self.data_hosts,
            batch=size_of(problem.batch),
            replace=problem.replace,
            find_server=lambda: self.server,
            pattern=scenario.collective.pattern,
            group=scenario.collective.group,
            rounds=scenario.rounds,
            evaluated=lambda r: (r + 1) % every == 0 or r == last,
            pin_all=scenario.stop.sim_time is not None or scenario.stop.bytes is not None,
            find_topology=lambda over: find_topology(scenario, over, self.network.n),
            on_grid=self.algorithm.partners_by_time,
            grain=self.grain,
            presence=self.presence,
            costs=self.costs,
            start_std=problem.start_std,
            node_by_node=self.costs.on_arrival or self.algorithm.node_by_node,
        )  # fmt: skip

    @property
    def evaluate_every(self) -> int:
        """Rounds between evaluations: as asked for, or so that a run has 50 rows."""
        return self.scenario.evaluate_every or max(1, -(-self.scenario.rounds // 50))

    @cached_property
    def server(self) -> int:
        """The host through which averages go."""
        given = self.scenario.collective.server
        return centre(self.network) if given is None else host_number(self.network, given, "collective.server")

    def facts(self) -> dict[str, Any]:
        """What the record's header says of the network and the data."""
        facts: dict[str, Any] = {"nodes": self.network.n, "algorithm": type(self.algorithm).__name__,
                                 "problem": type(self.problem).__name__, "parameters": self.problem.dim}  # fmt: skip
        if self.algorithm.partners_by_time:
            facts["rows_by_time"] = True  # and `round` is that of the slowest node
        count_N = self.profiles.accelerators.count_N
        if count_N.max(initial=1) > 1:
            facts["accelerators_per_node"] = [int(count_N.min()), int(count_N.max())]
            facts["inner_average"] = bool(np.isfinite(self.profiles.accelerators.bandwidth_N[count_N > 1]).any())
        mixes = self.algorithm.mixing is not None and not self.algorithm.roles
        if mixes and self.topology.static and self.network.n <= GAP_UP_TO:
            mixing = first_mixing(self)
            facts |= {"spectral_gap": mixings.spectral_gap(mixing), "lambda_min": mixings.lambda_min(mixing)}
        sizes = self.problem.samples_N
        if sizes.any():
            facts["rows_per_node"] = sizes.tolist() if len(sizes) <= 64 else [int(sizes.min()), int(sizes.max())]
        if (placement := self.scenario.network.placement) is not None:
            facts["placement"] = {"rule": placement.rule, "hosts": [str(h) for h in self.network.hosts[:64]]}
        facts |= hybrid_facts(self)
        if self.notes:
            facts["notes"] = list(self.notes)
        return facts

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results should know."""
        return (*self.network.notes, *preflight.notes(self), *hybrid_notes(self))


def prepare(scenario: Scenario) -> Plan:
    """Find, make and check all that the scenario names. Raises an InputError before any work starts."""
    with scenario.placing():
        graph = network_graph(scenario)
        topology = make_topology(scenario, graph)
        if scenario.network.placement is not None:
            graph = placed(scenario, graph, topology)
        network = build_network(scenario, graph)
        algorithm = make_algorithm(scenario)
        grain = mixings.GRAIN_FLOAT64 if scenario.execution.dtype == "float64" else mixings.GRAIN_FLOAT32
        mixing = make_mixing(scenario, grain)
        profiles = Profiles.of(_nodes_section(scenario), network.hosts, scenario.base_dir)
        members = assign_roles(scenario, algorithm, network)
        data_hosts = np.sort(np.concatenate([members[r] for r in algorithm.data_roles or tuple(members)]))
        problem = make_problem(scenario, data_hosts, profiles)
        presence = whereabouts(scenario.nodes, network, scenario.seed, scenario.written, scenario.base_dir)
        plan = Plan(
            scenario, algorithm, network, topology, mixing, problem, profiles, members, data_hosts, grain, presence,
            source_of(scenario),
        )  # fmt: skip
        preflight.check(plan)
    return plan


# ---- topology, mixing, roles ---------------------------------------------------------------------------------------


def make_topology(scenario: Scenario, graph: nx.Graph) -> Topology:
    """The algorithm's graph over the nodes: the network's own over its hosts, unless the scenario names another."""
    part, n, hosts = scenario.topology, count_nodes(scenario, graph), hosts_of(graph)
    if part is None:
        if scenario.network.placement is not None:
            raise ScenarioError("maps the nodes of a topology to hosts: name the topology, such as 'topology: ring'",
                                field="network.placement")  # fmt: skip
        if len(graph) > len(hosts):
            raise ScenarioError(
                "the network's graph has routers between its hosts, and an algorithm gossips among hosts: name its "
                "graph, such as 'topology: ring'",
                field="topology",
            )
        return StaticTopology(graph, hosts)
    if part.object is not None:
        return _as_topology(part.object, n, hosts if scenario.network.placement is None else None)
    return _as_topology(make_graph(scenario, part, n, "topology"), n)


def _as_topology(made: Any, n: int, hosts: list[Hashable] | None = None) -> Topology:
    """A topology over n nodes; a graph whose nodes are named as the hosts is taken by their names."""
    by_name = isinstance(made, nx.Graph) and hosts is not None and set(made) == set(hosts)
    topology = made if isinstance(made, Topology) else StaticTopology(made, hosts if by_name else None)
    if topology.n != n:
        raise ScenarioError(f"the topology has {topology.n} nodes and the network {n}", field="topology")
    return topology


def find_topology(scenario: Scenario, over: Any, n: int) -> Topology:
    """What a program means by `over=`: a name, a class or function that makes a topology, or a graph."""
    if isinstance(over, nx.Graph):
        return _as_topology(over, n)
    target = registry.find("topologies", over, scenario.base_dir) if isinstance(over, str) else over
    injected = {"n": n, "seed": scenario.seed, "base_dir": scenario.base_dir}
    return _as_topology(registry.call(target, injected, {}, "over"), n)


def make_mixing(scenario: Scenario, grain: float) -> MakeMixing:
    """The function from edges to mixing weights."""
    part = scenario.mixing
    target = part.object or registry.find("mixings", part.name, scenario.base_dir, field="mixing", place=scenario.place)

    def make(source: np.ndarray, destination: np.ndarray, n: int) -> mixings.Mixing:
        injected = {"src": source, "dst": destination, "n": n, "grain": grain}
        made: mixings.Mixing = registry.call(target, injected, part.params, "mixing", scenario.place)
        return made

    return make


def make_algorithm(scenario: Scenario) -> Algorithm:
    """The algorithm with its hyper-parameters."""
    part = scenario.algorithm
    if part.object is not None:
        made = part.object
    else:
        target = registry.find("algorithms", part.name, scenario.base_dir, field="algorithm", place=scenario.place)
        made = registry.call(target, {"base_dir": scenario.base_dir}, part.params, "algorithm", scenario.place)
    if not isinstance(made, Algorithm):
        raise ScenarioError(f"{type(made).__name__} is no algorithm: subclass simnet.algorithm.Algorithm",
                            field="algorithm")  # fmt: skip
    for name in made.step_sizes:
        given = getattr(made, name, None)
        for size in given.values() if isinstance(given, dict) else (given,):
            if isinstance(size, int | float) and not 0 < size < float("inf"):
                raise ScenarioError("a step size is above 0 and finite", field=f"algorithm.{name}", value=size)
    for name in made.whole_numbers:
        number = getattr(made, name, None)
        if isinstance(number, int) and number < 1:
            raise ScenarioError("at least 1", field=f"algorithm.{name}", value=number)
    return made


def assign_roles(scenario: Scenario, algorithm: Algorithm, network: Network) -> dict[str, np.ndarray]:
    """Role -> its hosts, ascending. By default the first of two roles goes to the centre, the other to the rest."""
    roles = tuple(algorithm.programs())
    for name in scenario.roles:
        if name not in roles:
            raise UnknownName(f"the algorithm has the roles {', '.join(roles)}{nearest(name, roles)}",
                              field="roles", value=name)  # fmt: skip
    members: dict[str, np.ndarray] = {}
    for name, hosts in scenario.roles.items():
        members[name] = np.sort([host_number(network, h, f"roles.{name}") for h in hosts]).astype(np.int64)
    if len(roles) == 2 and roles[0] not in members and roles[1] not in members:
        members[roles[0]] = np.array([centre(network)])
    taken = np.concatenate(list(members.values())) if members else np.zeros(0, np.int64)
    if len(np.unique(taken)) < len(taken):
        raise ScenarioError("a host can have one role only", field="roles")
    rest = [name for name in roles if name not in members]
    if len(rest) > 1:
        raise ScenarioError(f"say which hosts have the roles {', '.join(rest)}", field="roles")
    others = np.setdiff1d(np.arange(network.n), taken)
    if rest:
        members[rest[0]] = others
    elif len(others):
        raise ScenarioError(f"host {network.hosts[int(others[0])]} has no role", field="roles")
    for name, theirs in members.items():
        if not len(theirs):
            raise ScenarioError(f"no host is left for the role {name!r}; the network has {network.n}", field="roles")
    return {name: members[name] for name in roles}


def _nodes_section(scenario: Scenario) -> dict[str, Any]:
    """The section `nodes`, estimators given as objects kept; where durations are measured its `compute` is a default
    that says nothing.
    """
    section = scenario.nodes.model_dump()
    given = [scenario.nodes.estimator, *(group.estimator for group in scenario.nodes.groups)]
    for dumped, part in zip([section, *section["groups"]], given, strict=True):
        dumped["estimator"] = part if part is None or part.name else part.params
    return section if scenario.nodes.durations == "flops" else section | {"compute": None}


# ---- problem -------------------------------------------------------------------------------------------------------


def make_problem(scenario: Scenario, data_hosts: np.ndarray, profiles: Profiles) -> Problem:
    """The problem over the hosts that hold data."""
    section, nodes = scenario.problem, len(data_hosts)
    if section.object is not None:
        problem: Problem = section.object
        if problem.nodes != nodes:
            raise ScenarioError(f"the problem has {problem.nodes} nodes, and {nodes} hosts hold data", field="problem")
        return problem
    target = registry.find("problems", section.name, scenario.base_dir, field="problem", place=scenario.place)
    injected: dict[str, Any] = {"nodes": nodes, "seed": scenario.seed, "base_dir": scenario.base_dir}
    if section.data is not None:
        if "parts" not in inspect.signature(target).parameters:
            raise ScenarioError(f"{section.name} takes no data: leave `data` out, or name another problem",
                                field="problem.data", value=section.data.name)  # fmt: skip
        dataset = make_dataset(scenario, section.data)
        injected["parts"] = Parts(dataset, split_rows(scenario, dataset, np.asarray(profiles.oracle_N)[data_hosts]))
    problem = registry.call(target, injected, section.params, "problem", scenario.place)
    if not isinstance(problem, Problem):
        raise ScenarioError(f"{section.name} is no problem: subclass simnet.problem.Problem", field="problem")
    return problem


def make_dataset(scenario: Scenario, part: Part) -> Dataset:
    """The dataset that the scenario names. Raises DataError with the place in the scenario and that in the file."""
    if part.object is not None:
        given: Dataset = part.object
        return given
    target = registry.find("datasets", part.name, scenario.base_dir, field="problem.data", place=scenario.place)
    try:
        made: Dataset = registry.call(
            target, {"base_dir": scenario.base_dir}, part.params, "problem.data", scenario.place
        )  # fmt: skip
    except DataError as error:
        where = " ".join(word for word in (scenario.place("problem.data"), "problem.data") if word)
        raise DataError(f"{where}: {error}") from error
    return made


def split_rows(scenario: Scenario, dataset: Dataset, oracle_N: np.ndarray) -> list[np.ndarray]:
    """Training rows of each node; with `copies: per_oracle`, one whole copy for each kind of node."""
    section = scenario.problem
    part = section.split or Part("iid")
    target = part.object or registry.find(
        "splits", part.name, scenario.base_dir, field="problem.split", place=scenario.place
    )
    groups = [np.arange(len(oracle_N))]
    if section.copies == "per_oracle":
        groups = [np.flatnonzero(oracle_N == kind) for kind in ("fo", "zo")]
    rows: list[np.ndarray] = [np.zeros(0, np.int64)] * len(oracle_N)
    for group in groups:
        if len(group):
            labels = dataset.train_y
            injected = {"labels": labels, "labels_M": labels, "nodes": len(group), "seed": scenario.seed,
                        "oracles": oracle_N[group]}  # fmt: skip
            dealt = registry.call(target, injected, part.params, "problem.split", scenario.place)
            for node, mine in zip(group.tolist(), dealt, strict=True):
                rows[node] = mine
    return rows
