"""Any torch.nn.Module as a problem."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from simnet import registry, streams
from simnet.dataset import Parts
from simnet.errors import DataError, InputError, ScenarioError
from simnet.lazy import torch
from simnet.models.problems.data import Weighting
from simnet.models.problems.layered import LayeredProblem
from simnet.models.problems.module_check import check_rows, check_vmap, kink_of, refuse_batch_norm

if TYPE_CHECKING:
    from torch import Tensor, nn

LOSSES = ("cross_entropy", "squared_error", "binary_cross_entropy")


class Module(LayeredProblem):
    """f_i(x) = mean over rows of loss(net(a; x), y), with x all trainable parameters of a torch.nn.Module.

    x is the concatenation of `net.named_parameters()`, each flat and row by row; `problem.slices` and `shapes`
    name the pieces (a tied parameter occurs once, one that needs no gradient is a constant). Gradients of many nodes
    at once are vmap(grad(functional_call)), Hessian-vector products reverse over reverse, in chunks of nodes;
    `execution.kernels: loop` takes them one node at a time. First point: what the module's own constructor draws
    under `seed`, common to all nodes (of a module given as an object: the values it has). FLOP of a call on B
    rows: counted once by torch.utils.flop_counter, in matrix products and convolutions; elementwise work counts as 0.

    A row's loss may depend on x and on that row alone, so these are refused, each with its cure: dropout and other
    random draws, batch norm (its running statistics would be state that is neither trained nor sent, its batch
    statistics would tie rows together), buffers that change, and under vmap control flow that depends on values.
    `mode: eval` runs the module in its evaluation mode throughout: dropout off, batch norm with the running statistics
    that it comes with (mean 0, variance 1 when new) as constants; its scale and shift are trained.

    Args:
        parts: rows and who holds them.
        seed: of the first point.
        module: `package.module:Net` or `file.py:Net` (a class, or a function that gives a module), or in Python a
            module or such a class itself. If it asks for `features` or `classes`, it is given the data's.
        arguments: of the class or function, by name.
        loss: cross_entropy (outputs (B, C) or (B, C, ...)), squared_error (half of it; outputs (B,) or (B, 1)),
            binary_cross_entropy (labels 0/1, outputs (B,) or (B, 1) are log odds), or `file.py:loss`, a function of
            outputs and labels that gives each row's loss, (B,).
        input_shape: of one row as the module takes it, such as [1, 28, 28]; by default flat.
        mode: see above.
        l2: ridge coefficient on all parameters.
        weighting: f as the mean over nodes or over samples.
        base_dir: folder that file names count from.
    """

    _net: nn.Module  # a copy on the device, in its dtype
    _constants: dict[str, Tensor]  # its buffers, and parameters that need no gradient

    def __init__(
        self,
        parts: Parts,
        seed: int = 0,
        *,
        module: Any,
        arguments: dict[str, Any] | None = None,
        loss: Any = "cross_entropy",
        input_shape: list[int] | None = None,
        mode: Literal["train", "eval"] = "train",
        l2: float = 0.0,
        weighting: Weighting = "nodes",
        base_dir: Path | None = None,
    ) -> None:
        data = parts.dataset
        self.input_shape = [data.features] if input_shape is None else input_shape
        if math.prod(self.input_shape) != data.features:
            raise InputError(f"Module: input_shape = {input_shape} does not hold the {data.features} numbers of a row")
        self._parts, self.seed = parts, seed
        self.net = self._make(module, arguments or {}, data.classes, base_dir).train(mode == "train")
        self.title = type(self.net).__name__
        self._loss = _loss_function(loss, data.classes, base_dir)
        self._right: bool = isinstance(loss, str) and loss.endswith("cross_entropy")
        if not self.shapes:
            raise InputError(f"{self.title} has no parameters that need a gradient; there is nothing to train")
        refuse_batch_norm(self.net)
        dim = sum(math.prod(shape) for shape in self.shapes.values())
        super().__init__(parts.sizes, dim, has_test=data.has_test, l2=l2, weighting=weighting)
        self._counted: dict[str, tuple[float, float]] = {}
        self._on("cpu", torch.float32)
        self._widest = max(data.features, check_rows(self, *self._some_rows(4)))
        self.kink = kink_of(self, self._some_rows(2)[0])

    def _make(self, module: Any, arguments: dict[str, Any], classes: int | None, base_dir: Path | None) -> nn.Module:
        """The module that `module` means, drawn under the seed where it is made here."""
        if isinstance(module, torch.nn.Module):
            return copy.deepcopy(module)
        where = "problem.module"
        target = registry.find("module", module, base_dir, field=where) if isinstance(module, str) else module
        if not isinstance(target, torch.nn.Module):
            known = {"features": self._parts.dataset.features} | ({} if classes is None else {"classes": classes})
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(streams.key(self.seed, "Module first point") % 2**63)
                target = registry.call(target, known, arguments, "problem.arguments")
        if not isinstance(target, torch.nn.Module):
            raise ScenarioError(f"gives a {type(target).__name__}, not a torch.nn.Module", field=where, value=module)
        return copy.deepcopy(target)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(p.shape) for name, p in self.net.named_parameters() if p.requires_grad}

    def initial_point(self, name: str) -> np.ndarray:
        held = dict(self.net.named_parameters())
        return np.concatenate([held[n].detach().to("cpu", torch.float64).numpy().ravel() for n in self.shapes])

    # ---- FLOP ----------------------------------------------------------------------------------------------------

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        """Counted on 2 and on 4 rows: every product's work is a constant plus so much for each row."""
        if oracle not in self._counted:
            two, four = (self._count(oracle, rows) for rows in (2, 4))
            self._counted[oracle] = two - (four - two), (four - two) / 2
        fixed, each = self._counted[oracle]
        rows = np.asarray(samples, np.float64)
        return np.where(rows > 0, fixed + each * rows, 0.0)

    def _count(self, oracle: str, rows: int) -> float:
        """On meta tensors, which hold no numbers; on real ones where the forward wants numbers."""
        X_BF, y_B = self._some_rows(rows)
        try:
            return self._count_on("meta", oracle, X_BF, y_B)
        except RuntimeError:
            return self._count_on("cpu", oracle, X_BF, y_B)

    def _count_on(self, device: str, oracle: str, X_BF: Tensor, y_B: Tensor) -> float:
        from torch.utils.flop_counter import FlopCounterMode

        held = self._net, self._constants
        self._on(device, torch.float32)
        x_D = torch.zeros(self.dim, device=device)
        data = X_BF.to(device), y_B.to(device)
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                if oracle == "loss":
                    self.data_loss(x_D, *data)
                elif oracle == "gradient":
                    torch.func.grad(self.data_loss)(x_D, *data)
                else:
                    self._reverse_over_reverse(x_D, torch.ones_like(x_D), *data)
        finally:
            self._net, self._constants = held
        return float(counter.get_total_flops())

    def _some_rows(self, count: int) -> tuple[Tensor, Tensor]:
        """Training rows, over again where there are too few."""
        data = self._parts.dataset
        rows = np.arange(count) % len(data.train_y)
        cpu = torch.device("cpu")
        x_BF, y_B = self.feature_rows(data.train_x[rows], cpu, torch.float32), data.train_y[rows]
        return x_BF, self._targets(y_B, cpu, torch.float32)

    # ---- tensors -------------------------------------------------------------------------------------------------

    def load(self, device: Any, dtype: Any) -> None:
        super().load(device, dtype)
        self._on(device, dtype)
        if self.kernels != "loop":
            check_vmap(self)

    def _on(self, device: Any, dtype: Any) -> None:
        """A copy of the module there; its parameters are x at each call, its constants stay as they are."""
        self._net = copy.deepcopy(self.net).to(device, dtype)
        frozen = {name: p.detach() for name, p in self._net.named_parameters() if not p.requires_grad}
        self._constants = frozen | dict(self._net.named_buffers())

    def forward(self, p: dict[str, Tensor], X_BF: Tensor) -> Tensor:
        shaped = X_BF.reshape(-1, *self.input_shape)
        out: Tensor = torch.func.functional_call(self._net, {**self._constants, **p}, (shaped,))
        return out

    def output_losses(self, z: Tensor, y: Tensor) -> Tensor:
        return self._loss(z, y)

    def output_scores(self, z: Tensor, y: Tensor) -> dict[str, Tensor]:
        if not self._right:
            return {}
        if self._loss is _binary_cross_entropy:
            return {"accuracy": ((_column(z) > 0) == (y > 0)).to(z.dtype)}
        return super().output_scores(z, y)


