"""What an algorithm is: a frozen dataclass of hyper-parameters with a generator written for one node.

    @dataclass(frozen=True)
    class DSGD(Algorithm):
        eta: float = 0.1

        def program(self, node: Node) -> Program:
            x = node.initial("x")
            for _ in node.rounds():
                g = yield node.gradient(x)
                x = yield node.gossip(x - self.eta * g)
                node.report(x=x)

Simulated time passes at `yield` and nowhere else. An algorithm with several roles has no `program`; each role is a
generator method of that name, listed in `roles`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from simnet.compressor import Compressor
from simnet.node import Node

if TYPE_CHECKING:
    from simnet.book import Book

Program = Generator[Any, Any, None]


class Algorithm:
    """Base class of all algorithms; its class facts are promises that `simnet check` holds it to.

    `roles`: names of the generator methods, one per role; empty for a single `program`.
    `data_roles`: the roles whose nodes hold data; empty for all.
    `mixing`: the kind of mixing matrix it needs: `doubly_stochastic`, `symmetric`, `row_stochastic`,
    `column_stochastic` or None.
    `connected`: it needs a connected topology. `tree`: one without cycles, undirected and always the same.
    `keeps_mean`: without gradients the mean of the x_i never moves.
    `first_order`: it needs true gradients, so a ZO-only node is refused.
    `hybrid`: it is meant for FO and ZO nodes together; a run without either kind says so.
    `asks`: oracles that its problem must declare, where a function of x with its gradients does not do.
    `step_sizes`: fields that must be above 0 and finite, where it has them; also where they are given by kind of node.
    `whole_numbers`: fields that must be at least 1.
    `contracts`, `unbiased`: its compressors must contract (`omega` is known), or keep the mean of what they send.
    `lost_for_good`: what a message does to it that is lost and not sent again, where nothing makes up for it; runs in
    which messages can get lost say so in a note.
    `synchronous`: every node runs the same verbs, so one generator serves all; False asks for one per node.
    """

    roles: ClassVar[tuple[str, ...]] = ()
    data_roles: ClassVar[tuple[str, ...]] = ()
    mixing: ClassVar[str | None] = "doubly_stochastic"
    connected: ClassVar[bool] = True
    tree: ClassVar[bool] = False
    keeps_mean: ClassVar[bool] = True
    first_order: ClassVar[bool] = False
    hybrid: ClassVar[bool] = False
    asks: ClassVar[tuple[str, ...]] = ()
    step_sizes: ClassVar[tuple[str, ...]] = ("eta",)
    whole_numbers: ClassVar[tuple[str, ...]] = ("Q",)
    contracts: ClassVar[bool] = False
    unbiased: ClassVar[bool] = False
    lost_for_good: ClassVar[str] = ""
    synchronous: ClassVar[bool] = True

    def program(self, node: Node) -> Program:
        """The generator of every node, where the algorithm has a single role."""
        raise TypeError(f"{type(self).__name__} needs a method 'program(self, node)', or names in 'roles'")

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        """Numbers that all nodes together send in one round: the formula of the docstring, for `simnet check`.

        dim: d. nodes: all hosts, n. edges: directed edges of a static topology. Each message counts once, at its
        sender. Optional; None where the number differs from round to round, or is not declared.
        """
        return None

    def check(self, book: Book) -> None:
        """Refuse parameters that do not fit the run's nodes: raises an InputError. Called before the start."""

    @property
    def second_derivatives(self) -> str:
        """What of it rests on second derivatives, by name: losses that bend at kinks are refused. Empty: nothing."""
        return ""

    @property
    def condition(self) -> float:
        """The largest condition number of a linear system that it solves: rounding grows by so much on its way to x."""
        return 1.0

    def notes(self, members: Mapping[str, int], dim: int) -> list[str]:
        """What a reader of the results should know of these hyper-parameters, with so many `members` of each role and
        vectors of `dim` numbers.
        """
        return []

    @property
    def compressors(self) -> dict[str, Compressor]:
        """Its compressors, by the fields that hold them."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Compressor)}

    @property
    def node_by_node(self) -> bool:
        """Whether it takes one generator per node: by its own word, or since sizes of its messages depend on values."""
        return not self.synchronous or any(each.by_value for each in self.compressors.values())

    @property
    def partners_by_time(self) -> bool:
        """Whether simulated time sets who meets whom: rows of the record then lie on a grid of time."""
        return any(mentions(p, self, w) for p in self.programs().values() for w in ("meet", "peer"))

    @property
    def only_meets(self) -> bool:
        """Whether meetings are all that passes between its nodes."""
        return not self.roles and not any(mentions(self.program, self, w) for w in _OTHER_TRAVEL)

    def programs(self) -> dict[str, Callable[[Node], Program]]:
        """The generator function of each role; a single program is the role `node`."""
        if self.roles:
            return {role: getattr(self, role) for role in self.roles}
        return {"node": self.program}


_OTHER_TRAVEL = (
    "gossip", "exchange", "average", "all_gather", "send", "broadcast", "scatter", "receive", "gather", "read", "start",
)  # fmt: skip


def mentions(program: Callable[..., Any], algorithm: Any, word: str) -> bool:
    """Whether a program's text, or a method or function that it calls, uses the name `word`."""
    return _mentions(program, algorithm, word, set())


def _mentions(program: Callable[..., Any], algorithm: Any, word: str, seen: set[str]) -> bool:
    names = set(program.__code__.co_names) - seen
    seen |= names
    if word in names:
        return True
    globals_ = getattr(program, "__globals__", {})
    called = [found for name in names for found in (getattr(algorithm, name, None), globals_.get(name))]
    return any(_mentions(f, algorithm, word, seen) for f in called if callable(f) and hasattr(f, "__code__"))
