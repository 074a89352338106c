"""Delivering a bundle: what arrives is what was packed, or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_bundles import TARGET, small_compiled, small_facts, small_golden

from edgepack.base.files import sha256_file
from edgepack.bundle.archive import open_bundle
from edgepack.engines.fallback import measured_with
from edgepack.errors import StorageError
from edgepack.graph.load import load_model
from edgepack.pipeline.stages.pack import Packed, deliver_bundle, facts_of, pack_bundle
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.run import OutputDistance, Verification
from edgepack.verify.closeness import Closeness
from edgepack.verify.evaluate import Evaluation

if TYPE_CHECKING:
    from pathlib import Path

CLOSE = Closeness(40, 30.0, None, 0.99, None, 0.95, None)
GOOD = OutputDistance("scores", 60.0, 1.0, 0.0, 40.0, True)
SAMPLES = SampleSet("data", "pictures", "0" * 64, (0, 1), True, ("a", "b"), Preprocessing(crop=(8, 8)))


def evaluation(*outputs: OutputDistance) -> Evaluation:
    verified = Verification(True, outputs, 2, "onnxruntime", {"onnxruntime": "1.2"}, ("avx2",))
    return Evaluation(verified, None, "no labels", CLOSE)


def test_a_manifest_says_on_what_it_was_measured(tmp_path: Path) -> None:
    compiled = small_compiled(tmp_path)
    source = load_model(compiled.folder / compiled.entry)
    facts = facts_of("n", "1", TARGET, compiled, evaluation(GOOD), SAMPLES, source, None, None)
    assert facts.accuracy is not None
    assert (facts.accuracy.n, facts.accuracy.sqnr_db, facts.accuracy.note) == (40, 30.0, "no labels")
    assert facts.accuracy.engine == measured_with(compiled, evaluation(GOOD).verification)
    assert facts.accuracy.isa == ("avx2",)
    assert (facts.classes, facts.preprocessing) == (("a", "b"), SAMPLES.preprocessing)
    assert (facts.source_sha256, facts.calibration_sha256) == (source.sha256, None)
    assert "onnxruntime" in facts.toolchain


@pytest.mark.parametrize("counted", [True, False])
def test_a_bundle_has_tolerances_and_its_layers_counted(tmp_path: Path, counted: bool) -> None:
    compiled = small_compiled(tmp_path / "compiled")
    model = load_model(compiled.folder / compiled.entry)
    golden = small_golden(model.path, tmp_path / "golden" / "golden.npz", with_tolerance=False)
    facts = small_facts(layers={})
    found = pack_bundle(
        compiled, golden, evaluation(GOOD).verification, facts, model if counted else None, tmp_path / "out"
    )
    assert (sha256_file(found.path), found.path.stat().st_size) == (found.sha256, found.size_bytes)
    manifest = open_bundle(found.path).manifest
    assert found.model_bytes == manifest.model_bytes
    assert bool(manifest.layers) == counted
    if counted:
        assert sum(manifest.layers.values()) > 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [found.path.name]


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    path = tmp_path / "store.edgepack"
    path.write_bytes(b"bundle" * 1000)
    return Packed(path, sha256_file(path), path.stat().st_size, path.stat().st_size)


def test_a_bundle_that_changed_in_the_store_is_not_delivered(packed: Packed, tmp_path: Path) -> None:
    status = packed.path.stat()
    packed.path.write_bytes(b"BUNDLE" * 1000)
    os.utime(packed.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(StorageError, match="changed while it was copied"):
        deliver_bundle(packed, tmp_path / "out" / "model.edgepack")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_delivered_bundle_that_was_changed_is_delivered_again(packed: Packed, tmp_path: Path) -> None:
    final = tmp_path / "model.edgepack"
    deliver_bundle(packed, final)
    status = final.stat()
    final.write_bytes(b"BUNDLE" * 1000)
    os.utime(final, ns=(status.st_atime_ns, status.st_mtime_ns))
    deliver_bundle(packed, final)
    assert final.read_bytes() == b"bundle" * 1000


def test_a_bundle_that_is_there_is_left_alone(packed: Packed, tmp_path: Path) -> None:
    final = tmp_path / "model.edgepack"
    deliver_bundle(packed, final)
    inode = final.stat().st_ino
    deliver_bundle(packed, final)
    assert final.stat().st_ino == inode
