from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.verify import outputs as module
from edgepack.verify.outputs import OutputReader, OutputWriter


def test_what_is_written_is_read(tmp_path: Path) -> None:
    samples = [{"a": np.full((1, 2), i, np.float32), "b": np.arange(i, dtype=np.int64)} for i in range(4)]
    with OutputWriter(tmp_path, ("a", "b")) as writer:
        for sample in samples:
            writer.add(sample)
        reader = OutputReader(writer.finish())
    for i, sample in enumerate(samples):
        found = reader.sample(i)
        for name, value in sample.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)
    np.testing.assert_array_equal(reader.whole("a"), np.repeat(np.arange(4.0), 2).reshape(4, 2))


def test_shapes_that_differ_cannot_be_joined(tmp_path: Path) -> None:
    with OutputWriter(tmp_path, ("a",)) as writer:
        writer.add({"a": np.zeros((1, 2))})
        writer.add({"a": np.zeros((1, 3))})
        reader = OutputReader(writer.finish())
    with pytest.raises(DataError, match="another shape"):
        reader.whole("a")


def test_too_many_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with OutputWriter(tmp_path, ("a",)) as writer, pytest.raises(DataError, match="samples take more"):
        writer.add({"a": np.zeros((1, 26), np.float32)})
