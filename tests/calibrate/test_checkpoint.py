"""What was counted so far, in a file that may be of another calibration, damaged, or not there."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.calibrate.checkpoint import Checkpoint
from edgepack.calibrate.histogram import Counts, count_codes
from edgepack.calibrate.statistics import Statistics

NAMES = ("x", "ü/name with/slashes", "")


def counted(*values: float) -> Statistics:
    array = np.float32(values)
    counts = Counts()
    counts.add(count_codes(array))
    return Statistics(float(array.min()), float(array.max()), counts)


def some() -> dict[str, Statistics]:
    return {"x": counted(1, 2, -3), NAMES[1]: counted(0, 1e30), "": Statistics(counts=Counts())}


def tables(statistics: dict[str, Statistics]) -> dict[str, tuple[float, float, bytes | None]]:
    return {
        name: (s.minimum, s.maximum, None if s.counts is None else s.counts.table().tobytes())
        for name, s in statistics.items()
    }


def checkpoint(tmp_path: Path, key: str = "k") -> Checkpoint:
    return Checkpoint(tmp_path / "c.npz", key, NAMES)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(7, some())
    done, found = checkpoint(tmp_path).load(histogram=True)
    assert done == 7
    assert tables(found) == tables(some())


def test_extremes_alone_have_no_counts(tmp_path: Path) -> None:
    extremes = {name: Statistics(-1.5, 2.5) for name in NAMES}
    checkpoint(tmp_path).save(3, extremes)
    done, found = checkpoint(tmp_path).load(histogram=False)
    assert (done, tables(found)) == (3, tables(extremes))


def assert_begins_anew(tmp_path: Path, key: str = "k") -> None:
    done, found = checkpoint(tmp_path, key).load(histogram=True)
    assert done == 0
    for one in found.values():
        assert (one.minimum, one.maximum) == (math.inf, -math.inf)
        assert one.counts is not None
        assert not one.counts.pages


def test_without_a_file_all_begins_anew(tmp_path: Path) -> None:
    assert_begins_anew(tmp_path)


def test_another_calibrations_file_is_not_used(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(7, some())
    assert_begins_anew(tmp_path, key="other")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "c.npz").mkdir()
    assert_begins_anew(tmp_path)


@given(data=st.data())
def test_a_file_cut_or_changed_anywhere_is_whole_or_not_used(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    checkpoint(folder).save(7, some())
    whole = (folder / "c.npz").read_bytes()
    (folder / "c.npz").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert_begins_anew(folder)


@pytest.mark.parametrize("missing", ["key", "done", "minima", "maxima", "owners", "pages", "counts"])
def test_a_file_that_lacks_a_part_is_not_used(tmp_path: Path, missing: str) -> None:
    checkpoint(tmp_path).save(7, some())
    with np.load(tmp_path / "c.npz") as saved:
        kept = {name: saved[name] for name in saved.files if name != missing}
    np.savez(tmp_path / "c.npz", **kept)
    assert_begins_anew(tmp_path)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, key=np.array([{"a": 1}], dtype=object))
    (tmp_path / "c.npz").write_bytes(buffer.getvalue())
    assert_begins_anew(tmp_path)


def test_a_finished_calibration_leaves_none(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(7, some())
    checkpoint(tmp_path).remove()
    checkpoint(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []
