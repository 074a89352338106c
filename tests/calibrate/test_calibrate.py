"""How the measured tensors are divided into passes, and what a calibration says of itself."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibrate_inputs import random_images
from hypothesis import given
from hypothesis import strategies as st

from edgepack import calibrate as module
from edgepack.calibrate import calibrate
from edgepack.calibrate.tensors import Plan
from edgepack.data.samples import find_samples
from edgepack.errors import ConfigError
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel


@given(st.lists(st.integers(0, 500 << 20), max_size=12))
def test_a_pass_holds_what_fits_and_every_tensor_is_in_one(sizes: list[int]) -> None:
    names = tuple(f"t{n}" for n in range(len(sizes)))
    parts = module._parts(Plan((), names, (), tuple(sizes)))
    assert [name for part, _ in parts for name in part] == list(names)
    of = dict(zip(names, sizes, strict=True))
    for part, size in parts:
        assert size == sum(of[name] for name in part)
        assert size <= module._BYTES_A_PASS or len(part) == 1
    for (part, size), (following, _) in itertools.pairwise(parts):
        assert size + of[following[0]] > module._BYTES_A_PASS
        assert part


@pytest.fixture
def samples(conv_model: OnnxModel, save_npz: Any) -> SampleSet:
    return find_samples(save_npz(image=random_images(3)), conv_model.inputs, None)


def test_a_copy_has_the_range_of_what_it_copies(conv_model: OnnxModel, samples: SampleSet, tmp_path: Path) -> None:
    tensors = calibrate(conv_model, samples, "entropy", 99.99, tmp_path).tensors
    assert tensors["flat"] == tensors["rectified"]
    assert list(tensors) == sorted(tensors)


@pytest.mark.parametrize("observer", ["minmax", "mse"])
def test_several_passes_count_their_progress_together(
    conv_model: OnnxModel, samples: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observer: str
) -> None:
    monkeypatch.setattr(module, "_BYTES_A_PASS", 1)
    told: list[tuple[int, int]] = []
    calibrate(conv_model, samples, observer, 99.99, tmp_path, lambda _what, done, total: told.append((done, total)))
    totals = {total for _, total in told}
    assert len(totals) == 1
    assert totals == {3} if observer == "minmax" else min(totals) > 3  # extremes need one pass only
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_a_finished_calibration_leaves_nothing_behind(
    conv_model: OnnxModel, samples: SampleSet, tmp_path: Path
) -> None:
    calibrate(conv_model, samples, "mse", 99.99, tmp_path / "out")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_an_unknown_observer_is_refused(conv_model: OnnxModel, samples: SampleSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown observer 'minmx'"):
        calibrate(conv_model, samples, "minmx", 99.99, tmp_path)


def test_the_extremes_are_in_every_document(conv_model: OnnxModel, samples: SampleSet, tmp_path: Path) -> None:
    found = calibrate(conv_model, samples, "minmax", 99.99, tmp_path)
    images = random_images(3)
    assert (found.tensors["image"].minimum, found.tensors["image"].maximum) == (images.min(), images.max())
    assert found.percentile is None
    assert found.samples == 3
    assert np.isfinite([t.magnitude for t in found.tensors.values()]).all()
