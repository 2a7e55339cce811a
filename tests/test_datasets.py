"""Datasets: what ships, every loader on sound and broken files, and the real files with their quirks."""

from __future__ import annotations

import bz2
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simnet.dataset import Dataset, Parts
from simnet.errors import DataError
from simnet.models.datasets import libsvm as libsvm_file
from simnet.models.datasets.idx import idx
from simnet.models.datasets.libsvm import libsvm
from simnet.models.datasets.shipped import digits, heart_scale
from simnet.models.datasets.tables import csv, npz
from tests.shared import shared_dir


def test_digits_are_scikit_learns_in_a_fixed_order() -> None:
    data = digits()
    assert data.train_x.shape == (1437, 64) and data.test_x.shape == (360, 64)
    assert data.classes == 10 and data.train_x.min() == 0 and data.train_x.max() == 1
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    assert np.array_equal(np.vstack([data.train_x, data.test_x]), x[order] / 16)
    assert np.array_equal(np.append(data.train_y, data.test_y), y[order])


def test_badly_scaled_digits_have_a_factor_for_each_pixel() -> None:
    plain, badly = digits(), digits(spread=10)
    factor = np.exp(np.random.RandomState(123).uniform(-np.log(10), np.log(10), 64))
    np.testing.assert_array_equal(badly.train_x, plain.train_x * factor)
    np.testing.assert_array_equal(badly.test_x, plain.test_x * factor)
    assert factor.min() < 0.15 and factor.max() > 9 and np.array_equal(plain.train_x, digits(spread=1).train_x)
    assert not np.array_equal(badly.train_x, digits(spread=10, spread_seed=4).train_x)
    with pytest.raises(DataError, match="spread = 0.5; give 1"):
        digits(spread=0.5)


def test_heart_scale_has_two_classes_and_zeros_for_what_it_leaves_out() -> None:
    data = heart_scale(test_fraction=0.0)
    assert data.train_x.shape == (270, 13) and not data.has_test and data.classes == 2
    assert np.bincount(data.train_y).tolist() == [150, 120]
    assert np.abs(data.train_x).max() == 1 and data.train_x[0, 10] == 0  # row 1 has no feature 11
    assert heart_scale().test_x.shape == (54, 13)


# ---- LIBSVM ------------------------------------------------------------------------------------------------------


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([-1, 1]), st.dictionaries(st.integers(1, 9), st.floats(-1e6, 1e6), max_size=5)),
        min_size=1,
        max_size=8,
    ),
    end=st.sampled_from(["\n", "\r\n", " \n", "\n\n", " # a comment\n"]),
)
def test_libsvm_text_round_trips(rows: list[tuple[int, dict[int, float]]], end: str) -> None:
    text = "".join(f"{y:+d} " + " ".join(f"{i}:{v!r}" for i, v in sorted(x.items())) + end for y, x in rows)
    got_x, got_y = libsvm_file.parse(text.encode(), "text", features=9)
    wanted = np.zeros((len(rows), 9))
    for r, (_, x) in enumerate(rows):
        for i, v in x.items():
            wanted[r, i - 1] = v
    assert np.array_equal(got_x, wanted) and got_y.tolist() == [y for y, _ in rows]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("+1 1:2\nyes 1:2\n", "line 2: 'yes' is not a label"),
        ("+1 1:2\n\n-1 1:2 x\n", "line 3: 'x' is not 'index:value'"),
        ("+1 1:2\n-1 1:\n", "line 2: '1:' is not 'index:value'"),
        ("+1 1:2:3 4\n", "line 1: '1:2:3' is not 'index:value'"),
        ("+1 0:2\n", "line 1: feature index 0; LIBSVM counts features from 1"),
        ("+1 1:1\n-1 3:2 2:1\n", "line 2: feature index 2 after 3; must ascend"),
        ("+1 1:1\n-1 2:nan\n", "line 2: a value that is not finite"),
        ("inf 1:1\n", "line 1: a label that is not finite"),
        ("+1 1:1\n-1 4:1\n", "line 2: feature index 4 exceeds features = 3"),
        ("\n\n", "no rows"),
        ("\x00\x01\x02", "line 1: .* is not a label"),
    ],
)
def test_a_corrupt_libsvm_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad").write_text(text)
    with pytest.raises(DataError, match=message):
        libsvm("bad", features=3, base_dir=tmp_path)


