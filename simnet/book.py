"""What all recordings of one run share: who is there, what things cost, and the exchanges opened so far.

Legend: n hosts, E edges of one exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from simnet import mixing as mixings
from simnet import registry, streams
from simnet.batches import Size, flop_of
from simnet.collectives import waves_of
from simnet.costs import Costs, Flops
from simnet.errors import CapabilityError, ProgramError, ScenarioError, TopologyError
from simnet.exchange import INF, Average, Channel, Exchange, RelayedAverage, ServerAverage, Wave
from simnet.graph import Value
from simnet.mixing import Mixing
from simnet.network.fate import Fates
from simnet.network.network import EdgeSet, Network
from simnet.node import Sample
from simnet.partners import Partners
from simnet.payload import Sizes
from simnet.presence import Presence
from simnet.problem import Problem
from simnet.profile import Profiles
from simnet.topology import Among, Halves, Topology

Facts = tuple[int, tuple[str, int], str, np.ndarray, np.ndarray, int]  # the first fields of an Average
MakeMixing = Callable[[np.ndarray, np.ndarray, int], Mixing]


@dataclass(eq=False)
class Book:
    """The facts of a run and the registry of what travels."""

    seed: int
    network: Network
    topology: Topology
    mixing: MakeMixing
    problem: Problem
    profiles: Profiles
    members: dict[str, np.ndarray]  # role -> hosts, ascending
    data_hosts: np.ndarray  # the hosts that hold data, in the order of the problem's nodes
    batch: Size | None = None  # default minibatch; None: full
    replace: bool = True
    find_server: Callable[[], int] = lambda: 0
    pattern: str = "server"  # how averages travel
    group: int | None = None
    rounds: int | None = None
    evaluated: Callable[[int], bool] = lambda r: True
    pin_all: bool = False  # a stop by time: any report may turn out to be a node's last
    on_grid: bool = False  # rows lie on a grid of simulated time, since partners are set by time
    find_topology: Callable[[Any], Topology] | None = None
    grain: float = mixings.GRAIN_FLOAT32
    presence: Presence = field(default_factory=lambda: Presence(0))
    costs: Costs = field(default_factory=Flops)
    start_std: float = 0.0  # of the nodes' first points around the problem's
    node_by_node: bool = False  # whether every node must be computed when it gets there

    exchanges: dict[tuple[Any, int], Exchange] = field(default_factory=dict)
    averages: dict[tuple[str, int], Average] = field(default_factory=dict)
    channels: dict[Any, Channel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.presence.n:
            self.presence = Presence(self.n)
        self.fates = Fates(self.network, self.seed)
        self.zo_n = np.asarray(self.profiles.oracle_N) == "zo"
        self.rank_n = np.full(self.n, -1)  # the problem's number of each host; -1: it holds no data
        self.rank_n[self.data_hosts] = np.arange(len(self.data_hosts))
        self.samples_n = np.zeros(self.n, dtype=np.int64)
        self.samples_n[self.data_hosts] = self.problem.samples_N
        self._base_seconds: dict[Any, np.ndarray] = {}
        self._edges: dict[Any, tuple[EdgeSet, Mixing]] = {}
        self._stars: dict[Any, EdgeSet] = {}
        self._waves: dict[Any, tuple[Wave, ...]] = {}
        self._topologies: dict[Any, Topology] = {}
        self._over: dict[int, Any] = {}
        self._partners: dict[str, Partners] = {}
        self._samples: dict[bytes, Topology] = {}
        self._numbers = dict.fromkeys(self.members, 0)

    @property
    def n(self) -> int:
        return self.network.n

    @cached_property
    def server(self) -> int:
        """The host through which averages go; found when first needed."""
        return self.find_server()

    def role_of(self) -> np.ndarray:
        """The role's name of each host."""
        out = np.full(self.n, "", dtype=object)
        for role, hosts in self.members.items():
            out[hosts] = role
        return out

    # ---- compute ---------------------------------------------------------------------------------------------------

    def oracle_seconds(
        self, hosts: np.ndarray, name: str, size: Size | None, occurrence: int, call: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Seconds of one call of an oracle on `size` rows (None: all the node's) at each of `hosts`; `call` gives those
        of this very call, where every call has its own.
        """
        per_call = self.costs.per_call
        base = self._shared(hosts, name, size, call()) if per_call else self.base_seconds(hosts, name, size)
        return self.profiles.varied(base, occurrence, self.seed, hosts)

    def base_seconds(self, hosts: np.ndarray, name: str, size: Size | None) -> np.ndarray:
        """Seconds of a call before jitter and stragglers, (S,). Raises ScenarioError where every call has its own."""
        if self.costs.per_call:
            raise ScenarioError("they are known call by call, so no node has a speed: take `calibrated` ones",
                                field="nodes.durations", value=self.costs.name)  # fmt: skip
        key = (name, size, hosts.tobytes() if len(hosts) < self.n else None)
        if key not in self._base_seconds:
            alone = self.costs.alone(self, hosts, name, size)
            self._base_seconds[key] = self._shared(hosts, name, size, alone)
        return self._base_seconds[key]

    def _shared(self, hosts: np.ndarray, name: str, size: Size | None, alone: np.ndarray) -> np.ndarray:
        """Seconds of a call that takes one accelerator `alone` seconds on the device (NaN: its FLOP decide)."""
        seconds = self.profiles.base_seconds(name, self._flop(hosts, name, size), hosts, alone, self.problem.dim)
        answer = self._answer_numbers(hosts, name) * float(self.network.wire_bytes_per_number)
        return self.profiles.accelerators.share(seconds, answer, hosts)

    def _flop(self, hosts: np.ndarray, name: str, size: Size | None) -> np.ndarray:
        """FLOP of one call at each of `hosts`; a ZO-only node's `gradient` is an estimate, charged in losses."""
        flop = flop_of(self, name, size)
        if self.zo_n.any():
            if name == "gradient":
                passes = self.profiles.forward_passes(np.arange(self.n), self.problem.dim)
                flop = np.where(self.zo_n, passes * flop_of(self, "loss", size), flop)
            elif name != "loss" and self.zo_n[hosts].any():
                first = self.network.hosts[int(hosts[self.zo_n[hosts]][0])]
                raise CapabilityError(
                    f"node {first} has only a zeroth-order oracle, and the algorithm asks it for {name!r}: "
                    "give it 'oracle: fo', or choose an algorithm that asks for gradients or losses alone"
                )
        return flop[hosts]

    def _answer_numbers(self, hosts: np.ndarray, name: str) -> np.ndarray:
        """How many numbers the accelerators of a node average for one call."""
        numbers = np.full(len(hosts), self.problem.oracles()[name].numbers)
        if name == "gradient" and self.zo_n[hosts].any():
            return np.where(self.zo_n[hosts], self.profiles.numbers(hosts, self.problem.dim), numbers)
        return numbers

    def work_seconds(self, hosts: np.ndarray, flop: float, occurrence: int) -> np.ndarray:
        """Seconds of plain arithmetic of that many FLOP."""
        numbers = np.full(len(hosts), float(flop))
        alone = numbers / self.costs.flop_per_s(self, hosts)
        base = self.profiles.base_seconds("work", numbers, hosts, alone)
        return self.profiles.varied(base, occurrence, self.seed, hosts)

    def check_data(self, hosts: np.ndarray, name: str) -> None:
        """Only a host with data of its own has an oracle."""
        if (self.rank_n[hosts] < 0).any():
            host = self.network.hosts[int(hosts[self.rank_n[hosts] < 0][0])]
            raise ProgramError(
                f"host {host} holds no data, so it has no oracle {name!r}: list its role in 'data_roles'"
            )

    # ---- topologies ------------------------------------------------------------------------------------------------

    def topology_of(self, over: Any) -> Topology:
        """The topology that `over` names: None for the scenario's, a sample (all its nodes among each other), a
        Topology, or what `find_topology` resolves.
        """
        if over is None:
            return self.topology
        if isinstance(over, Sample):
            key = over.hosts.tobytes()
            if key not in self._samples:
                self._samples[key] = Among(over.hosts, self.n)  # kept: edges are found again by its id
            return self._samples[key]
        if isinstance(over, Topology):
            self._over[id(over)] = over  # kept alive: edges are found again by its id
            return over
        name = over if isinstance(over, str) else id(over)
        if name not in self._topologies:
            if self.find_topology is None:
                raise ProgramError(f"over={over!r} is no topology")
            self._topologies[name] = self.find_topology(over)
            self._over[id(over)] = over
        return self._topologies[name]

    @cached_property
    def matchings(self) -> Topology:
        """Random matchings of the topology's edges, another at each exchange."""
        if not self.topology.static:
            raise TopologyError("matchings are drawn from a topology that stays the same, and this one changes")
        whole = len(self.topology.edges(0)[0]) == self.n * (self.n - 1)
        make = registry.find("topologies", "random_matching")
        return Halves(make(self.n, seed=self.seed, graph=None if whole else self.topology))

    def edges(self, topology: Topology, k: int, role: str) -> tuple[EdgeSet, Mixing]:
        """Edges among the role's members in the k-th exchange, and their mixing weights; kept while they repeat."""
        key = (id(topology), role, 0 if topology.static else k)
        found = self._edges.get(key)
        if found is None:
            source, target, given = self._among(topology, k, role)
            found = self.network.edge_set(source, target), self._mix(source, target, given)
            if not topology.static and len(self._edges) > 64:
                self._edges.pop(next(iter(self._edges)))
            self._edges[key] = found
        return found

    def _among(self, topology: Topology, k: int, role: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Ends and given weights of the topology's edges among the role's members."""
        (source, target), given, hosts = topology.edges(k), topology.weights(k), self.members[role]
        if len(hosts) == self.n:
            return source, target, given
        inside = np.zeros(self.n, bool)
        inside[hosts] = True
        keep = inside[source] & inside[target]
        return source[keep], target[keep], None if given is None else given[keep]

    def partners(self, role: str) -> Partners:
        """Whom members of the role may meet or send to at random; TopologyError where one has nobody."""
        if role not in self._partners:
            if not self.topology.static:
                raise TopologyError(
                    "partners are drawn among the neighbours of a topology that stays the same, and this one changes"
                )
            source, target, _ = self._among(self.topology, 0, role)
            edges, somebody = self.network.edge_set(source, target), len(self.topology.edges(0)[0]) > 0
            self._partners[role] = Partners(edges, self.members[role], self.network.hosts, somebody)
        return self._partners[role]

    def _mix(self, source: np.ndarray, target: np.ndarray, given: np.ndarray | None) -> Mixing:
        if given is not None:
            return mixings.from_weights(source, target, given, self.n, grain=self.grain)
        return self.mixing(source, target, self.n)

    def star(self, hosts: np.ndarray, server: int, upward: bool) -> EdgeSet:
        """The edges between the server and `hosts` other than itself, one way."""
        key = (hosts.tobytes(), server, upward)
        if key not in self._stars:
            others = hosts[hosts != server]
            centre = np.full(len(others), server)
            if len(self._stars) > 256:
                self._stars.pop(next(iter(self._stars)))
            self._stars[key] = self.network.edge_set(*((others, centre) if upward else (centre, others)))
        return self._stars[key]

    # ---- what travels ----------------------------------------------------------------------------------------------

    def bytes_of(self, numbers: int) -> int:
        """Payload bytes of that many numbers."""
        return numbers * self.network.wire_bytes_per_number

    def _number(self, role: str) -> int:
        """The number of the next exchange or average: counted by role, so that what is drawn for it does not depend on
        which role gets there first.
        """
        number = self._numbers[role] * len(self.members) + list(self.members).index(role)
        self._numbers[role] += 1
        return number

    def exchange(
        self, role: str, place: Any, k: int, verb: Mapping[str, Any], sizes: Sizes, kind: str, round: int
    ) -> Exchange:
        """The k-th exchange of the channel at `place`; opened by whoever reaches it first."""
        key = (role, place)
        found = self.exchanges.get((key, k))
        if found is not None:
            return found
        channel = self.channels.setdefault(key, Channel(key))
        topology = self.topology_of(verb["over"])
        edges, mixing = self.edges(topology, k, role)
        given = verb["missing"]
        if not isinstance(given, Value) and given not in ("self", "zero", "stale"):
            raise ProgramError(f"missing={given!r}: say 'self', 'zero', 'stale', or give a Value")
        missing = "value" if isinstance(given, Value) else given
        if missing == "stale" and not topology.static:
            raise ProgramError("missing='stale' needs a topology that stays the same from exchange to exchange")
        weights = verb.get("weights", "mixing")
        if weights not in ("mixing", "sender"):
            raise ProgramError(f"weights={weights!r}: say 'mixing' or 'sender'")
        deadline_s = INF if verb["deadline_s"] is None else float(verb["deadline_s"])
        if not deadline_s >= 0:
            raise ProgramError(f"deadline_s={verb['deadline_s']!r}: seconds from the start of the verb, at least 0")
        if weights == "sender":
            mixing = mixings.column_stochastic(edges.source, edges.target, self.n, grain=self.grain)
        payload = sizes.at(edges.source)
        exchange = Exchange(
            self._number(role), channel, k, kind, edges,
            mixing.weight if kind == "gossip" else None, mixing.own if kind == "gossip" else None,
            missing,
            deadline_s,
            payload, round, mask_of(verb["when"], "when", self.n, self.members[role]),
        )  # fmt: skip
        exchange.by_value = sizes.by_value
        exchange.fate = self.fates.of(("exchange", exchange.id), edges, payload + self.network.header_bytes)
        if sizes.by_value and exchange.fate is not None and self.network.loss_unit == "packet":
            raise ScenarioError(
                "sizes that depend on values are not known when packets are drawn: say `loss_unit: message`, or take a "
                "compressor of fixed size",
                field="network.loss_unit",
            )
        self.exchanges[key, k] = exchange
        return exchange

    def average(
        self, role: str, number: int, kind: str, among: np.ndarray, to: np.ndarray, payload: int, round: int
    ) -> Average:
        """The role's collective with that number; opened by whoever reaches it first."""
        found = self.averages.get((role, number))
        if found is not None:
            return found
        facts = (self._number(role), (role, number), kind, among, to, round)
        make = self._served if self.pattern == "server" else self._relayed
        self.averages[role, number] = average = make(facts, payload)
        return average

    def _served(self, facts: Facts, payload: int) -> Average:
        """An average through the server's host."""
        id, _, kind, among, to, _ = facts
        up = self.star(np.flatnonzero(among), self.server, upward=True)
        down = self.star(np.flatnonzero(to), self.server, upward=False)
        down_bytes = payload * int(among.sum()) if kind == "all_gather" else payload
        header = self.network.header_bytes
        up_fate = self.fates.of(("up", id), up, payload + header, policy="retry")
        down_fate = self.fates.of(("down", id), down, down_bytes + header, policy="retry")
        return ServerAverage(*facts, self.server, up, down, payload, down_bytes, up_fate, down_fate)

    def _relayed(self, facts: Facts, payload: int) -> Average:
        """An average from host to host by the scenario's pattern."""
        id, _, kind, among, to, _ = facts
        if (among != to).any():
            raise ProgramError(
                f"'collective.pattern: {self.pattern}' gives the mean to those who made it; where 'to' differs from "
                "'among' (client sampling), use pattern server"
            )
        key = (kind, payload, among.tobytes())
        if key not in self._waves:
            if len(self._waves) > 64:
                self._waves.pop(next(iter(self._waves)))
            hosts = np.flatnonzero(among)
            root = self.server if self.pattern == "tree" else int(hosts[0])
            self._waves[key] = waves_of(self.pattern, kind, hosts, root, self.group, payload, self.network.edge_set)
        waves = self._waves[key]
        header = self.network.header_bytes
        fates = [
            self.fates.of(("wave", id, w), wave.edges, wave.payload_bytes + header, policy="retry")
            for w, wave in enumerate(waves)
        ]
        return RelayedAverage(*facts, waves, fates)

    def is_through(self, x: Exchange, e: int, t: float) -> bool:
        """Whether the message on edge e of an exchange, at its receiver at t, gets through, however late: but for
        `retry`, one that finds its receiver away is lost.
        """
        if self.network.policy == "retry":
            return True
        lost = x.fate is not None and not x.fate.delivered_E[e]
        return not lost and not self.presence.away(int(x.edges.target[e]), t)

    def close(self, x: Exchange | Average) -> None:
        """The last member has left: nobody will look for it again."""
        x.closed = True
        if isinstance(x, Exchange):
            del self.exchanges[x.channel.name, x.k]
        else:
            del self.averages[x.key]

    def draw_sample(self, role: str, k: int, *key: str | int) -> np.ndarray:
        """k hosts of a role without replacement, ascending."""
        hosts = self.members[role]
        order = streams.permutation(streams.key(self.seed, *key), len(hosts))
        return np.sort(hosts[order[:k]])


def mask_of(who: Any, option: str, n: int, members: np.ndarray) -> np.ndarray | None:
    """Those hosts of a role that `who` chooses: a sample, or a mask over the role's nodes. None for everybody (or for a
    Value, which is not known yet).
    """
    if who is None or isinstance(who, Value):
        return None
    mask = np.zeros(n, bool)
    if isinstance(who, Sample):
        mask[members] = who.mask_n[members]
        return mask
    chosen = np.asarray(who)
    if chosen.dtype != bool or chosen.shape not in ((), members.shape):
        raise ProgramError(f"{option}={who!r}: give a sample, or a mask with True or False for each of "
                           f"{len(members)} nodes")  # fmt: skip
    mask[members] = chosen
    return mask
