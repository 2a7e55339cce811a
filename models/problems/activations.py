"""Activations of hidden layers with their first and second derivatives, for models with closed forms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from simnet.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

ActivationName = Literal["relu", "tanh"]


class Activation(ABC):
    """a = s(z), elementwise. `kink`: its name where it has no second derivative, else empty."""

    kink: ClassVar[str] = ""

    @abstractmethod
    def applied(self, z: Tensor) -> Tensor:
        """s(z), in the memory of z."""

    @abstractmethod
    def back(self, da: Tensor, a: Tensor) -> Tensor:
        """s'(z) da, in the memory of da; s' as a function of a = s(z)."""

    @abstractmethod
    def along(self, rz: Tensor, a: Tensor) -> Tensor:
        """The derivative of a when z moves by rz: s'(z) rz."""

    @abstractmethod
    def back_along(self, rda: Tensor, da: Tensor, a: Tensor, ra: Tensor) -> Tensor:
        """The derivative of s'(z) da when da moves by rda and a by ra."""


class ReLU(Activation):
    """max(z, 0); its derivative at 0 is 0, and its second derivative is taken to be 0."""

    kink = "relu"

    def applied(self, z: Tensor) -> Tensor:
        return z.relu_()

    def back(self, da: Tensor, a: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward.grad_input(da, a, 0, grad_input=da)

    def along(self, rz: Tensor, a: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(rz, a, 0)

    def back_along(self, rda: Tensor, da: Tensor, a: Tensor, ra: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(rda, a, 0)


class Tanh(Activation):
    """tanh z, whose derivative is 1 - a^2."""

    def applied(self, z: Tensor) -> Tensor:
        return z.tanh_()

    def back(self, da: Tensor, a: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward.grad_input(da, a, grad_input=da)

    def along(self, rz: Tensor, a: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward(rz, a)

    def back_along(self, rda: Tensor, da: Tensor, a: Tensor, ra: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward(rda, a).addcmul_(a * ra, da, value=-2.0)


ACTIVATIONS: dict[ActivationName, Activation] = {"relu": ReLU(), "tanh": Tanh()}
