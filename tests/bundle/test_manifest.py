"""The manifest: what is written is read again, and what may not stand in it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from edgepack.bundle.archive import open_bundle, read_member
from edgepack.bundle.manifest import FORMAT, check_name, check_version, manifest_bytes, read_manifest
from edgepack.errors import BundleError, ConfigError
from edgepack.specs.bundle import FileEntry, Payload
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task


@pytest.fixture
def manifest(bundle_path):
    return open_bundle(bundle_path).manifest


def test_it_is_the_same_after_writing_and_reading(manifest, bundle_path):
    text = manifest_bytes(manifest)
    assert read_manifest(text, "x") == manifest
    assert text == read_member(open_bundle(bundle_path), "manifest.json")


CHANGES = [
    ({"name": "../evil"}, "not a bundle's name"),
    ({"name": ""}, "not a bundle's name"),
    ({"version": "1 0"}, "not a version"),
    ({"target": "a/b"}, "not a target's id"),
    ({"source_sha256": "AB" * 32}, "source_sha256 is not"),
    ({"source_sha256": "ab" * 31}, "source_sha256 is not"),
    ({"calibration_sha256": "x"}, "calibration_sha256 is not"),
    ({"inputs": ()}, "inputs is empty"),
    ({"inputs": (TensorSpec("a", "float32", ()),) * 2}, "'a' is listed twice"),
    ({"inputs": (TensorSpec("a", "object", ()),)}, "dtype 'object'"),
    ({"inputs": (TensorSpec("a", "float32", (-1,)),)}, "negative or empty"),
    ({"inputs": (TensorSpec("a", "float32", (0,)),)}, "negative or empty"),
    ({"outputs": ()}, "outputs is empty"),
    ({"payloads": ()}, "payloads is empty"),
    ({"layers": {"int8": -1}}, "a count is negative"),
    ({"classes": ("\x1b[2J",)}, "control characters"),
    ({"toolchain": {"a\nb": "1"}}, "control characters"),
    ({"classes": ("\ud800",)}, "control characters"),
    ({"task": Task("detect-objects")}, "unknown task 'detect-objects'"),
    ({"task": Task("object-detection", "yolo999")}, "unknown decoder 'yolo999'"),
    ({"task": Task("object-detection", "yolo", {"most": 10**9})}, "most = 1000000000"),
    ({"task": Task("object-detection", "yolox", parameters={"strides": (1e9,)})}, "strides"),
    ({"task": Task("object-detection", "distributions", parameters={"bins": 10**9})}, "bins = 1000000000"),
    ({"task": Task("object-detection", "yolo", parameters={"exec": "x"})}, "unknown key 'exec'"),
    ({"preprocessing": Preprocessing(resize=(10**9, 10**9))}, "a side of 1000000000 pixels"),
    ({"preprocessing": Preprocessing(resize=(9, 9), letterbox=True, stride=-1)}, "stride = -1"),
]


@pytest.mark.parametrize(("changes", "words"), CHANGES)
def test_values_that_make_no_sense(manifest, changes, words):
    with pytest.raises(BundleError, match=words):
        manifest_bytes(dataclasses.replace(manifest, **changes))


def text_with(manifest, **changes):
    """Return a manifest's text with other JSON values in it."""
    data = json.loads(manifest_bytes(manifest))
    for place, value in changes.items():
        item = data
        *path, last = place.split("__")
        for key in path:
            item = item[int(key) if key.isdecimal() else key]
        item[last] = value
    return json.dumps(data).encode()


HOSTILE = [
    ({"files__0__size_bytes": 10**400}, "64 bits"),
    ({"layers": {"int8": 10**30}}, "64 bits"),
    ({"inputs__0__shape": [True, 3]}, "expected a whole number or text, found True"),
    ({"inputs__0__shape": [2.0]}, "expected a whole number or text"),
    ({"inputs__0__shape": [2**62, 2**62]}, "larger than any array"),
    ({"inputs__0__shape": [1] * 100}, "larger than any array"),
    ({"requirements__engine": {"onnxruntime": "9" * 5000}}, "has 5000 characters"),
    ({"toolchain": {"onnxruntime": "9" * 5000}}, "has 5000 characters"),
    ({"version": "9" * 5000}, "not a version"),
    ({"format": True}, "does not say which format"),
    ({"accuracy": {"accuracy": None, "sqnr_db": 10**300, "cosine": 1, "agreement": 1, "n": 1, "engine": "", "isa": []}},
     "64 bits"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), HOSTILE)
