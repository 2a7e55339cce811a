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

BUFFERS = 3  # states that a typical algorithm keeps at once, of n x d numbers each, where it cannot be followed
SPACE, SPACE_ON_GPU = 64 << 20, 2 << 30  # bytes for the chunks in which is computed


def settle_device(scenario: Scenario) -> tuple[torch.device, torch.dtype]:
    """The device and dtype of a run; checks that it is there, and fixes the threads."""
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
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    exact_float32()
    dtype: torch.dtype = getattr(torch, execution.dtype)
    return device, dtype


def check_memory(plan: Plan, device: torch.device, dtype: torch.dtype, states_bytes: int | None) -> int:
    """The bytes that the nodes' states will take: `states_bytes` where the program was followed, else those of a
    typical algorithm. MemoryTooSmall where they, and the space in which chunks of rows are computed, do not fit.
    """
    n, d = plan.network.n, plan.problem.dim
    states = BUFFERS * n * d * dtype.itemsize if states_bytes is None else states_bytes
    needed = states + (SPACE_ON_GPU if device.type == "cuda" else SPACE) + plan.problem.data_bytes(dtype.itemsize)
    there = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if needed > there:
        fits = int(n * max(0, there - needed + states) / states)
        cure = f"Take at most {fits} nodes" if fits else "Take a smaller model"
        raise MemoryTooSmall(
            f"{n} nodes with {d} parameters each need {human(needed, 'bytes')}: {human(states, 'bytes')} of states "
            f"({dtype.itemsize} bytes a number, {states / (n * d * dtype.itemsize):.3g} of each node's size), the rest "
            f"to compute in and data; {human(there, 'bytes')} are free. {cure}, 'execution: {{dtype: bfloat16}}', "
            "fewer rows at a time ('execution: {chunk_rows: 32}'), or 'simnet estimate', which makes no tensors"
        )
    return states


def make_values(scenario: Scenario, book: Book, device: torch.device, dtype: torch.dtype, kind: str) -> Any:
    """The executor of a run: `lockstep` by whole tasks, `items` node by node."""
    execution = scenario.execution
    if kind == "pairs":
        return Pairs(book, device, dtype, execution.chunk_rows)
    if kind == "items":
        one_by_one = execution.node_run or book.node_by_node or execution.tier == "processes"
        batched = execution.executor == "batched" and not one_by_one
        return Scattered(book, device, dtype) if batched else Following(book, device, dtype)
    if execution.executor == "one_by_one":
        return OneByOne(book, device, dtype)
    return Batched(book, device, dtype, execution.chunk_rows)