def test_libsvm_reads_compressed_files_and_refuses_broken_ones(tmp_path: Path) -> None:
    text = b"1 1:0.5\n2 2:1\n1 1:2\n"
    for name, packed in (("a.gz", gzip.compress(text)), ("a.bz2", bz2.compress(text))):
        (tmp_path / name).write_bytes(packed)
        assert libsvm(name, test_fraction=0, base_dir=tmp_path).train_x.tolist() == [[0.5, 0], [0, 1], [2, 0]]
        (tmp_path / name).write_bytes(packed[:-3])
        with pytest.raises(DataError, match="not a sound"):
            libsvm(name, base_dir=tmp_path)


def test_libsvm_labels_may_be_real(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("0.5 1:1\n1.25 1:2\n")
    assert libsvm("r", test_fraction=0, base_dir=tmp_path).classes is None
    (tmp_path / "w").write_text("3 1:1\n5 1:2\n")
    assert libsvm("w", test_fraction=0, base_dir=tmp_path).train_y.tolist() == [0, 1]
    assert libsvm("w", test_fraction=0, labels="values", base_dir=tmp_path).train_y.tolist() == [3.0, 5.0]


@pytest.mark.parametrize(
    ("name", "test", "train_shape", "test_rows", "zero_rows"),
    [
        ("a9a.txt", "a9a.t", (32561, 123), 16281, 0),
        ("agaricus.txt.train", "agaricus.txt.test", (6513, 126), 1611, 0),
        ("w8a", None, (49749, 300), 0, 4203),
        ("heart_scale", None, (270, 13), 0, 0),
    ],
)
def test_real_libsvm_files(
    name: str, test: str | None, train_shape: tuple[int, int], test_rows: int, zero_rows: int
) -> None:
    folder = shared_dir() / "data" / "libsvm"
    data = libsvm(name, test=test, test_fraction=0, base_dir=folder)
    assert data.train_x.shape == train_shape and len(data.test_y) == test_rows and data.classes == 2
    assert int((~data.train_x.any(1)).sum()) == zero_rows
    assert set(np.unique(data.train_y)) == {0, 1}


def test_a_test_file_alone_needs_its_number_of_features() -> None:
    folder = shared_dir() / "data" / "libsvm"
    assert libsvm("a9a.t", base_dir=folder).features == 122
    assert libsvm("a9a.t", features=123, base_dir=folder).features == 123


# ---- IDX ---------------------------------------------------------------------------------------------------------


def write_idx(path: Path, array: np.ndarray, kind: int = 8) -> Path:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())
    return path


