"""The sections of a scenario: what may be said, with which defaults, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from simnet.fields import (
    Bytes,
    Count,
    Host,
    Part,
    PositiveSeconds,
    Section,
    Whole,
    refuse,
)
from simnet.links import NO_BURSTS, Link, LinkOverride, loses_all
from simnet.registry import BESIDE
from simnet.underlay_sections import Background, Placement, PortOverride, Ports, Route

# ---- network -------------------------------------------------------------------------------------------------------


class Tcp(Section):
    """What `model: tcp` needs to know."""

    control: Literal["cubic", "reno", "bbr"] = "cubic"
    """Congestion control."""
    warm: bool = True
    """Whether connections stay open from message to message; else each message begins with a handshake."""


class Network(Section):
    """Hosts, the links between them, and what becomes of messages."""

    nodes: Count | None = None
    """How many hosts; may be left out where the graph fixes it. With a `placement`, how many nodes."""
    graph: Part = Part("ring")
    """The underlay: which hosts (and routers) have links."""
    link: Link = Link()
    """The default for every link; attributes on the graph's edges override it."""
    links: list[LinkOverride] = []
    """Overrides for single links."""
    routes: list[Route] = []
    """Ways given by name, in the place of the shortest paths."""
    placement: Placement | None = None
    """Which hosts the topology's nodes sit on: `{given: [a, b, c]}`, `random`, or `nearest` (neighbours near each
    other); by default node k on the graph's k-th host. Hosts without a node only pass on."""
    host: Ports = Ports()
    """Every host's own ports up and down, shared by all its messages."""
    hosts: list[PortOverride] = []
    """Other ports for some hosts."""
    background: list[Background] = []
    """Flows that are no part of the training and share its links."""
    model: Literal["independent", "maxmin", "cm02", "lv08", "lv08_noxt", "tcp"] = "independent"
    """How messages share links: `independent` means not at all, beyond the ports. The others are flows that share each
    link of their ways: `maxmin` in plain fairness, `cm02`, `lv08` and `lv08_noxt` as SimGrid does, `tcp` with
    handshake, slow start and loss."""
    tcp: Tcp = Tcp()
    """How `model: tcp` behaves."""
    ports: Literal["serial", "parallel"] = "serial"
    """Whether a host sends to its neighbours one after another or to all at once."""
    receive_ports: Literal["serial", "parallel"] = "parallel"
    """Whether a host receives one message at a time or all at once."""
    policy: Literal["retry", "drop", "symmetric"] = "retry"
    """What follows a loss: send again, give up, or give up both directions together."""
    loss_unit: Literal["packet", "message"] = "packet"
    """What is lost: packets of 1500 bytes (a message is lost if one is), or whole messages."""
    wire_dtype: Literal["float16", "bfloat16", "float32", "float64"] = "float32"
    """The format of numbers on the wire, whatever they are computed in."""
    header_bytes: Annotated[Whole, Field(ge=0)] = 0
    """Bytes added to each message."""

    @model_validator(mode="after")
    def _retry_can_succeed(self) -> Self:
        if self.model == "tcp" and self.policy != "retry":
            raise refuse("tcp delivers everything: take `policy: retry`, or another model", at="policy")
        for name in {"ports", "receive_ports"} & self.model_fields_set if self.model != "independent" else ():
            raise refuse("belongs to `model: independent`; where messages share links, a port is a link", at=name)
        if self.model == "independent":
            if self.background:
                raise refuse(
                    "background traffic takes bandwidth from messages that share links with it, and under `model: "
                    "independent` nothing is shared: take `model: maxmin`, or another that shares",
                    at="background",
                )
            for at, given in {"host": self.host, **{f"hosts.{i}": each for i, each in enumerate(self.hosts)}}.items():
                if given.up is not None or given.down is not None:
                    raise refuse(
                        "a port up or down is shared by all of a host's messages, and under `model: independent` they "
                        "share nothing: take `model: maxmin`, or another that shares",
                        at=at,
                    )
        said = {"link": self.link} | {f"links.{i}": link for i, link in enumerate(self.links)}
        for where, link in said.items():
            if link.burst is not None and self.loss_unit == "message":
                raise refuse(
                    "is a run of packets within a message: with `loss_unit: message`, where each message is lost or "
                    "not on its own, give the mean as `loss`",
                    at=f"{where}.burst",
                )
            for name, all_ in (
                ("loss", loses_all(link.loss or 0.0, NO_BURSTS)),
                ("burst", link.burst is not None and loses_all(0.0, link.burst.chain)),
            ):
                if all_ and self.policy == "retry":
                    raise refuse(
                        "a loss of 1 under `policy: retry` would send for ever; take less, or `policy: drop`",
                        at=f"{where}.{name}",
                    )
        return self


