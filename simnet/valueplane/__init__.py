"""The value plane: the recorded tasks, done for real in torch. Simulated time is not known here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from simnet.book import Book
from simnet.errors import MemoryTooSmall, ScenarioError
from simnet.memory import free_memory
from simnet.scenario import Scenario
from simnet.units import human
from simnet.valueplane.batched import Batched
from simnet.valueplane.device import exact_float32
from simnet.valueplane.following import Following
from simnet.valueplane.pairs import Pairs
from simnet.valueplane.scattered import Scattered
from simnet.valueplane.single import OneByOne

if TYPE_CHECKING:
    from simnet.prepare import Plan

BUFFERS = 3  # states that a typical algorithm keeps at once, of n x d numbers each


def settle_device(scenario: Scenario, plan: Plan, states: bool = True) -> tuple[torch.device, torch.dtype]:
    """The device and dtype of a run; checks that it is there and that the states (if any are to be made) fit, and fixes
    the threads.
    """
    execution = scenario.execution
    name = execution.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ScenarioError(f"there is no such device here ({str(error).splitlines()[0]}): use 'cpu' or 'auto'",
                            field="execution.device", value=execution.device) from error  # fmt: skip
    torch.set_num_threads(execution.threads)
    exact_float32()
    dtype = {"float32": torch.float32, "float64": torch.float64}[execution.dtype]
    if states:
        check_memory(plan, device, dtype)
    return device, dtype


def check_memory(plan: Plan, device: torch.device, dtype: torch.dtype) -> None:
    """MemoryTooSmall where the nodes' states alone would not fit."""
    n, d = plan.network.n, plan.problem.dim
    needed = BUFFERS * n * d * dtype.itemsize
    there = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if needed > there:
        raise MemoryTooSmall(
            f"{n} nodes with {d} parameters each need about {human(needed, 'bytes')} ({BUFFERS} states of "
            f"{dtype.itemsize} bytes a number), and {human(there, 'bytes')} are free: take fewer nodes, a smaller "
            "model or float32, or 'simnet estimate', which makes no tensors"
        )


def make_values(scenario: Scenario, book: Book, device: torch.device, dtype: torch.dtype, kind: str) -> Any:
    """The executor of a run: `lockstep` by whole tasks, `items` node by node."""
    execution = scenario.execution
    if kind == "pairs":
        return Pairs(book, device, dtype, execution.chunk_rows)
    if kind == "items":
        one_by_one = execution.node_run or book.costs.on_arrival or execution.tier == "processes"
        batched = execution.executor == "batched" and not one_by_one
        return Scattered(book, device, dtype) if batched else Following(book, device, dtype)
    if execution.executor == "one_by_one":
        return OneByOne(book, device, dtype)
    return Batched(book, device, dtype, execution.chunk_rows)
