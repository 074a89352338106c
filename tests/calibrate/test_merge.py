"""Statistics of several machines are those of one machine over all samples; damaged documents are refused."""

from __future__ import annotations

import base64
import dataclasses
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibrate_inputs import random_images
from hypothesis import given
from hypothesis import strategies as st

from edgepack.base.documents import to_json
from edgepack.calibrate import calibrate
from edgepack.calibrate.histogram import CODES, PAGE, Counts
from edgepack.calibrate.merge import (
    _decode,
    _encode,
    _read_counts,
    choose_from,
    measure_statistics,
    merge,
    read_statistics,
)
from edgepack.calibrate.statistics import Statistics, extremes_of
from edgepack.data.samples import find_samples
from edgepack.errors import ConfigError, DataError
from edgepack.specs.data import SampleStatistics, TensorStatistics
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Array

OBSERVERS = ("minmax", "percentile", "entropy", "mse")


@pytest.fixture
def parts(conv_model: OnnxModel, save_npz: Any, tmp_path: Path) -> list[SampleStatistics]:
    """Seven samples on three machines."""
    images = random_images(7)
    found = []
    for number, place in enumerate((slice(0, 2), slice(2, 3), slice(3, 7))):
        samples = find_samples(save_npz(image=images[place]), conv_model.inputs, None)
        found.append(measure_statistics(conv_model, samples, tmp_path / str(number)))
    return found


@pytest.mark.parametrize("observer", OBSERVERS)
def test_merged_ranges_are_those_of_one_machine(
    conv_model: OnnxModel, save_npz: Any, parts: list[SampleStatistics], tmp_path: Path, observer: str
) -> None:
    samples = find_samples(save_npz(image=random_images(7)), conv_model.inputs, None)
    whole = calibrate(conv_model, samples, observer, 99.9, tmp_path / "whole")
    found = choose_from(merge(parts), observer, 99.9)
    assert found.tensors == whole.tensors
    assert (found.samples, found.model_sha256, found.percentile) == (7, whole.model_sha256, whole.percentile)


def test_order_and_grouping_do_not_matter(parts: list[SampleStatistics]) -> None:
    one, two, three = parts
    assert merge([merge([one, two]), three]) == merge([three, merge([two, one])]) == merge([two, three, one])
    assert merge([one]) == one


def test_a_document_comes_back_as_it_was_written(parts: list[SampleStatistics], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(to_json(parts[0]))
    assert read_statistics(tmp_path / "a.json") == parts[0]


def test_one_set_of_samples_counts_once(parts: list[SampleStatistics]) -> None:
    with pytest.raises(DataError, match="in two of the documents"):
        merge([parts[0], parts[1], parts[0]])


def test_other_models_do_not_mix(parts: list[SampleStatistics]) -> None:
    other = dataclasses.replace(parts[1], model_sha256="0" * 64)
    with pytest.raises(DataError, match="2 models"):
        merge([parts[0], other])


def test_a_tensor_that_one_has_not_counted_is_named(parts: list[SampleStatistics]) -> None:
    lacking = dict(parts[1].tensors)
    name = sorted(lacking)[0]
    del lacking[name]
    with pytest.raises(DataError, match=f"counted '{name}'"):
        merge([parts[0], dataclasses.replace(parts[1], tensors=lacking)])


def test_auto_needs_samples(parts: list[SampleStatistics]) -> None:
    with pytest.raises(ConfigError, match="tries ranges on samples") as caught:
        choose_from(parts[0], "auto", 99.99)
    assert "minmax" in (caught.value.hint or "")


# --- one tensor -------------------------------------------------------------------------------------------------------


def counted(values: Array) -> Statistics:
    found = Statistics(counts=Counts())
    found.add(extremes_of(values, True))
    return found


arrays = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=50).map(
    lambda values: np.array(values, np.float32)
)


@given(arrays)
def test_what_is_written_is_what_was_counted(values: Array) -> None:
    found = counted(values)
    again = _decode(_encode(found), "t")
    assert (again.minimum, again.maximum) == (found.minimum, found.maximum)
    assert again.counts is not None
    assert found.counts is not None
    assert np.array_equal(again.counts.table(), found.counts.table())


def test_a_tensor_that_is_infinite_somewhere_has_no_range_anywhere(parts: list[SampleStatistics]) -> None:
    name = sorted(parts[0].tensors)[0]
    infinite = {**parts[0].tensors, name: _encode(Statistics(-math.inf, math.inf, Counts()))}
    found = choose_from(merge([dataclasses.replace(parts[0], tensors=infinite), parts[1]]), "minmax", 99.99)
    assert name not in found.tensors
    assert len(found.tensors) == len(parts[0].tensors) - 1


