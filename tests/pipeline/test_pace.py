"""How long the rows of a build still take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepack.pipeline.pace import Pace, earlier_s

NAMES = ("a fp32", "a int8", "b int8")
ALIKE = ("a int8", "b int8", "c int8")


def test_nothing_is_said_before_anything_is_known(tmp_path: Path) -> None:
    pace = Pace(ALIKE, tmp_path / "durations.json")
    assert pace.left_s() is None
    pace.finished(10.0, ran=True)
    assert pace.left_s() == 20.0
    pace.finished(40.0, ran=True)
    assert pace.left_s() == 25.0
    pace.finished(10.0, ran=True)
    assert pace.left_s() == 0.0


def test_fp32_says_nothing_of_int8(tmp_path: Path) -> None:
    """A row of fp32 takes seconds and one of int8 a minute: "14 s left" after the first one misled by a factor of 4."""
    pace = Pace(("a fp32", "a int8", "b fp32", "b int8"), tmp_path / "durations.json")
    pace.finished(5.0, ran=True)
    assert pace.left_s() is None
    pace.finished(60.0, ran=True)
    assert pace.left_s() == 65.0


def test_earlier_builds_tell_from_the_beginning(tmp_path: Path) -> None:
    file = tmp_path / "durations.json"
    file.write_text(json.dumps({"a fp32": 10.0, "a int8": 30.0, "b int8": 50.0, "other": 1.0}))
    pace = Pace(NAMES, file)
    assert pace.left_s() == 90.0
    pace.finished(20.0, ran=True)  # today all is slower
    assert pace.left_s() == 160.0
    assert json.loads(file.read_text()) == {"a fp32": 20.0, "a int8": 30.0, "b int8": 50.0, "other": 1.0}


def test_rows_from_the_store_take_no_time_and_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "durations.json"
    file.write_text(json.dumps(dict.fromkeys(NAMES, 100.0)))
    pace = Pace(NAMES, file)
    pace.finished(0.5, ran=False)
    assert pace.left_s() == pytest.approx(1.0)
    assert json.loads(file.read_text()) == dict.fromkeys(NAMES, 100.0)


@pytest.mark.parametrize(
    "text", ["", "[]", "no", '{"a fp32": "x"}', '{"a fp32": -1}', '{"a fp32": 1e999}', "[" * 5000, '{"a fp32": null}']
)
def test_what_cannot_be_read_is_not_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "durations.json").write_text(text)
    pace = Pace(NAMES, tmp_path / "durations.json")
    assert pace.left_s() is None
    pace.finished(2.0, ran=True)
    assert json.loads((tmp_path / "durations.json").read_text()) == {"a fp32": 2.0}


def test_what_was_stopped_goes_on_with_a_time_that_rows_from_the_store_do_not_shorten(tmp_path: Path) -> None:
    """Two rows of a minute each are there; the two that never were will take a minute each, not the store's second."""
    file = tmp_path / "durations.json"
    file.write_text(json.dumps({"a int8": 60.0, "b int8": 60.0}))
    pace = Pace(("a int8", "b int8", "c int8", "d int8"), file)
    assert pace.left_s() == 240.0
    pace.finished(1.0, ran=False)
    pace.finished(1.0, ran=False)
    assert pace.left_s() == 120.0


def test_rows_end_in_any_order_and_some_never_begin(tmp_path: Path) -> None:
    pace = Pace(ALIKE, tmp_path / "durations.json")
    pace.finished(5.0, ran=True, name="c int8")
    assert pace.left_s() == 10.0
    pace.drop(["a int8", "unknown"])
    assert pace.left_s() == 5.0


def test_earlier_builds_are_asked_before_one_begins(tmp_path: Path) -> None:
    file = tmp_path / "durations.json"
    file.write_text(json.dumps({"a int8": 60.0, "b int8": 20.0, "a fp32": 2.0}))
    assert earlier_s(["a int8", "c int8", "c fp16"], file) == {"a int8": 60.0, "c int8": 40.0, "c fp16": None}
