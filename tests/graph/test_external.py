"""External data: where its files may be, and whether each holds what its tensors need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_models import external_model, write
from onnx import numpy_helper

from edgepack.errors import ModelError
from edgepack.graph.load import load_model, read_proto


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret", "a/../../secret", "..\\secret", "C:\\x", "", "a\0b", "."]
)
def test_external_data_outside_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    message = refused(write(external_model(location), tmp_path / "model"))
    assert "outside its folder" in message or "regular file" in message


def test_external_data_through_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data").write_bytes(bytes(64))
    inside = tmp_path / "model"
    path = write(external_model("w.data"), inside)
    (inside / "w.data").symlink_to(tmp_path / "secret")
    assert "symbolic link" in refused(path)
    (inside / "linked").symlink_to(tmp_path / "folder")
    assert "symbolic link" in refused(write(external_model("linked/data"), inside))


@pytest.mark.parametrize(
    ("offset", "length", "words"),
    [
        (0, 60, "needs 64 bytes"),
        (0, 68, "needs 64 bytes"),
        (40, 64, "too short"),
        (1 << 62, 64, "too short"),
        (-4, 64, "offset '-4'"),
        ("x", 64, "offset 'x'"),
        ("9" * 30, 64, "offset"),
        (0, "1e3", "length"),
    ],
)
def test_external_data_of_wrong_size(offset: int | str, length: int | str, words: str, tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(80))
    assert words in refused(write(external_model("w.data", offset, length), tmp_path))


def test_external_data_missing_or_no_file(tmp_path: Path) -> None:
    path = write(external_model("part/w.data"), tmp_path)
    missing = f"the model keeps weights in 'part/w.data', a file of its own, which is missing in {tmp_path}"
    assert refused(path) == missing
    (tmp_path / "part").write_bytes(b"")
    assert refused(path) == missing
    (tmp_path / "part").unlink()
    (tmp_path / "part" / "w.data").mkdir(parents=True)
    assert f"'part/w.data' in {tmp_path} is not a regular file" in refused(path)


def test_external_data(tmp_path: Path) -> None:
    data = np.arange(16, dtype=np.float32)
    (tmp_path / "w.data").write_bytes(data.tobytes())
    path = write(external_model("w.data"), tmp_path)
    loaded = load_model(path)
    assert loaded.external == ("w.data",)
    assert loaded.size_bytes == path.stat().st_size + 64
    np.testing.assert_array_equal(numpy_helper.to_array(read_proto(loaded).graph.initializer[0]).ravel(), data)
    (tmp_path / "w.data").write_bytes(data[::-1].tobytes())
    assert load_model(path).sha256 != loaded.sha256


def test_external_data_cut_after_loading(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(64))
    loaded = load_model(write(external_model("w.data"), tmp_path))
    (tmp_path / "w.data").write_bytes(bytes(10))
    with pytest.raises(ModelError, match="too short"):
        read_proto(loaded)


@pytest.mark.parametrize("key", ["location", "offset", "length"])
def test_external_data_that_is_stated_twice_is_refused(key: str, tmp_path: Path) -> None:
    """One reader would take the first place, another the last."""
    proto = external_model("w.data")
    tensor = next(t for t in proto.graph.initializer if t.external_data)
    entry = tensor.external_data.add()
    entry.key, entry.value = key, "../other.data" if key == "location" else "0"
    if len([e for e in tensor.external_data if e.key == key]) == 1:
        tensor.external_data.add().CopyFrom(entry)
    (tmp_path / "w.data").write_bytes(bytes(1 << 16))
    assert "is stated twice" in refused(write(proto, tmp_path))
