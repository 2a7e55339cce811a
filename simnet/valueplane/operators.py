"""Which operators a call runs, with their FLOP and bytes: what a device profile turns into seconds.

A call is run once with small numbers of its own and watched below autograd, so its backward passes count. FLOP of
products and convolutions are PyTorch's own counts (`torch.utils.flop_counter`); every other operator counts one for
each number that it makes. A view costs its overhead and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from simnet.device_profile import CONV, GEMM, POINTWISE, VIEW, Operators


def operators(oracle: str, call: Callable[[], Any]) -> Operators:
    """The operators that `call`, an evaluation of `oracle`, runs."""
    with _Watch() as seen:
        call()
    return Operators(oracle, np.array(seen.rows, np.float64).reshape(-1, 4))


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, float, float, float]] = []  # class, FLOP, bytes read, bytes written

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        ins, outs = _tensors((args, kwargs)), _tensors(out)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            kind = CONV if "conv" in func._overloadpacket._qualified_op_name else GEMM
            flop = float(count(*args, **kwargs, out_val=out))
        elif func.is_view:
            kind, flop = VIEW, 0.0
        else:
            kind, flop = POINTWISE, float(sum(t.numel() for t in outs))
        view = kind == VIEW
        self.rows.append((kind, flop, 0.0 if view else _bytes(ins), 0.0 if view else _bytes(outs)))
        return out


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _bytes(tensors: list[torch.Tensor]) -> float:
    return float(sum(t.numel() * t.element_size() for t in tensors))
