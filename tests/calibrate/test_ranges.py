import json
import os

import pytest

from edgepack.base import documents
from edgepack.calibrate.ranges import read_ranges
from edgepack.errors import ConfigError, DataError
from edgepack.specs.data import Ranges, TensorRange

ONE = TensorRange(-1.5, 2.0, -1.0, 2.0, 2.0)
RANGES = Ranges(
    "m" * 64, "d" * 64, "mse", None, 3, {"a": ONE, "b/é": TensorRange(0.5, 1.0, 0.0, 1.0, 1.0)}, {"onnxruntime": "1"}
)


def write_ranges(ranges, path):
    """Write a document as the command line does."""
    path.write_text(documents.to_json(ranges))


def changed(path, **values):
    """Write RANGES with the fields of tensor "a" changed."""
    write_ranges(RANGES, path)
    data = json.loads(path.read_text())
    data["tensors"]["a"].update(values)
    path.write_text(json.dumps(data))
    return path


def test_what_is_written_is_read_back(tmp_path):
    write_ranges(RANGES, tmp_path / "r.json")
    assert read_ranges(tmp_path / "r.json") == RANGES
    first = (tmp_path / "r.json").read_bytes()
    write_ranges(read_ranges(tmp_path / "r.json"), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == first


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"minimum": 3.0}, "the minimum 3.0 is above the maximum 2.0"),
        ({"low": 1.0}, "from 1.0 to 2.0 does not include 0"),
        ({"low": 3.0, "high": 2.0}, "does not include 0"),
        ({"high": -0.5}, "does not include 0"),
        ({"magnitude": -1.0}, "the magnitude -1.0 is negative"),
        ({"magnitude": 1e39}, "beyond float32"),
        ({"high": float("inf")}, "not valid JSON"),
        ({"high": float("nan")}, "not valid JSON"),
        ({"high": "2"}, "expected a number"),
        ({"high": None}, "expected a number"),
        ({"hihg": 2.0}, "unknown key 'hihg'"),
    ],
)
def test_a_hostile_document_is_refused(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_ranges(changed(tmp_path / "r.json", **values))
    assert "r.json" in caught.value.message


def test_huge_numbers_in_json_are_refused(tmp_path):
    path = changed(tmp_path / "r.json")
    path.write_text(path.read_text().replace("-1.5", "-1e999"))
    with pytest.raises(ConfigError):
        read_ranges(path)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"a": 1, "a": 2}'])
def test_what_is_no_document(tmp_path, data):
    (tmp_path / "r.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"r.json"):
        read_ranges(tmp_path / "r.json")


def test_empty_and_missing(tmp_path):
    write_ranges(Ranges("m", "d", "mse", None, 3, {}), tmp_path / "r.json")
    with pytest.raises(ConfigError, match="contains no ranges"):
        read_ranges(tmp_path / "r.json")
    with pytest.raises(DataError, match="cannot read"):
        read_ranges(tmp_path / "none.json")


@pytest.mark.timeout(60)
def test_a_pipe_and_a_device_are_no_documents(tmp_path):
    """A pipe would be waited for, and a device has no end though its size is 0."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(DataError, match="cannot read"):
            read_ranges(tmp_path / name)
