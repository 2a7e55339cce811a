"""What a torch.nn.Module must not do in its forward, found before any work starts, each with its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simnet.errors import InputError
from simnet.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from simnet.models.problems.module import Module

_SAME = 1e-3  # relative: rows in a batch against the same rows in a smaller one, float32


def refuse_batch_norm(net: nn.Module) -> None:
    """InputError for batch norm in training mode; constants of the evaluation mode are welcome."""
    for name, part in net.named_modules():
        if not isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            continue
        if part.training and part.track_running_stats:
            raise InputError(
                f"{type(net).__name__}: {name or 'it'} is {type(part).__name__}, whose running statistics change in"
                " every forward: they would be state of a node that is neither in x nor sent to anyone."
                " Use GroupNorm or LayerNorm, or 'mode: eval', which keeps the running statistics as they come,"
                " as constants"
            )


def check_rows(problem: Module, X_BF: Tensor, y_B: Tensor) -> int:
    """Runs the forward on a few rows, and refuses one that draws, remembers, or ties rows together.

    Returns how many numbers autograd keeps for a row.
    """
    title, x_D = problem.title, torch.as_tensor(problem.initial_point("x"), dtype=torch.float32)
    before = {name: buffer.clone() for name, buffer in problem._constants.items()}
    random = torch.get_rng_state()
    kept: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        kept[saved.data_ptr()] = saved.numel()
        return saved

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            p = {name: part.clone().requires_grad_(True) for name, part in problem.named(x_D).items()}
            z = problem.forward(p, X_BF)
            loss_B = problem.output_losses(z, problem.targets(X_BF, y_B))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise InputError(
            f"{title} does not take rows of shape {(len(X_BF), *problem.input_shape)} with the loss that is asked for:"
            f" {_first_line(error)}. Give input_shape as the module wants one row, and a loss that fits its outputs"
        ) from error
    if not torch.equal(random, torch.get_rng_state()):
        torch.set_rng_state(random)
        raise InputError(
            f"{title} draws random numbers in its forward (dropout, noise): nodes could not see the same numbers"
            " in every run. Set dropout to 0, or use 'mode: eval', which switches it off"
        )
    for name, buffer in problem._constants.items():
        if not torch.equal(before[name], buffer):
            raise InputError(
                f"{title}: its buffer {name!r} changes in the forward: it would be state of a node that is neither in x"
                " nor sent to anyone. Compute it from the parameters, or use 'mode: eval' where that keeps it"
            )
    if not isinstance(z, torch.Tensor):
        raise InputError(f"{title}: its forward gives a {type(z).__name__}; it must give one tensor")
    if loss_B.shape != y_B.shape:
        raise InputError(
            f"{title}: outputs of shape {tuple(z.shape)} give losses of shape {tuple(loss_B.shape)}; there must be one"
            f" for each of {len(y_B)} rows"
        )
    with torch.no_grad():
        two = problem.forward(problem.named(x_D), X_BF[:2])
    scale = float(z.detach().abs().max()) + 1e-6
    if two.shape[1:] != z.shape[1:] or float((two - z.detach()[:2]).abs().max()) > _SAME * scale:
        raise InputError(
            f"{title}: a row's output depends on the other rows of its batch (batch norm without running statistics"
            " does so), and f_i is a mean over rows. Normalise within a row: GroupNorm, LayerNorm"
        )
    own = {part.data_ptr() for part in p.values()} | {X_BF.data_ptr()}
    return -(-sum(size for pointer, size in kept.items() if pointer not in own) // len(X_BF))


def check_vmap(problem: Module) -> None:
    """InputError, with the way out, where vmap cannot run the module for several nodes at once."""
    X_BF, y_B = problem._X_MF[:2], problem._y_M[:2]
    x_SD = problem.initial("x").expand(2, -1)
    try:
        torch.func.vmap(torch.func.grad(problem.data_loss))(
            x_SD, X_BF.expand(2, *X_BF.shape), y_B.expand(2, *y_B.shape)
        )
    except RuntimeError as error:
        said = str(error)
        ways = "or set 'execution.kernels: loop', which takes the nodes one by one, slower"
        if "data-dependent" in said or ".item()" in said:
            raise InputError(
                f"{problem.title}: its forward decides by the value of a tensor (if, while, int(), .item()), and vmap"
                f" runs it once for many nodes whose values differ. Write the choice with torch.where, {ways}"
            ) from error
        raise InputError(
            f"{problem.title}: vmap cannot run its forward: {_first_line(error)}. Write it with functions that vmap"
            f" knows (one_hot, for one, is (a[..., None] == torch.arange(C))), {ways}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


_STRAIGHT = ("relu", "leaky_relu", "prelu", "rrelu", "hardtanh", "hardsigmoid", "hardswish", "threshold")


def kink_of(problem: Module, X_BF: Tensor) -> str:
    """The first function that a forward pass runs which has no second derivative at its kinks; empty for none."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(func.overloadpacket.__name__.rstrip("_"))
            return func(*args, **(kwargs or {}))

    names: list[str] = []
    with torch.no_grad(), Seen():
        problem.forward(problem.named(torch.as_tensor(problem.initial_point("x"), dtype=torch.float32)), X_BF)
    return next((name for name in names if name in _STRAIGHT), "")