def test_idx_images_become_rows_in_zero_to_one(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    write_idx(tmp_path / "x", images)
    write_idx(tmp_path / "y", np.array([0, 1, 1, 0], np.uint8))
    data = idx("x", "y", test_fraction=0, base_dir=tmp_path)
    assert np.array_equal(data.train_x, images.reshape(4, 6).astype(np.float32) / np.float32(255))
    (tmp_path / "x.gz").write_bytes(gzip.compress((tmp_path / "x").read_bytes()))
    both = idx("x.gz", "y", test_images="x", test_labels="y", base_dir=tmp_path)
    assert np.array_equal(both.train_x, both.test_x)
    write_idx(tmp_path / "f", images.astype(">f4"), 0x0D)
    assert idx("f", "y", test_fraction=0, base_dir=tmp_path).train_x.max() == 23


def test_corrupt_idx_files_are_refused_with_the_byte(tmp_path: Path) -> None:
    good = write_idx(tmp_path / "x", np.zeros((4, 2, 2), np.uint8)).read_bytes()
    write_idx(tmp_path / "y", np.zeros(3, np.uint8))
    with pytest.raises(DataError, match=r"shape \(4, 2, 2\) and y \(3,\)"):
        idx("x", "y", base_dir=tmp_path)
    for content, message in (
        (good[:-1], "byte 31: 31 bytes, but shape .4, 2, 2. needs 32"),
        (good + b"x", "byte 32: 33 bytes"),
        (good[:9], "byte 9: the file ends within its header of 16 bytes"),
        (b"hello", "byte 0: .* no IDX header"),
        (gzip.compress(good)[:-4], "not a sound .gz file"),
    ):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(DataError, match=message):
            idx("bad", "y", base_dir=tmp_path)
    with pytest.raises(DataError, match="both test_images and test_labels"):
        idx("x", "y", test_images="x", base_dir=tmp_path)


def test_real_mnist_test_images() -> None:
    folder = shared_dir() / "data" / "mnist_t10k"
    data = idx("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", base_dir=folder)
    assert data.train_x.shape == (8000, 784) and data.test_x.shape == (2000, 784) and data.classes == 10
    assert data.train_x.dtype == np.float32 and data.train_x.max() == 1
    counts = np.bincount(data.train_y) + np.bincount(data.test_y)
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ---- tables ------------------------------------------------------------------------------------------------------


def test_npz_archives(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.array([1, 2, 1, 2])
    np.savez(tmp_path / "a.npz", x=x, y=y, test_x=x[:2].reshape(2, 3, 1), test_y=y[:2])
    data = npz("a.npz", base_dir=tmp_path)
    assert np.array_equal(data.train_x, x) and data.train_y.tolist() == [0, 1, 0, 1]
    assert data.test_x.shape == (2, 3)
    with pytest.raises(DataError, match="no array 'X' among x, y"):
        npz("a.npz", x="X", base_dir=tmp_path)
    raw = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(raw[:100])
    with pytest.raises(DataError, match="not a sound .npz archive"):
        npz("cut.npz", base_dir=tmp_path)
    np.save(tmp_path / "one.npy", x)
    with pytest.raises(DataError, match="one.npy: not a sound .npz archive"):
        npz("one.npy", base_dir=tmp_path)
    np.savez(tmp_path / "words.npz", x=np.array([["a"]]), y=np.array([1]))
    with pytest.raises(DataError, match="holds <U1, not numbers"):
        npz("words.npz", base_dir=tmp_path)


def test_csv_with_and_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("size,kind,price\n1,2,10.5\n3,4,11.5\n\n5,6,12.5\n")
    data = csv("a.csv", target="price", test_fraction=0, base_dir=tmp_path)
    assert data.train_x.tolist() == [[1, 2], [3, 4], [5, 6]] and data.classes is None
    assert csv("a.csv", target=1, test_fraction=0, base_dir=tmp_path).train_y.tolist() == [0, 1, 2]
    (tmp_path / "b.csv").write_text("1;2;dog\r\n3;4;cat\r\n5;6;dog\r\n")
    words = csv("b.csv", separator=";", test="b.csv", base_dir=tmp_path)
    assert words.train_y.tolist() == [1, 0, 1] == words.test_y.tolist() and words.classes == 2


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\n1\n", -1, "line 3: 1 fields where the first line has 2"),
        ("a,b\n1,2\nx,2\n", -1, "line 3: 'x' is not a number"),
        ("a,b\n1,2\ninf,2\n", -1, "line 3: a value that is not finite"),
        ("a,b\n1,2\n", "c", "no column 'c' among a, b"),
        ("1,2\n1,2\n", "c", "the first line holds numbers"),
        ("1,2\n1,2\n", 5, "target = 5, but there are 2 columns"),
        ("a,b\n", -1, "a header and no rows"),
        ("", -1, "no rows"),
    ],
)
def test_a_corrupt_csv_file_is_refused_with_its_line(
    tmp_path: Path, text: str, target: str | int, message: str
) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        csv("bad.csv", target=target, base_dir=tmp_path)


def test_csv_refuses_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"1,2\n\xff\xfe,3\n")
    with pytest.raises(DataError, match="not text in UTF-8"):
        csv("bad.csv", base_dir=tmp_path)


# ---- common ------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named_with_all_places_tried(tmp_path: Path) -> None:
    for load in (libsvm, npz, csv):
        with pytest.raises(DataError, match=f"no data file at {tmp_path}/none or none; give its path"):
            load("none", base_dir=tmp_path)
    with pytest.raises(DataError, match="no data file at none"):
        idx("none", "none")


def test_bad_fractions_labels_and_parts_are_refused() -> None:
    with pytest.raises(DataError, match="test_fraction = 1"):
        heart_scale(test_fraction=1.0)
    x, y = np.zeros((3, 2)), np.zeros(3, np.int64)
    with pytest.raises(DataError, match=r"training rows have shape \(3, 2\) and labels \(2,\)"):
        Dataset("d", x, y[:2])
    with pytest.raises(DataError, match="d: node 1 holds no rows"):
        Parts(Dataset("d", x, y), [np.array([0]), np.array([], np.int64)])


def test_labels_need_two_classes_and_known_ones(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1 1:1\n1 1:2\n")
    with pytest.raises(DataError, match="all training labels equal 1"):
        libsvm("one", test_fraction=0, base_dir=tmp_path)
    (tmp_path / "two").write_text("1 1:1\n2 1:2\n")
    (tmp_path / "three").write_text("3 1:1\n")
    with pytest.raises(DataError, match="test label 3 never occurs in training"):
        libsvm("two", test="three", base_dir=tmp_path)