# ---- work ----------------------------------------------------------------------------------------------------------


def _rows(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _batch(value: Any) -> Any:
    per_kind = isinstance(value, Mapping) and set(value) == {"fo", "zo"} and all(_rows(v) for v in value.values())
    if value == "full" or _rows(value) or per_kind:
        return value
    raise refuse("must be the number of rows in a minibatch, at least 1, or `full`, or {fo: 4, zo: 8}")


Batch = Annotated[
    int | Literal["full"] | dict[str, int],
    BeforeValidator(_batch),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "full"}, {"type": "object"}]}),
]


class Problem(Section):
    """What is minimised: a class, its parameters, and the data it is given."""

    name: str
    """A shipped name, `module:Name` or `file.py:Name`."""
    params: dict[str, Any] = {}
    """Every key that is not declared here goes to the problem's class."""
    object: Any = Field(default=None, exclude=True, json_schema_extra={"description": "A problem given in Python."})
    data: Part | None = None
    """The dataset."""
    split: Part | None = None
    """How the rows are dealt to the nodes; by default iid where there are data."""
    copies: Literal["one", "per_oracle"] = "one"
    """`per_oracle` deals a full copy of the data to the FO nodes and one to the ZO nodes."""
    batch: Batch = "full"
    """Rows in a minibatch, or `full`; {fo: 4, zo: 8} gives FO and ZO nodes minibatches of their own."""
    replace: bool = True
    """Whether minibatches are drawn with replacement."""
    start_std: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Each node begins at the problem's first point plus normal numbers of its own with this standard deviation."""

    @model_validator(mode="before")
    @classmethod
    def _sort_keys(cls, value: Any) -> Any:
        if isinstance(value, Problem):
            return value
        part = Part.of(value)
        own = BESIDE["problem"]
        kernel = {key: item for key, item in part.params.items() if key in own}
        rest = {key: item for key, item in part.params.items() if key not in own}
        return {"name": part.name, "object": part.object, "params": rest, **kernel}

    @model_validator(mode="after")
    def _split_needs_data(self) -> Self:
        if self.split is not None and self.data is None:
            raise refuse("has a `split` but no `data` to split; name a dataset, as in `data: digits`")
        return self

    def plain(self) -> Any:
        """The section as YAML would have it."""
        kernel = self.model_dump(exclude={"name", "params", "object"}, exclude_none=True)
        return {"name": f"<{self.object}>" if self.object is not None else self.name, **self.params, **kernel}


class Collective(Section):
    """How averages over many nodes travel."""

    pattern: Literal["server", "ring", "tree", "hierarchical"] = "server"
    """Through one host, round a ring of hosts, up and down a binary tree, or by groups whose leaders form a ring."""
    server: Host | None = None
    """Which host serves, or is the tree's root; by default the graph's centre."""
    group: Count | None = None
    """Hosts in a group of the hierarchical pattern; by default about the square root of their number."""


class Stop(Section):
    """What may end a run before its last round."""

    sim_time: PositiveSeconds | None = None
    """Simulated seconds."""
    bytes: Bytes | None = None
    """Bytes on the wire."""
    at_target: bool = False
    """Stop when every target is met."""


# ---- how to run ----------------------------------------------------------------------------------------------------


def _underscored(value: Any) -> Any:
    return value.replace("-", "_").replace(" ", "_") if isinstance(value, str) else value


class Execution(Section):
    """How the run is carried out; nothing here changes what is simulated, but for the rounding of `dtype`."""

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes what is there."""
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    """The format in which values are kept and computed; sums over neighbours of bfloat16 are taken in float32."""
    threads: Count = 1
    """CPU threads of the value plane."""
    executor: Annotated[Literal["batched", "one_by_one"], BeforeValidator(_underscored)] = "batched"
    """All nodes at once, or one task at a time (the reference)."""
    tier: Literal["auto", "arrays", "compiled", "events", "processes"] = "auto"
    """The time plane's engine; `auto` takes the fastest that is exact."""
    node_run: bool = False
    """One generator per node in place of one per role (the reference; slow)."""
    kernels: Literal["closed", "vmap", "loop"] = "closed"
    """Closed-form gradients where a problem has them, automatic ones of all nodes at once, or node by node."""
    chunk_rows: Count | None = None
    """Rows of the state computed at a time; by default as the cache likes it."""


class Recording(Section):
    """What is kept besides rounds, nodes and links."""

    messages: bool = False
    """One row for each message."""
    timeline: bool = True
    """Who computed, sent and waited when."""
