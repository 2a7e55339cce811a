"""A small convolutional network on square images."""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from simnet.dataset import Parts
from simnet.errors import InputError
from simnet.lazy import torch
from simnet.models.problems.data import Weighting, classification_parts
from simnet.models.problems.layered import LayeredProblem, normal_point

if TYPE_CHECKING:
    from torch import Tensor


class CNN(LayeredProblem):
    """Stages of a 3x3 convolution, ReLU and 2x2 max pooling, then a linear layer; cross entropy.

    a_0 = image; a_l = maxpool(relu(conv(a_(l-1), W_l) + b_l)) with padding 1, so that a stage halves the side
    (rounded down); z = V a_L + c. x = (conv1.weight, conv1.bias, ..., linear.weight, linear.bias), each as
    torch lays it out. First point: weights normal with variance 2 / fan-in (He et al., ICCV 2015), biases 0,
    one draw from `seed` for all nodes. FLOP of a call on B rows (convolutions and the matrix product, as torch
    runs them), with P multiply-adds a row of which P_1 in the first convolution: loss 2 B P, gradient
    2 B (3 P - P_1), hvp 2 B (9 P - 4 P_1).

    Args:
        parts: images as rows of side x side x image_channels numbers, channel by channel, with classes.
        seed: of the first point.
        channels: of each stage's output.
        image_channels: 1 for grey images, 3 for colour.
        l2: ridge coefficient on all parameters.
        weighting: f as the mean over nodes or over samples.

    Raises InputError where the rows are no square images, or too small for so many stages.
    """

    kink = "relu"

    def __init__(
        self,
        parts: Parts,
        seed: int = 0,
        *,
        channels: list[int] | None = None,
        image_channels: int = 1,
        l2: float = 0.0,
        weighting: Weighting = "nodes",
    ) -> None:
        data = classification_parts(parts, "CNN").dataset
        self.channels = [image_channels, *([8, 16] if channels is None else channels)]
        if min(self.channels) < 1 or len(self.channels) < 2:
            raise InputError(f"CNN: channels = {channels}, image_channels = {image_channels}; give at least 1 of each")
        side = math.isqrt(data.features // image_channels)
        if image_channels * side * side != data.features:
            raise InputError(
                f"CNN: rows of {data.name} have {data.features} numbers, which make no square image of"
                f" {image_channels} channels; use MLP, or a Module of your own"
            )
        self.sides = [side >> stage for stage in range(len(self.channels))]
        if self.sides[-1] < 1:
            raise InputError(
                f"CNN: {len(self.channels) - 1} stages halve {side} x {side} images to nothing; take fewer"
            )
        self.classes, self.seed, self._parts = int(data.classes or 0), seed, parts
        dim = sum(math.prod(shape) for shape in self.shapes.values())
        super().__init__(parts.sizes, dim, has_test=data.has_test, l2=l2, weighting=weighting)
        # kept for the derivative: input, convolution and ReLU of each stage, and what pooling chose
        self._widest = data.features + sum(3 * c * s * s for c, s in zip(self.channels[1:], self.sides, strict=False))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for stage, (inner, outer) in enumerate(pairwise(self.channels), 1):
            shapes |= {f"conv{stage}.weight": (outer, inner, 3, 3), f"conv{stage}.bias": (outer,)}
        flat = self.channels[-1] * self.sides[-1] ** 2
        return shapes | {"linear.weight": (self.classes, flat), "linear.bias": (self.classes,)}

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        stages = [9 * i * o * s * s for (i, o), s in zip(pairwise(self.channels), self.sides, strict=False)]
        all_ = sum(stages) + math.prod(self.shapes["linear.weight"])
        products = {"loss": all_, "gradient": 3 * all_ - stages[0], "hvp": 9 * all_ - 4 * stages[0]}[oracle]
        return 2.0 * products * np.asarray(samples, np.float64)

    def initial_point(self, name: str) -> np.ndarray:
        std = {tensor: math.sqrt(2.0 / math.prod(shape[1:])) for tensor, shape in self.shapes.items() if len(shape) > 1}
        return normal_point(self.shapes, std, self.seed, "CNN")

    def forward(self, p: dict[str, Tensor], X_BF: Tensor) -> Tensor:
        functional = torch.nn.functional
        a = X_BF.reshape(-1, self.channels[0], self.sides[0], self.sides[0])
        for stage in range(1, len(self.channels)):
            z = functional.conv2d(a, p[f"conv{stage}.weight"], p[f"conv{stage}.bias"], padding=1)
            a = functional.max_pool2d(torch.relu(z), 2)
        return functional.linear(a.flatten(1), p["linear.weight"], p["linear.bias"])
