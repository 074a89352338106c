"""Dropping the pages of mapped files: which mappings, and that a large model is verified in little memory."""

from __future__ import annotations

import mmap
import subprocess
import sys

import numpy as np
import pytest

from edgepack.runtime import mapped
from edgepack.runtime.mapped import dropped_pages, mappings

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="mappings are read from Linux's /proc"),
]


def test_only_read_only_mappings_below_the_folder(tmp_path):
    (tmp_path / "a").mkdir()
    paths = [tmp_path / "a" / "weights with space", tmp_path / "other"]
    for path in paths:
        path.write_bytes(bytes(100_000))
    with paths[0].open("r+b") as first, paths[1].open("rb") as second:
        with (
            mmap.mmap(first.fileno(), 0, access=mmap.ACCESS_READ),
            mmap.mmap(second.fileno(), 0, access=mmap.ACCESS_READ),
        ):
            assert [end - start for start, end in mappings(f"{tmp_path}/a/")] == [
                -(-100_000 // mmap.PAGESIZE) * mmap.PAGESIZE
            ]
        with mmap.mmap(first.fileno(), 0):
            assert mappings(f"{tmp_path}/a/") == []


def test_mapped_data_stays_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "_WORTH_BYTES", 0)
    monkeypatch.setattr(mapped, "_INTERVAL_S", 0.0)
    wanted = np.random.default_rng(0).integers(0, 256, 5_000_000, np.uint8)
    wanted.tofile(tmp_path / "weights")
    array = np.memmap(tmp_path / "weights", np.uint8, mode="r")
    with dropped_pages(tmp_path):
        for _ in range(20):
            np.testing.assert_array_equal(array, wanted)


CODE = """
import re, sys
from pathlib import Path
sys.path[:] = eval(sys.argv[2])
from edgepack.runtime.verify import verify
from edgepack.specs.run import RunOptions
import onnxruntime, openvino
# Not getrusage: its maximum is inherited from the process that started this one.
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
assert verify(Path(sys.argv[1]), RunOptions(threads=1)).passed
print(peak() - before)
"""


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_large_model_is_verified_in_less_than_one_and_a_half_times_its_size(backend, tmp_path):
    pytest.importorskip("openvino")
    import dataclasses

    import onnx
    from small_bundles import TARGET, onnx_outputs, small_facts

    from edgepack.bundle.pack import pack
    from edgepack.engines import get_backend
    from edgepack.graph.load import load_model
    from edgepack.verify.golden import Golden, write_golden
    from edgepack.verify.tolerance import tolerance

    random = np.random.default_rng(0)
    weights = [random.standard_normal((2048, 2048), np.float32) for _ in range(16)]  # 256 MiB
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,2048] x0) => (float[N,2048] x16) {'
    text += "".join(f" x{i + 1} = MatMul(x{i}, w{i})" for i in range(16)) + " }"
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(w / 45, f"w{i}") for i, w in enumerate(weights))
    onnx.save(proto, tmp_path / "model.onnx")
    del proto, weights
    model = load_model(tmp_path / "model.onnx")
    target = dataclasses.replace(TARGET, backend=backend)
    compiled = get_backend(backend).compile_model(model, target, "fp32", tmp_path / "compiled")
    feed = {"x0": np.ones((1, 2048), np.float32)}
    vectors = Golden((feed,), (onnx_outputs(model.path, feed),), {"x16": tolerance("fp32")})
    path = pack(compiled, write_golden(vectors, tmp_path / "golden.npz"), small_facts(classes=()), tmp_path)
    (tmp_path / "model.onnx").unlink()
    words = [sys.executable, "-c", CODE, path, repr(sys.path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert 0.5 * path.stat().st_size < int(done.stdout) < 1.5 * path.stat().st_size
