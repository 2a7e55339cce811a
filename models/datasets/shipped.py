"""Data that come with simnet; sources and terms in `embedded/README.md`."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from simnet.dataset import Dataset, class_numbers, hold_out
from simnet.errors import DataError
from simnet.models.datasets.libsvm import parse

_TRAINING_DIGITS = 1437


def digits(*, spread: float = 1.0, spread_seed: int = 123) -> Dataset:
    """8x8 handwritten digits: 64 features in [0, 1], 10 classes, 1,437 training and 360 test rows.

    Args:
        spread: above 1, pixel j is multiplied by exp(u_j), u_j uniform between -ln spread and ln spread: features so
            badly scaled as to need steps of their own, for adaptive methods.
        spread_seed: of the u_j, 64 numbers of numpy's RandomState.

    Raises:
        DataError: a spread below 1.
    """
    if not 1 <= spread < float("inf"):
        raise DataError(f"digits: spread = {spread}; give 1 (as they are) or more, such as 10")
    with files("simnet.models.datasets").joinpath("embedded/digits.npz").open("rb") as stream:
        rows = np.load(stream)["rows"]
    x, y, cut = np.ascontiguousarray(rows[:, :64] / 16.0), rows[:, 64].astype(np.int64), _TRAINING_DIGITS
    if spread > 1:
        x = x * np.exp(np.random.RandomState(spread_seed).uniform(-np.log(spread), np.log(spread), 64))
    licence = "CC BY 4.0; E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, doi:10.24432/C50P49"
    return Dataset("digits", x[:cut], y[:cut], x[cut:], y[cut:], 10, licence)


def heart_scale(*, test_fraction: float = 0.2) -> Dataset:
    """Heart disease or not: 13 features in [-1, 1], 2 classes, 270 rows, of which `test_fraction` are held out."""
    text = files("simnet.models.datasets").joinpath("embedded/heart_scale").read_bytes()
    x, y = parse(text, "heart_scale", features=13)
    train_x, train_y, test_x, test_y = hold_out(x, y, test_fraction, 0, "heart_scale")
    train, test, classes = class_numbers(train_y, test_y, "heart_scale")
    licence = "BSD 3-Clause (LIBSVM) and CC BY 4.0 (UCI, Statlog heart, doi:10.24432/C57303)"
    return Dataset("heart_scale", train_x, train, test_x, test, classes, licence)
