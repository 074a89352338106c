"""A worker's pairs: read whole, and refused where they are large, damaged, code, or say nothing."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack.export.pairs import UNREADABLE, have_equal_inputs, have_numbers, read_pairs

ONE, TWO = np.ones((1, 3), np.float32), np.ones((2, 3), np.float32)


def written(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "pairs.npz", **{name.replace("__", "/"): array for name, array in arrays.items()})
    return folder / "pairs.npz"


def test_pairs_come_in_their_order_and_texts_as_objects(tmp_path: Path) -> None:
    path = written(tmp_path, **{"10__in__x": TWO, "2__in__x": ONE, "2__out__a/b": np.array(["yes"])})
    (first, answers), (second, _) = read_pairs(path)
    np.testing.assert_array_equal(first["x"], ONE)
    np.testing.assert_array_equal(second["x"], TWO)
    assert answers["a/b"].dtype == object


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    (path.parent / "other").write_bytes(b"secret")
    path.symlink_to(path.parent / "other")


def pickled(path: Path) -> None:
    np.savez(path, **{"0/in/x": np.array([print], object)})


def other_names(path: Path) -> None:
    np.savez(path, x=ONE)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("0/in/x.npy", "w") as file:
        for _ in range(1030):
            file.write(bytes(1 << 20))


def huge_header(path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }".ljust(117) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0/in/x.npy", data)


@pytest.mark.slow
@pytest.mark.parametrize("make", [pipe, link, pickled, other_names, bomb, huge_header])
def test_what_is_not_to_be_used_is_refused(make: object, tmp_path: Path) -> None:
    assert callable(make)
    make(tmp_path / "pairs.npz")
    with pytest.raises(UNREADABLE):
        read_pairs(tmp_path / "pairs.npz")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1), value=st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, where: float, value: int) -> None:
    path = written(tmp_path, **{"0__in__x": ONE, "0__out__y": TWO})
    data = bytearray(path.read_bytes())
    data[int(where * (len(data) - 1))] = value
    path.write_bytes(data)
    try:
        read_pairs(path)
    except UNREADABLE:
        pass


def test_equal_inputs_are_seen() -> None:
    assert have_equal_inputs([({"x": ONE}, {}), ({"x": ONE.copy()}, {})])
    assert not have_equal_inputs([({"x": ONE}, {}), ({"x": TWO}, {})])
    assert not have_equal_inputs([({"x": ONE}, {}), ({"x": 2 * ONE}, {})])


def test_outputs_without_a_number_are_seen() -> None:
    assert not have_numbers([({}, {"y": np.float32([np.nan, np.inf])})])
    assert have_numbers([({}, {"y": np.float32([np.nan])}), ({}, {"y": np.float32([1, np.nan])})])
    assert have_numbers([({}, {"y": np.array([1])})])
