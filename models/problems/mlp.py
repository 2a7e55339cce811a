"""A multilayer perceptron with ReLU between its layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from simnet import streams
from simnet.dataset import Parts
from simnet.errors import InputError
from simnet.lazy import torch
from simnet.models.problems.data import DataProblem, Weighting, classification_parts
from simnet.models.problems.softmax import cross_entropy, cross_entropy_slope, softmax_hessian

if TYPE_CHECKING:
    from torch import Tensor


class MLP(DataProblem):
    """Cross entropy of z = W_L relu(... relu(W_1 a + b_1) ...) + b_L; x = (W_1, b_1, W_2, b_2, ...), W_l row by row.

    That is the order of `torch.nn.Linear`'s parameters. D = sum over layers of out (in + 1).
    First point: W_l normal with variance 2/in (He et al., ICCV 2015), b_l = 0, one draw from `seed` for all nodes.
    FLOP of a call on B rows (matrix products only), with P_l = in_l out_l and P = sum_l P_l: loss 2 B P, gradient
    2 B (3 P - P_1) (no derivative for the data), hvp 2 B (8 P - 5 P_1).

    Args:
        parts: rows with classes and who holds them.
        seed: of the first point.
        hidden: width of the hidden layer, or of each of them.
        l2: ridge coefficient on all parameters.
        weighting: f as the mean over nodes or over samples.
    """

    def __init__(
        self,
        parts: Parts,
        seed: int = 0,
        *,
        hidden: int | list[int] = 32,
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

    def parts(self) -> Parts:
        return self._parts

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        first, all_ = self.layers[0][0] * self.layers[0][1], sum(inner * out for inner, out in self.layers)
        products = {"loss": all_, "gradient": 3 * all_ - first, "hvp": 8 * all_ - 5 * first}[oracle]
        return 2.0 * products * np.asarray(samples, np.float64)

    def initial_point(self, name: str) -> np.ndarray:
        x_D = np.zeros(self.dim)
        for number, (start, (inner, out)) in enumerate(zip(self._starts, self.layers, strict=True)):
            key = np.array([streams.key(self.seed, "MLP first point", number)], np.uint64)
            x_D[start : start + inner * out] = streams.normal(key, inner * out)[0] * np.sqrt(2.0 / inner)
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
        *hidden, last = self._views(x_SD)
        a = X_SBF
        for w, b in hidden:
            a = torch.baddbmm(b[:, None], a, w.mT).relu_()
        return torch.baddbmm(last[1][:, None], a, last[0].mT)

    def row_losses(self, z_SBC: Tensor, y_SB: Tensor) -> Tensor:
        return cross_entropy(z_SBC, y_SB)

    def scores(self, z_KMC: Tensor, y_M: Tensor) -> dict[str, Tensor]:
        return {"accuracy": (z_KMC.argmax(2) == y_M).sum(1)}

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        """Backpropagation: dz_L = softmax(z) - onehot(y); dz_(l-1) = (dz_l W_l) where a_(l-1) > 0; dW_l = dz_l' a_(l-1)."""
        views = self._views(x_SD)
        activations = [data[0]]
        for w, b in views[:-1]:
            activations.append(torch.baddbmm(b[:, None], activations[-1], w.mT).relu_())
        w, b = views[-1]
        dz = self.weigh(cross_entropy_slope(torch.baddbmm(b[:, None], activations[-1], w.mT), data[1]), data)
        for layer in range(len(views) - 1, -1, -1):
            start, (inner, width) = self._starts[layer], self.layers[layer]
            cut, a = start + inner * width, activations[layer]
            out[:, start:cut].view(-1, width, inner).baddbmm_(dz.mT, a, beta=0)
            torch.sum(dz, 1, out=out[:, cut : cut + width])
            if layer:
                dz = torch.bmm(dz, views[layer][0]).mul_(a > 0)
        self.ridge(out, x_SD)

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        """Pearlmutter's R operator (Neural Computation 6, 1994): the derivative of backpropagation along v.

        With R of a quantity its derivative along v: Rz_l = Ra_(l-1) W_l' + a_(l-1) V_l' + vb_l, Ra_l = Rz_l where a_l > 0,
        Rdz_L = (diag(p) - p p') Rz_L, RdW_l = Rdz_l' a_(l-1) + dz_l' Ra_(l-1), Rdz_(l-1) = Rdz_l W_l + dz_l V_l where
        a_(l-1) > 0.
        """
        views, along = self._views(x_SD), self._views(v_SD)
        activations, slopes, masks = [data[0]], [data[0]], []  # slopes[0] is never read: the data do not move
        z = rz = data[0]
        for layer, ((w, b), (v, vb)) in enumerate(zip(views, along, strict=True)):
            z = torch.baddbmm(b[:, None], activations[-1], w.mT)
            rz = torch.baddbmm(vb[:, None], activations[-1], v.mT)
            if layer:
                rz = torch.baddbmm(rz, slopes[-1], w.mT)
            if layer < len(views) - 1:
                masks.append(z > 0)
                activations.append(z.relu_())
                slopes.append(rz.mul_(masks[-1]))
        rdz = self.weigh(softmax_hessian(torch.softmax(z, 2), rz), data)
        dz = self.weigh(cross_entropy_slope(z, data[1]), data)
        for layer, (gw, gb) in reversed(list(enumerate(self._views(out)))):
            gw.baddbmm_(rdz.mT, activations[layer], beta=0)
            torch.sum(rdz, 1, out=gb)
            if layer:
                gw.baddbmm_(dz.mT, slopes[layer])
                rdz = torch.baddbmm(torch.bmm(rdz, views[layer][0]), dz, along[layer][0]).mul_(masks[layer - 1])
                dz = torch.bmm(dz, views[layer][0]).mul_(masks[layer - 1])
        self.ridge(out, v_SD)
