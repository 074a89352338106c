"""Packing: what goes into a bundle, and what cannot."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys

import pytest
from small_bundles import small_compiled, small_facts, small_golden

from edgepack.bundle.archive import open_bundle, read_member
from edgepack.bundle.pack import pack
from edgepack.errors import BundleError, ConfigError
from edgepack.execution import child
from edgepack.specs.data import Preprocessing
from edgepack.verify.golden import read_golden

pytestmark = pytest.mark.slow


@pytest.fixture
def parts(tmp_path):
    compiled = small_compiled(tmp_path / "compiled")
    return compiled, small_golden(tmp_path / "compiled" / "model.onnx", tmp_path / "golden.npz")


def test_the_manifest_says_what_was_given(parts, tmp_path):
    compiled, golden = parts
    picture = Preprocessing(resize=(8, 8), mean=(1.0, 2.0, 3.0))
    facts = small_facts(preprocessing=picture, calibration_sha256="cd" * 32, options={"seed": "7"})
    path = pack(compiled, golden, facts, tmp_path / "out")
    assert path == tmp_path / "out" / "small.edgepack"
    manifest = open_bundle(path).manifest
    assert (manifest.name, manifest.version, manifest.target, manifest.precision) == (
        "small",
        "1.0",
        "test-board",
        "fp32",
    )
    assert (manifest.inputs, manifest.outputs) == (compiled.inputs, compiled.outputs)
    assert manifest.preprocessing == picture
    assert manifest.classes == facts.classes
    assert manifest.options == {"seed": "7", "target.arch": "x86_64", "target.os": "linux"}
    assert manifest.toolchain == {**compiled.versions, **facts.toolchain}
    assert manifest.payloads[0].entry == "model/onnxruntime/model.onnx"


def test_members_are_the_files_given(parts, tmp_path):
    compiled, golden = parts
    bundle = open_bundle(pack(compiled, golden, small_facts(), tmp_path / "out"))
    assert read_member(bundle, "model/onnxruntime/model.onnx") == (compiled.folder / "model.onnx").read_bytes()
    assert read_member(bundle, "golden.npz") == golden.read_bytes()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["small.edgepack"]


def test_files_in_folders_and_empty_files(parts, tmp_path):
    compiled, golden = parts
    (compiled.folder / "deep" / "er").mkdir(parents=True)
    (compiled.folder / "deep" / "er" / "weights.bin").write_bytes(b"w" * 70_000)
    (compiled.folder / "empty").write_bytes(b"")
    compiled = dataclasses.replace(compiled, files=("model.onnx", "empty", "deep/er/weights.bin"))
    bundle = open_bundle(pack(compiled, golden, small_facts(), tmp_path / "out"))
    assert read_member(bundle, "model/onnxruntime/deep/er/weights.bin") == b"w" * 70_000
    assert read_member(bundle, "model/onnxruntime/empty") == b""


def test_it_is_a_stage_that_runs_in_a_child(parts, tmp_path):
    compiled, golden = parts
    path = child.call(pack, compiled, golden, small_facts(), tmp_path / "out", limit_s=60, log=tmp_path / "log")
    assert open_bundle(path).manifest.name == "small"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a b"}, "is not a valid name"),
        ({"name": "../a"}, "is not a valid name"),
        ({"version": ""}, "is not a valid version"),
        ({"precision": "int8"}, "is fp32, not int8"),
    ],
)
def test_facts_that_a_bundle_cannot_have(parts, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        pack(*parts, small_facts(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": ("model.onnx", "absent")}, "is missing"),
        ({"files": ("model.onnx", "../golden.npz")}, "leads out"),
        ({"files": ("model.onnx", "/etc/passwd")}, "part that is empty"),
        ({"files": ("model.onnx", "Model.onnx")}, "differ only in case"),
        ({"files": ("model.onnx", "with space")}, "characters other"),
        ({"entry": "other.onnx"}, "not one of its files"),
        ({"outputs": ()}, "other inputs or outputs"),
    ],
)
def test_compiled_models_that_cannot_be_packed(parts, tmp_path, changes, words):
    compiled, golden = parts
    with pytest.raises(BundleError, match=words):
        pack(dataclasses.replace(compiled, **changes), golden, small_facts(), tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_golden_vectors_without_a_tolerance(parts, tmp_path):
    golden = small_golden(parts[0].folder / "model.onnx", tmp_path / "plain.npz", with_tolerance=False)
    assert read_golden(golden).tolerance is None
    with pytest.raises(BundleError, match="have no tolerances"):
        pack(parts[0], golden, small_facts(), tmp_path / "out")


def test_a_killed_process_leaves_no_bundle_or_a_whole_one(parts, tmp_path):
    """Kill the packing of 50 MB after eight shares of it; what stands under the final name is always whole."""
    compiled, _ = parts
    with (compiled.folder / "weights.bin").open("wb") as file:
        file.truncate(50_000_000)

    def written() -> int:
        """Return the bytes of the bundle that is being written under another name."""
        return sum(path.stat().st_size for path in (tmp_path / "out").glob(".*.tmp") if path.exists())

    code = """
import dataclasses, sys
from pathlib import Path
sys.path[:] = eval(sys.argv[2])
from edgepack.bundle.pack import pack
from small_bundles import small_compiled, small_facts
folder = Path(sys.argv[1])
compiled = dataclasses.replace(small_compiled(folder / "compiled"), files=("model.onnx", "weights.bin"))
print("ready", flush=True)
pack(compiled, folder / "golden.npz", small_facts(), folder / "out")
"""
    cut = 0  # kills that left a part of the bundle
    for eighth in range(8):
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path, repr(sys.path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None and written() < eighth * 50_000_000 / 8:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        cut += written() > 0
        path = tmp_path / "out" / "small.edgepack"
        if path.exists():
            open_bundle(path)
            path.unlink()
        for left in (tmp_path / "out").glob(".*.tmp"):
            left.unlink()
    assert cut >= 4
