"""A multilayer perceptron with ReLU or tanh between its layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from simnet import streams
from simnet.dataset import Parts
from simnet.errors import InputError
from simnet.lazy import torch
from simnet.models.problems.activations import ACTIVATIONS, ActivationName
from simnet.models.problems.data import DataProblem, Weighting, classification_parts
from simnet.models.problems.softmax import cross_entropy, cross_entropy_slope, softmax_hessian

if TYPE_CHECKING:
    from torch import Tensor


class MLP(DataProblem):
    """Cross entropy of z = W_L s(... s(W_1 a + b_1) ...) + b_L with an activation s.

    x = (W_1, b_1, W_2, b_2, ...), W_l row by row: the order of `torch.nn.Linear`'s parameters. D = sum over layers of
    out (in + 1). First point: W_l normal with variance 2/in for relu (He et al., ICCV 2015) and 1/in for tanh (LeCun et
    al., 1998), b_l = 0, one draw from `seed` for all nodes. FLOP of a call on B rows (matrix products only), with
    P_l = in_l out_l and P = sum_l P_l: loss 2 B P, gradient 2 B (3 P - P_1) (no derivative for the data), hvp
    2 B (8 P - 5 P_1).

    Args:
        parts: rows with classes and who holds them.
        seed: of the first point.
        hidden: width of the hidden layer, or of each of them.
        activation: `relu`, or `tanh`, which has second derivatives everywhere.
        l2: ridge coefficient on all parameters.
        weighting: f as the mean over nodes or over samples.
    """

    def __init__(
        self,
        parts: Parts,
        seed: int = 0,
        *,
        hidden: int | list[int] = 32,
        activation: ActivationName = "relu",
        l2: float = 0.0,
        weighting: Weighting = "nodes",
    ) -> None:
        data = classification_parts(parts, "MLP").dataset
        widths: Sequence[int] = [hidden] if isinstance(hidden, int) else hidden
        if not widths or min(widths) < 1:
            raise InputError(f"MLP: hidden = {hidden}; give a width of at least 1, or a list of them")
        self.widths = [data.features, *widths, int(data.classes or 0)]
        self.layers = list(pairwise(self.widths))  # (in, out) of each
        ends = np.cumsum([out * (inner + 1) for inner, out in self.layers])
        self._starts = [0, *(int(end) for end in ends[:-1])]
        super().__init__(parts.sizes, int(ends[-1]), has_test=data.has_test, l2=l2, weighting=weighting)
        self._parts, self.seed = parts, seed
        self.activation = ACTIVATIONS[activation]
        self.kink, self._spread = self.activation.kink, 2.0 if activation == "relu" else 1.0

    def parts(self) -> Parts:
        return self._parts

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (inner, out) in enumerate(self.layers, 1):
            shapes |= {f"layer{number}.weight": (out, inner), f"layer{number}.bias": (out,)}
        return shapes

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        first, all_ = self.layers[0][0] * self.layers[0][1], sum(inner * out for inner, out in self.layers)
        products = {"loss": all_, "gradient": 3 * all_ - first, "hvp": 8 * all_ - 5 * first}[oracle]
        return 2.0 * products * np.asarray(samples, np.float64)

    def initial_point(self, name: str) -> np.ndarray:
        x_D = np.zeros(self.dim)
        for number, (start, (inner, out)) in enumerate(zip(self._starts, self.layers, strict=True)):
            key = np.array([streams.key(self.seed, "MLP first point", number)], np.uint64)
            x_D[start : start + inner * out] = streams.normal(key, inner * out)[0] * np.sqrt(self._spread / inner)
        return x_D

    def widest(self) -> int:
        return max(self.widths)

    def _views(self, x_SD: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(W_l (S, out, in), b_l (S, out)) of each layer, as views."""
        views = []
        for start, (inner, out) in zip(self._starts, self.layers, strict=True):
            cut = start + inner * out
            views.append((x_SD[:, start:cut].view(-1, out, inner), x_SD[:, cut : cut + out]))
        return views

    def outputs(self, x_SD: Tensor, X_SBF: Tensor) -> Tensor:
        (*hidden, (w, b)) = self._views(x_SD)
        a = X_SBF
        for v, c in hidden:
            a = self.activation.applied(torch.baddbmm(c[:, None], a, v.mT))
        return torch.baddbmm(b[:, :, None], w, a.mT)

    def row_losses(self, z_SCB: Tensor, y_SB: Tensor) -> Tensor:
        return cross_entropy(z_SCB, y_SB)

    def scores(self, z_KCM: Tensor, y_M: Tensor) -> dict[str, Tensor]:
        return {"accuracy": (z_KCM.argmax(1) == y_M).sum(1)}

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        """Backpropagation: dz_L = softmax(z) - onehot(y); dz_l = s'(z_l) dz_(l+1) W_(l+1); dW_l = dz_l' a_(l-1).

        Activations are (S, B, width); z and dz of the last layer (S, C, B).
        """
        (*hidden, (w, b)) = self._views(x_SD)
        activations = [data[0]]
        for layer, (v, c) in enumerate(hidden):
            activations.append(self.activation.applied(self.affine(f"a{layer}", c[:, None], activations[-1], v.mT)))
        z_SCB = self.affine("z", b[:, :, None], w, activations[-1].mT)
        dz_SOB = self.weigh(cross_entropy_slope(z_SCB, data[1]), data)  # O: the width of a layer's output
        for layer, (gw, gb) in reversed(list(enumerate(self._views(out)))):
            gw.copy_(self.product("gw", dz_SOB, activations[layer]))  # quicker than a product into strided rows
            torch.sum(dz_SOB, 2, out=gb)
            if layer:
                da_SBO = self.product(f"da{layer}", dz_SOB.mT, w)
                dz_SOB = self.activation.back(da_SBO, activations[layer]).mT
                w = hidden[layer - 1][0]
        self.ridge(out, x_SD)

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        """Pearlmutter's R operator (Neural Computation 6, 1994): the derivative of backpropagation along v.

        With R of a quantity its derivative along v, and (V_l, c_l) the layers of v: Rz_l = Ra_(l-1) W_l' +
        a_(l-1) V_l' + c_l, Ra_l = s'(z_l) Rz_l; Rdz_L = (diag(p) - p p') Rz_L, RdW_l = Rdz_l' a_(l-1) + dz_l' Ra_(l-1),
        da_l = dz_(l+1) W_(l+1), Rda_l = Rdz_(l+1) W_(l+1) + dz_(l+1) V_(l+1), Rdz_l = s'(z_l) Rda_l + R(s'(z_l)) da_l.
        """
        (*hidden, (w, b)), (*along, (v, c)) = self._views(x_SD), self._views(v_SD)
        a, ra = [data[0]], [data[0]]  # ra[0] is never read: the data do not move
        for layer, ((w_l, b_l), (v_l, c_l)) in enumerate(zip(hidden, along, strict=True)):
            rz = torch.baddbmm(c_l[:, None], a[-1], v_l.mT)
            if layer:
                rz = torch.baddbmm(rz, ra[-1], w_l.mT)
            a.append(self.activation.applied(torch.baddbmm(b_l[:, None], a[-1], w_l.mT)))
            ra.append(self.activation.along(rz, a[-1]))
        z_SCB = torch.baddbmm(b[:, :, None], w, a[-1].mT)
        rz_SCB = torch.baddbmm(torch.baddbmm(c[:, :, None], v, a[-1].mT), w, ra[-1].mT)
        rdz_SOB = self.weigh(softmax_hessian(torch.softmax(z_SCB, 1), rz_SCB), data)
        dz_SOB = self.weigh(cross_entropy_slope(z_SCB, data[1]), data)
        for layer, (gw, gb) in reversed(list(enumerate(self._views(out)))):
            product = torch.bmm(rdz_SOB, a[layer])
            gw.copy_(torch.baddbmm(product, dz_SOB, ra[layer]) if layer else product)
            torch.sum(rdz_SOB, 2, out=gb)
            if layer:
                rda, da = torch.baddbmm(torch.bmm(rdz_SOB.mT, w), dz_SOB.mT, v), torch.bmm(dz_SOB.mT, w)
                rdz_SOB = self.activation.back_along(rda, da, a[layer], ra[layer]).mT
                dz_SOB = self.activation.back(da, a[layer]).mT
                w, v = hidden[layer - 1][0], along[layer - 1][0]
        self.ridge(out, v_SD)
