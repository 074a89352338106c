"""Which payloads are code, and that a bundle which looks like data does not hold any."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from edgepack.base import documents
from edgepack.bundle.archive import measure, open_bundle, write_archive
from edgepack.bundle.manifest import check_manifest, manifest_bytes
from edgepack.bundle.payloads import is_native
from edgepack.engines import ENGINES
from edgepack.errors import BundleError
from edgepack.specs.bundle import FileEntry, Manifest, Payload, Requirements

if TYPE_CHECKING:
    from pathlib import Path


def payload(backend: str, entry: str, **changes: Any) -> Payload:
    name = f"model/{backend}/{entry}"
    return dataclasses.replace(Payload(backend, "CPU", "fp32", name, (name,)), **changes)


ONNX = payload("onnxruntime", "model.onnx")
CODE = payload("tvm", "model.so")


@pytest.fixture
def manifest(bundle_path: Path) -> Manifest:
    return open_bundle(bundle_path).manifest


def holding(manifest: Manifest, *payloads: Payload, **changes: Any) -> Manifest:
    files = [entry for entry in manifest.files if not entry.path.startswith("model/")]
    names = {name for one in payloads for name in one.files}
    entries = (*files, *(FileEntry(name, "0" * 64, 1) for name in sorted(names)))
    return dataclasses.replace(manifest, payloads=payloads, files=entries, **changes)


@pytest.mark.parametrize(
    ("backend", "entry", "native"),
    [
        ("onnxruntime", "model.onnx", False),
        ("onnxruntime", "model.so", True),
        ("openvino", "model.xml", False),
        ("openvino", "model.blob", True),
        ("tensorrt", "model.onnx", False),
        ("tensorrt", "engine.plan", True),
        ("tvm", "model.so", True),
        ("tvm", "model.onnx", True),
        ("dreamengine", "model.onnx", True),
    ],
)
def test_code_is_what_an_engine_does_not_compile(backend: str, entry: str, native: bool) -> None:
    assert is_native(payload(backend, entry)) is native


def test_every_engine_that_carries_itself_is_code() -> None:
    assert all(is_native(payload(name, f"m{suffix}")) for name, engine in ENGINES.all() if engine.self_contained
               for suffix in (".so", ".onnx", ".xml"))  # fmt: skip


MACHINE = Requirements("x86_64", ("avx2",), {})
ANY = Requirements(None, (), {})


@pytest.mark.parametrize(
    ("payloads", "changes", "problem"),
    [
        ((ONNX, CODE), {"requirements": MACHINE}, "native code stands behind a payload of data"),
        ((ONNX, CODE), {"requirements": ANY}, "native code stands behind a payload of data"),
        ((CODE,), {"requirements": ANY}, "tvm is native code, and the requirements name no machine"),
        ((ONNX,), {"target": "host-tvm"}, "the target is host-tvm, the payload is for onnxruntime"),
        ((CODE,), {"target": "host-onnxruntime", "requirements": MACHINE}, "the payload is for tvm"),
        ((dataclasses.replace(ONNX, files=ONNX.files * 2),), {}, "'model/onnxruntime/model.onnx' is listed twice"),
        ((dataclasses.replace(ONNX, precision="int8"),), {}, "onnxruntime is int8, the bundle fp32"),
    ],
)
def test_contradictions_are_refused(
    manifest: Manifest, payloads: tuple[Payload, ...], changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BundleError, match=problem):
        check_manifest(holding(manifest, *payloads, **changes), "net.edgepack")


@pytest.mark.parametrize(
    ("payloads", "changes"),
    [
        ((ONNX,), {}),
        ((CODE,), {"requirements": MACHINE}),
        ((CODE,), {"requirements": MACHINE, "target": "host-tvm"}),
        ((CODE, ONNX), {"requirements": MACHINE}),  # from code to data is no danger
        ((payload("tensorrt", "engine.plan", key={"sm": "87"}), payload("tensorrt", "model.onnx"), ONNX), {}),
        ((ONNX, payload("dreamengine", "model")), {}),  # of a later version: passed over
    ],
)
def test_what_fits_together_is_taken(
    manifest: Manifest, payloads: tuple[Payload, ...], changes: dict[str, Any]
) -> None:
    check_manifest(holding(manifest, *payloads, **changes), "net.edgepack")


def test_a_forged_bundle_is_refused_when_it_is_opened(manifest: Manifest, tmp_path: Path) -> None:
    """Digests that fit do not help: a broken ONNX file in front of a shared library."""
    sources = {}
    bundle = holding(manifest, ONNX, CODE, target="host-onnxruntime")
    for entry in bundle.files:
        path = tmp_path / str(len(sources))
        path.write_bytes(entry.path.encode())
        sources[entry.path] = measure(path)
    entries = tuple(FileEntry(name, s.sha256, s.size_bytes) for name, s in sorted(sources.items()))
    forged = dataclasses.replace(bundle, files=entries)
    with pytest.raises(BundleError):
        manifest_bytes(forged)
    write_archive(tmp_path / "net.edgepack", documents.to_json(forged).encode(), sources)
    with pytest.raises(BundleError, match="native code stands behind a payload of data"):
        open_bundle(tmp_path / "net.edgepack")