def test_an_empty_tensor_adds_nothing(parts: list[SampleStatistics]) -> None:
    name = sorted(parts[0].tensors)[0]
    empty = {**parts[0].tensors, name: _encode(Statistics(counts=Counts()))}
    found = merge([dataclasses.replace(parts[0], tensors=empty), parts[1]])
    assert found.tensors[name] == parts[1].tensors[name]


# --- damaged documents ------------------------------------------------------------------------------------------------


def packed(*rows: tuple[int, int, int]) -> str:
    """Rows of a page's number, a place in it, and how often it occurs there."""
    table = np.zeros((len(rows), 1 + PAGE), "<i8")
    for row, (page, place, count) in zip(table, rows, strict=True):
        row[0], row[1 + place] = page, count
    return base64.b64encode(zlib.compress(table.tobytes())).decode()


@pytest.mark.parametrize(
    "counts",
    [
        "no base64!",
        base64.b64encode(b"no zlib").decode(),
        base64.b64encode(zlib.compress(b"x" * 9)).decode(),
        base64.b64encode(zlib.compress(bytes(200 * 8 * (1 + PAGE)))).decode(),
        base64.b64encode(zlib.compress(bytes(1 << 26), 9)).decode(),
        packed((0, 0, -1)),
        packed((3, 0, 1), (3, 0, 1)),
        packed((3, 0, 1), (2, 0, 1)),
        packed((CODES // PAGE, 0, 1)),
        packed((-1, 0, 1)),
        packed((0, 0, 1 << 62), (1, 0, 1 << 62)),
        packed((0x7F80 // PAGE, 0x7F80 % PAGE, 1)),
    ],
    ids=["base64", "zlib", "size", "pages", "bomb", "negative", "twice", "order", "beyond", "before", "many", "inf"],
)
def test_damaged_counts_are_refused(counts: str) -> None:
    with pytest.raises(DataError, match="t: its counts are damaged"):
        _read_counts(counts, "t")


def code(value: float) -> tuple[int, int, int]:
    return (*divmod(int(np.float32(value).view(np.uint32)) >> 16, PAGE), 1)


@pytest.mark.parametrize(
    ("values", "counted", "fits"),
    [
        ("finite", [], True),  # of a tensor that follows from one with infinities
        ("finite", [0.0, 0.5], True),
        ("finite", [-0.0, 2.0], True),
        ("finite", [-1.0], True),
        ("finite", [-1.01], False),
        ("finite", [2.02], False),
        ("finite", [-3e38], False),
        ("infinite", [1e6], True),
        ("empty", [], True),
        ("empty", [0.5], False),
    ],
)
def test_counts_of_values_beyond_the_extremes_are_refused(values: Any, counted: list[float], fits: bool) -> None:
    found = TensorStatistics(values, -1.0, 2.0, packed(*sorted(code(value) for value in counted)))
    if fits:
        assert _decode(found, "t").counts is not None
    else:
        with pytest.raises(DataError, match="t: values beyond its extremes are counted"):
            _decode(found, "t")


def test_counts_that_cannot_be_added_are_refused(parts: list[SampleStatistics]) -> None:
    name = sorted(parts[0].tensors)[0]
    many = {name: TensorStatistics("finite", 0.0, 0.0, packed((0, 0, 1 << 61)))}
    found = [dataclasses.replace(parts[0], tensors=many, data_sha256=(str(number),)) for number in range(3)]
    assert merge(found[:2]).tensors[name].counts
    with pytest.raises(DataError, match="more values than can be added"):
        merge(found)


def test_counts_of_finite_values_are_taken() -> None:
    assert _read_counts(packed((0, 3, 7), (127, 0, 0)), "t").table()[3] == 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "has format 2"),
        ({"samples": 0}, "counts no samples"),
        ({"data_sha256": []}, "counts no samples"),
        ({"tensors": {"x": {"values": "finite", "minimum": 2, "maximum": 1, "counts": ""}}}, "from 2.0 to 1.0"),
        ({"tensors": {"x": {"values": "finite", "minimum": -1e300, "maximum": 1, "counts": ""}}}, "from -1e"),
        ({"tensors": {"x": {"values": "odd", "minimum": 0, "maximum": 1, "counts": ""}}}, "values"),
        ({"more": 1}, "more"),
    ],
)
def test_a_document_of_another_kind_is_refused(
    parts: list[SampleStatistics], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    import json

    path = tmp_path / "a.json"
    path.write_text(json.dumps({**json.loads(to_json(parts[0])), **change}))
    with pytest.raises((ConfigError, DataError), match=words):
        read_statistics(path)


def test_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_statistics(tmp_path / "none.json")
