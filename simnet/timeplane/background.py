"""Background traffic under the walker: one event for each stream's next flow, and the flows in the engine of all.

It never keeps a run going: where nothing but background traffic is left to happen, no further flow begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simnet.network.flows.tcp import PACKET

if TYPE_CHECKING:
    from simnet.timeplane.flows import Flows
    from simnet.timeplane.walker import Light

FIRST_TAG = 1 << 40  # tags of background flows; those of messages begin at 0, and keep their draws
_NETWORK = 0  # the priority of what the network does within an instant


class Background:
    """The background traffic of a run."""

    def __init__(self, flows: Flows) -> None:
        self.flows, self.walker = flows, flows.walker
        self.network, self.seed = flows.book.network, flows.book.seed
        self._moments = [stream.moments(self.seed) for stream in self.network.background]
        self._begun = [0] * len(self._moments)
        self._way_of: dict[int, int] = {}  # tag of a flow under way -> its way
        self._tags = FIRST_TAG
        for number in range(len(self._moments)):
            self._wait(number)

    def _wait(self, number: int) -> None:
        """Wait for a stream's next flow, if there is one."""
        moment = next(self._moments[number], None)
        if moment is not None:
            self.walker.push(moment, self._begin, number, None, _NETWORK)

    def _begin(self, event: Light) -> None:
        if not self._needed():
            return
        number, now = event.a, self.walker.env._now
        stream = self.network.background[number]
        source, target = stream.pair(self.seed, self._begun[number], self.network.sites)
        self._begun[number] += 1
        way = self.flows.way_of(source, target)
        tag, self._tags = self._tags, self._tags + 1
        self._way_of[tag] = way
        self.flows.begin(way, False, stream.size_bytes, tag, now)
        header, acknowledgement = self.flows.overhead(stream.size_bytes)
        ledger, (there, back) = self.walker.account.ledger, self.flows.links_there_and_back(way)
        ledger.add_background(there, round(stream.size_bytes) + header, 1)
        ledger.add_background(back, acknowledgement, 0)
        self._wait(number)

    def _needed(self) -> bool:
        """Whether anything else is under way or due."""
        own = (self._begin, *self.flows.callbacks)
        return self.flows.messages_under_way or any(event.callbacks[0] not in own for *_, event in self.walker._queue)

    def ended(self, tag: int, lost: float) -> None:
        """A flow has arrived; `lost` of its packets were sent again."""
        way = self._way_of.pop(tag)
        if lost:
            there, _ = self.flows.links_there_and_back(way)
            self.walker.account.ledger.add_background_again(there.tolist(), round(lost * PACKET))
