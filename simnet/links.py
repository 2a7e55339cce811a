"""What a scenario may say of a link: its speed and latency, what it loses and how, and what it does over time."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from simnet.fields import Bandwidth, Bytes, Loss, PositiveSeconds, Probability, Seconds, Section, refuse
from simnet.network.flows.traces import AtEnd
from simnet.underlay_sections import Ends

Chain = tuple[float, float, float]  # Gilbert-Elliott: from good to bad, from bad to good, loss while bad
NO_BURSTS: Chain = (0.0, 0.0, 0.0)


class Burst(Section):
    """Losses in bursts: a Gilbert-Elliott chain of a good and a bad state, stepped once a packet. Say `to_bad` and
    `to_good`, or `mean_loss` and `length`.
    """

    to_bad: Probability | None = None
    """How likely a packet finds the link bad, where the one before it found it good."""
    to_good: Probability | None = None
    """How likely a packet finds the link good, where the one before it found it bad."""
    mean_loss: Probability | None = None
    """The share of packets that bursts lose in the long run."""
    length: Annotated[float, Field(ge=1)] | None = None
    """How many packets the bad state lasts in the mean; where it loses all, the mean length of a burst of losses."""
    loss: Probability = 1.0
    """How likely a packet is lost that finds the link bad."""

    @model_validator(mode="after")
    def _is_one_chain(self) -> Self:
        chain, means = (self.to_bad, self.to_good), (self.mean_loss, self.length)
        if None in chain and None in means or chain.count(None) + means.count(None) != 2:
            raise refuse("needs either `to_bad` with `to_good`, or `mean_loss` with `length`, as in "
                         "{mean_loss: 1 %, length: 10}")  # fmt: skip
        if self.mean_loss is not None and self.length is not None:
            if self.mean_loss and self.mean_loss >= self.loss:
                raise refuse(
                    "must be below `loss`, that of the bad state: now and then the link is good", at="mean_loss"
                )
            if self.chain[0] > 1:
                most = self.loss * self.length / (1 + self.length)
                raise refuse(
                    f"is more than bursts of {self.length:g} packets can lose, which is {most:.4g}, since at least one "
                    "packet lies between two bursts: take longer ones",
                    at="mean_loss",
                )
        elif self.to_bad == 0 and self.to_good == 0:
            raise refuse("a chain that never changes its state says nothing of bursts: leave it out", at="to_bad")
        return self

    @property
    def chain(self) -> Chain:
        """From good to bad, from bad to good, and the loss while bad."""
        if self.mean_loss is None or self.length is None:
            assert self.to_bad is not None and self.to_good is not None  # one of both forms is there
            return self.to_bad, self.to_good, self.loss
        bad = self.mean_loss / self.loss if self.loss else 0.0
        return bad / ((1.0 - bad) * self.length), 1.0 / self.length, self.loss


class LinkTrace(Section):
    """A file of what changes with time, beside the file that names it."""

    file: str
    """Packet deliveries in ms (Mahimahi), seconds and Mbit/s, or columns with names such as `latency_ms`."""
    at_end: AtEnd = "wrap"
    """Whether it begins anew at its end or holds its last values."""
    bin: PositiveSeconds = 0.1
    """Packet deliveries are counted over bins of so many seconds."""


Traced = Annotated[
    LinkTrace,
    BeforeValidator(lambda value: {"file": value} if isinstance(value, str) else value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string"},
                        "at_end": {"enum": ["wrap", "hold"]},
                        "bin": {"anyOf": [{"type": "number"}, {"type": "string"}]},
                    },
                    "required": ["file"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class Link(Section):
    """What a link does when nothing more is said of it."""

    bandwidth: Bandwidth = 1.25e7
    """Bytes/s that pass, such as 100 Mbit/s."""
    latency: Seconds = 1e-3
    """Seconds from the last bit sent to the last bit arrived."""
    loss: Loss = 0.0
    """The probability that one packet (or message, see `loss_unit`) is lost."""
    burst: Burst | None = None
    """Losses in bursts, besides `loss`: {mean_loss: 1 %, length: 10}, or {to_bad: 0.1 %, to_good: 10 %, loss: 1}."""
    queue: Bytes | None = None
    """Room of the queue before the link, which `model: tcp` fills and overflows; by default without end."""
    fatpipe: bool = False
    """Whether it caps each message alone, and messages do not share it."""
    trace: Traced | None = None
    """A file of bandwidth, latency or loss over time, which hold in the place of the link's own."""


class LinkOverride(Ends):
    """Other values for some links: `between: [a, b]` for both directions, `from` and `to` for one."""

    bandwidth: Bandwidth | None = None
    latency: Seconds | None = None
    loss: Loss | None = None
    burst: Burst | None = None
    queue: Bytes | None = None
    fatpipe: bool | None = None
    trace: Traced | None = None


def said_of(link: Link | LinkOverride) -> dict[str, Any]:
    """What a section says of its links, under the names that a graph's edges use too: bursts as their chain, a trace
    as what names it.
    """
    names = ("bandwidth", "latency", "loss", "queue", "fatpipe", "trace")
    values = {name: value for name in names if (value := getattr(link, name)) is not None}
    return values if link.burst is None else values | {"burst": link.burst.chain}


def loses_all(loss: float, chain: Chain) -> bool:
    """Whether no packet ever gets through: a loss of 1, or a bad state that loses all and is never left."""
    to_bad, to_good, while_bad = chain
    return loss >= 1.0 or (to_bad > 0 and to_good == 0 and while_bad >= 1.0)