# ---- losses of each row -------------------------------------------------------------------------------------------


def _loss_function(loss: Any, classes: int | None, base_dir: Path | None) -> Callable[[Tensor, Tensor], Tensor]:
    if callable(loss):
        given: Callable[[Tensor, Tensor], Tensor] = loss
        return given
    if ":" in loss:
        found: Callable[[Tensor, Tensor], Tensor] = registry.find("module", loss, base_dir, field="problem.loss")
        return found
    if loss not in LOSSES:
        raise ScenarioError(f"there are {', '.join(LOSSES)}; yours is 'file.py:loss'", field="problem.loss", value=loss)
    if loss == "squared_error":
        return _squared_error
    if classes is None or (loss == "binary_cross_entropy" and classes != 2):
        kind = "real numbers" if classes is None else f"{classes} classes"
        raise DataError(f"Module: loss {loss} does not go with labels that are {kind}")
    return _binary_cross_entropy if loss == "binary_cross_entropy" else _cross_entropy


def _cross_entropy(z: Tensor, y_B: Tensor) -> Tensor:
    loss = torch.nn.functional.cross_entropy(z, y_B, reduction="none")
    return loss if loss.ndim == 1 else loss.flatten(1).mean(1)


def _column(z: Tensor) -> Tensor:
    """(B, 1) as (B,)."""
    return z.squeeze(1) if z.ndim == 2 else z


def _squared_error(z: Tensor, y_B: Tensor) -> Tensor:
    return 0.5 * (_column(z) - y_B).square()


def _binary_cross_entropy(z: Tensor, y_B: Tensor) -> Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(_column(z), y_B.to(z.dtype), reduction="none")
