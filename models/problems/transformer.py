"""A tiny transformer that predicts the next character."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from simnet.dataset import Parts
from simnet.errors import DataError, InputError
from simnet.lazy import torch
from simnet.models.problems.data import Weighting
from simnet.models.problems.layered import LayeredProblem, normal_point

if TYPE_CHECKING:
    from torch import Tensor


class Transformer(LayeredProblem):
    """A causal transformer over blocks of T characters; cross entropy of the next character at each of the T places.

    h = E[a] + P; in each layer h += O attention(norm(h)) and h += M_2 s(M_1 norm(h) + m_1) + m_2 (norms
    first, as GPT-2 has them); z = U norm(h), untied from E. Attention has `heads` heads, softmax(q k' / sqrt(width
    / heads)) v over the places up to one's own. norm: mean 0 and variance 1 over the width, then a scale and a
    shift. x = (embedding, position, then by layer norm1, qkv, out, norm2, up, down, then norm, unembedding);
    a row's loss is the mean over its T places, `accuracy` the share of places where the likeliest character is
    right.

    Vocabulary C, width E, layers L: forward P = L (12 T E^2 + 2 T^2 E) + T E C multiply-adds a row. FLOP of a
    call on B rows (matrix products): loss 2 B P, gradient 6 B P, hvp 18 B P. First point: matrices normal with
    standard deviation 0.02 (`out` and `down` divided by sqrt(2 L)), scales 1, the rest 0 (Radford et al.,
    2019), one draw from `seed` for all nodes.

    Args:
        parts: rows of T character numbers (int64), each with the character that follows: `data: text`.
        seed: of the first point.
        width: E.
        heads: divides `width`.
        layers: L.
        activation: s, `relu`, or `gelu` (as GPT-2), which has second derivatives everywhere.
        l2: ridge coefficient on all parameters.
        weighting: f as the mean over nodes or over samples.
    """

    def __init__(
        self,
        parts: Parts,
        seed: int = 0,
        *,
        width: int = 32,
        heads: int = 4,
        layers: int = 2,
        activation: Literal["relu", "gelu"] = "relu",
        l2: float = 0.0,
        weighting: Weighting = "nodes",
    ) -> None:
        data = parts.dataset
        if not np.issubdtype(data.train_x.dtype, np.integer) or data.classes is None:
            raise DataError(f"Transformer reads characters, and the rows of {data.name} are none; use 'data: text'")
        if min(width, heads, layers) < 1 or width % heads:
            raise InputError(
                f"Transformer: width = {width}, heads = {heads}, layers = {layers}; heads divide the width"
            )
        self.activation, self.kink = activation, "relu" if activation == "relu" else ""
        self.places, self.classes = data.features, data.classes
        self.width, self.heads, self.layers, self.seed, self._parts = width, heads, layers, seed, parts
        dim = sum(math.prod(shape) for shape in self.shapes.values())
        super().__init__(parts.sizes, dim, has_test=data.has_test, l2=l2, weighting=weighting)
        # kept for the derivative: some 18 numbers a place and width, two attention tables a head; logits twice
        self._widest = self.places * (layers * (18 * width + 2 * heads * self.places) + 2 * self.classes)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        e = self.width
        shapes: dict[str, tuple[int, ...]] = {"embedding": (self.classes, e), "position": (self.places, e)}
        for layer in range(self.layers):
            block = {
                "norm1.weight": (e,), "norm1.bias": (e,), "qkv.weight": (3 * e, e), "qkv.bias": (3 * e,),
                "out.weight": (e, e), "out.bias": (e,), "norm2.weight": (e,), "norm2.bias": (e,),
                "up.weight": (4 * e, e), "up.bias": (4 * e,), "down.weight": (e, 4 * e), "down.bias": (e,),
            }  # fmt: skip
            shapes |= {f"layer{layer}.{name}": shape for name, shape in block.items()}
        return shapes | {"norm.weight": (e,), "norm.bias": (e,), "unembedding": (self.classes, e)}

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        t, e = self.places, self.width
        products = self.layers * (12 * t * e * e + 2 * t * t * e) + t * e * self.classes
        return {"loss": 2.0, "gradient": 6.0, "hvp": 18.0}[oracle] * products * np.asarray(samples, np.float64)

    def initial_point(self, name: str) -> np.ndarray:
        deep = 0.02 / math.sqrt(2 * self.layers)
        last = ("out.weight", "down.weight")
        std = {n: deep if n.endswith(last) else 0.02 for n, shape in self.shapes.items() if len(shape) == 2}
        x_D = normal_point(self.shapes, std, self.seed, "Transformer")
        for tensor, cut in self.slices.items():
            if tensor.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
                x_D[cut] = 1.0
        return x_D

    def targets(self, X_BF: Tensor, y_B: Tensor) -> Tensor:
        """The characters one place on: (B, T)."""
        return torch.cat([X_BF[:, 1:], y_B[:, None]], 1)

    def forward(self, p: dict[str, Tensor], X_BF: Tensor) -> Tensor:
        """Logits (B, C, T). H heads of width K; a row's places T."""
        functional = torch.nn.functional
        h_BTE = functional.embedding(X_BF, p["embedding"]) + p["position"]
        later_TT = torch.ones(self.places, self.places, dtype=torch.bool, device=h_BTE.device).triu(1)

        def norm(h: Tensor, name: str) -> Tensor:
            return functional.layer_norm(h, (self.width,), p[f"{name}.weight"], p[f"{name}.bias"])

        def linear(h: Tensor, name: str) -> Tensor:
            return functional.linear(h, p[f"{name}.weight"], p[f"{name}.bias"])

        for layer in range(self.layers):
            at = f"layer{layer}"
            qkv = linear(norm(h_BTE, f"{at}.norm1"), f"{at}.qkv")
            q_BHTK, k_BHTK, v_BHTK = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
            score_BHTT = q_BHTK @ k_BHTK.mT / math.sqrt(self.width // self.heads)
            seen_BHTK = torch.softmax(score_BHTT.masked_fill(later_TT, -math.inf), -1) @ v_BHTK
            h_BTE = h_BTE + linear(seen_BHTK.transpose(1, 2).flatten(2), f"{at}.out")
            up = linear(norm(h_BTE, f"{at}.norm2"), f"{at}.up")
            h_BTE = h_BTE + linear(getattr(functional, self.activation)(up), f"{at}.down")
        return functional.linear(norm(h_BTE, "norm"), p["unembedding"]).mT