def test_numbers_that_would_break_a_reader(manifest, changes, words):
    with pytest.raises(BundleError, match=words):
        read_manifest(text_with(manifest, **changes), "x")


@pytest.mark.parametrize(
    "change",
    [lambda t: b"\xef\xbb\xbf" + t, lambda t: t.decode().encode("utf-16"), lambda t: t.decode().encode("utf-32")],
)
def test_another_encoding_than_utf_8_is_refused(manifest, change):
    with pytest.raises(BundleError, match="is not valid JSON"):
        read_manifest(change(manifest_bytes(manifest)), "x")


def test_a_manifest_of_before_tasks_is_read(manifest):
    data = json.loads(manifest_bytes(manifest))
    assert data.pop("task") is None
    read = read_manifest(json.dumps(data).encode(), "x")
    assert read.task is None
    task = Task("object-detection", "yolo", {"score": 0.5}, {"points": 3})
    assert read_manifest(manifest_bytes(dataclasses.replace(manifest, task=task)), "x").task == task


def test_files_that_make_no_sense(manifest):
    def refused(entry, words):
        with pytest.raises(BundleError, match=words):
            manifest_bytes(dataclasses.replace(manifest, files=(*manifest.files, entry)))

    digest = "0" * 64
    refused(FileEntry("/etc/passwd", digest, 1), "absolute")
    refused(FileEntry("model/../../x", digest, 1), "leads out")
    refused(FileEntry("model/x", "0" * 63, 1), "not a sha256")
    refused(FileEntry("model/x", digest, -1), "size is negative")
    refused(FileEntry("model/x", digest, 1), "belongs to no payload")
    refused(FileEntry("manifest.json", digest, 1), "cannot list itself")
    refused(FileEntry("signature.dsse.json", digest, 1), "cannot list itself")
    refused(manifest.files[0], "twice")
    with pytest.raises(BundleError, match=r"golden\.npz is missing"):
        manifest_bytes(dataclasses.replace(manifest, files=manifest.files[1:]))


def test_payloads_that_make_no_sense(manifest):
    payload = manifest.payloads[0]

    def refused(wrong: Payload, words: str) -> None:
        with pytest.raises(BundleError, match=words):
            manifest_bytes(dataclasses.replace(manifest, payloads=(wrong,)))

    refused(dataclasses.replace(payload, entry="model/other"), "entry 'model/other' is not one")
    refused(dataclasses.replace(payload, entry="golden.npz", files=("golden.npz",)), "not one of the files in model/")
    refused(dataclasses.replace(payload, files=(*payload.files, "model/absent")), "not one of the files in model/")
    refused(dataclasses.replace(payload, backend="a b"), "not a backend's name")


def test_formats_of_the_future_and_of_nobody(manifest):
    def read(**changes: object) -> None:
        read_manifest(json.dumps({**json.loads(manifest_bytes(manifest)), **changes}).encode(), "x")

    with pytest.raises(BundleError, match=f"format {FORMAT + 1}; this edgepack reads up to {FORMAT}") as caught:
        read(format=FORMAT + 1, payloads="in another shape")
    assert caught.value.hint == "pip install --upgrade edgepack"
    for value in (0, -1, True, "1", None, 1.0):
        with pytest.raises(BundleError, match="does not say which format"):
            read(format=value)
    with pytest.raises(BundleError, match="unknown key 'licens'"):
        read(licens="MIT")


def test_names_and_versions_of_the_user():
    check_name("my-net_v2.1")
    check_version("2.0.1+build.7")
    for name in ("", "a b", "a/b", "..", "-a", "é", "x" * 101):
        with pytest.raises(ConfigError, match="is not a valid name"):
            check_name(name)
    for version in ("", "1 0", "v/1", "+1"):
        with pytest.raises(ConfigError, match="is not a valid version"):
            check_version(version)
