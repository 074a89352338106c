"""The commands on a device: only numpy, Click and ONNX Runtime can be imported, in child processes too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bare_device import BareDevice
from small_bundles import small_bundle
from trust_cases import device as policy_file
from trust_cases import new_key, signed_bundle

from edgepack import __version__
from edgepack.base import documents
from edgepack.bundle.archive import open_bundle
from edgepack.specs.bundle import Manifest
from edgepack.specs.result import Result
from edgepack.specs.run import Verification

pytestmark = pytest.mark.slow

ENGINE = ("onnxruntime", "flatbuffers", "google", "coloredlogs", "humanfriendly", "packaging")


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    return BareDevice(tmp_path_factory.mktemp("device") / "site", *ENGINE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundle"))


def test_nothing_else_can_be_imported(device):
    code = "import importlib.util, sys; print([m for m in sys.argv[1:] if importlib.util.find_spec(m)])"
    done = device.python("-c", code, "rich", "onnx", "msgspec", "jinja2", "scipy", "numpy", "click", "onnxruntime")
    assert done.stdout == "['numpy', 'click', 'onnxruntime']\n"


def test_inspect(device, bundle):
    done = device.edgepack("inspect", bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert "small 1.0 for test-board, fp32" in done.stdout
    assert "input   image   float32  [N, 3, 8, 8]" in done.stdout


def test_inspect_as_json(device, bundle):
    found = json.loads(device.edgepack("inspect", bundle, "--json").stdout)
    opened = open_bundle(bundle)
    assert documents.decode(Manifest, found["manifest"], "x") == opened.manifest
    assert (found["sha256"], found["size_bytes"]) == (opened.sha256, opened.size_bytes)


def test_verify(device, bundle):
    done = device.edgepack("verify", bundle, "--threads", "1", "--json")
    assert documents.from_json(Verification, done.stdout, "x").passed
    assert "verified: " in done.stderr


def test_verify_of_a_damaged_bundle_ends_with_5(device, bundle, tmp_path):
    damaged = Path(shutil.copy(bundle, tmp_path))
    data = bytearray(damaged.read_bytes())
    data[open_bundle(bundle).members["golden.npz"].offset + 99] ^= 1
    damaged.write_bytes(data)
    failed = device.edgepack("verify", damaged)
    assert failed.returncode == 5
    assert "'golden.npz' do not match" in failed.stderr
    assert "hint: " in failed.stderr
    assert "Traceback" not in failed.stderr


def test_run(device, bundle, tmp_path):
    np.savez(tmp_path / "input.npz", image=np.ones((1, 3, 8, 8), np.float32))
    words = ["run", bundle, "--input", tmp_path / "input.npz"]
    found = json.loads(device.edgepack(*words, "-o", tmp_path / "out.npz", "--json").stdout)
    with np.load(tmp_path / "out.npz") as outputs:
        np.testing.assert_allclose(outputs["scores"], found["outputs"]["scores"]["values"], rtol=1e-6)
    assert len(found["top5"]) == 5
    assert "scores  float32  [1, 5]" in device.edgepack(*words).stdout


def test_benchmark(device, bundle, tmp_path):
    options = ["--duration", "200ms", "--warmup", "50ms", "--threads", "1", "--launches", "2"]
    done = device.edgepack("benchmark", bundle, *options, "-o", tmp_path / "r.json", "--json")
    result = documents.from_json(Result, done.stdout, "x")
    assert result == documents.from_json(Result, (tmp_path / "r.json").read_text(), "x")
    assert (result.bundle_name, result.scenario.name) == ("small", "SingleStream")
    assert result.bundle_sha256 == open_bundle(bundle).sha256
    assert "samples/s" in done.stderr


def test_benchmark_of_several(device, bundle, tmp_path):
    other = small_bundle(tmp_path, name="other")
    options = ["--duration", "100ms", "--warmup", "10ms", "--threads", "1", "--launches", "1", "--no-limit"]
    done = device.edgepack("benchmark", bundle, other, *options, "--out", tmp_path / "results", "--json")
    assert [result["bundle_name"] for result in json.loads(done.stdout)] == ["small", "other"]
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_compare(device, bundle):
    done = device.edgepack("compare", bundle, bundle, "--duration", "1s", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ratio"] > 0


def test_install_status_and_rollback(device, bundle, tmp_path):
    for version in ("1.0", "2.0"):
        path = small_bundle(tmp_path / version, version=version)
        done = device.edgepack("install", path, "--root", tmp_path / "root", "--json")
        assert done.returncode == 0, done.stderr
    assert "small 2.0" in device.edgepack("status", "--root", tmp_path / "root").stdout
    assert "small 1.0" in device.edgepack("rollback", "--root", tmp_path / "root").stdout
    refused = device.edgepack("adopt", bundle, "-o", tmp_path / "packed.edgepack")
    assert refused.returncode == 2
    assert "no TensorRT payload" in refused.stderr


def test_a_signature_that_is_required_is_a_refusal_without_cryptography(device, tmp_path):
    """It is never passed over; what is not signed is refused by the policy itself."""
    key = new_key(tmp_path, "release")
    plain, signed = small_bundle(tmp_path / "plain"), signed_bundle(tmp_path / "signed", key)
    policy = policy_file(tmp_path / "etc", key)
    code = "import os, sys; os.environ['EDGEPACK_POLICY'] = sys.argv.pop(1); from edgepack.__main__ import main; main()"
    for words in (("verify",), ("install", "--root", tmp_path / "root")):
        refused = device.python("-c", code, policy, words[0], signed, *words[1:])
        assert refused.returncode == 3, refused.stderr
        assert "hint: pip install 'edgepack[verify]'" in refused.stderr
        refused = device.python("-c", code, policy, words[0], plain, *words[1:])
        assert (refused.returncode, "is not signed" in refused.stderr) == (5, True)
    assert not (tmp_path / "root").exists()
    assert device.edgepack("verify", signed).returncode == 0, "without a policy nobody looks at it"


def test_pull_recover_and_a_trial(device, bundle, tmp_path):
    folder = f"oci:{tmp_path}/usb:1"
    assert device.edgepack("push", bundle, folder).returncode == 0
    assert device.edgepack("pull", folder, "-o", tmp_path / "pulled.edgepack").returncode == 0
    assert (tmp_path / "pulled.edgepack").read_bytes() == bundle.read_bytes()
    root = tmp_path / "root"
    done = device.edgepack("install", tmp_path / "pulled.edgepack", "--root", root, "--health", "true")
    assert done.returncode == 0, done.stderr
    assert "small 1.0" in device.edgepack("recover", "--root", root).stdout
    assert "every bundle is taken" in device.edgepack("policy").stdout


def test_this_machine(device, tmp_path):
    assert "raspberry-pi-5" in device.edgepack("targets").stdout
    assert "Cortex-A76" in device.edgepack("targets", "show", "raspberry-pi-5").stdout
    assert "imagenet" in device.edgepack("recipes").stdout
    assert json.loads(device.edgepack("store", "--store", tmp_path, "--json").stdout)["size_bytes"] == 0


def test_doctor_names_what_is_missing_here(device):
    done = device.edgepack("doctor", "--json")
    works = {report["name"]: report["works"] for report in json.loads(done.stdout)["engines"]}
    assert works["onnxruntime"]
    assert not works["onnx"]


BUILDING = """
import sys
from edgepack.cli.main import cli
for words in sys.stdin.read().splitlines():
    try:
        cli.main(words.split())
    except SystemExit as end:
        print(end.code)
"""
BUILDER_COMMANDS = (
    "build m.onnx",
    "plan m.onnx",
    "demo",
    "export m.pt2 -o m.onnx",
    "lint m.onnx --data d",
    "calibrate m.onnx --data d -o r.json",
    "quantize m.onnx --ranges r.json --target host-onnxruntime -o q.onnx",
    "check m.onnx --target host-onnxruntime",
    "compile m.onnx --target host-onnxruntime -o c",
    "pack c --model m.onnx --target host-onnxruntime -o b.edgepack",
    "tune m.onnx --target host-tvm",
    "schema manifest",
)


def test_commands_that_build_say_at_once_what_to_install(device):
    done = device.python("-c", BUILDING, input="\n".join(BUILDER_COMMANDS))
    assert done.stdout.split() == ["3"] * len(BUILDER_COMMANDS)
    assert done.stderr.count("hint: pip install 'edgepack[build]'") == len(BUILDER_COMMANDS)
    for words in BUILDER_COMMANDS[:-2]:
        assert f"'edgepack {words.split()[0]}' needs packages that are not installed: onnx" in done.stderr


def test_a_model_and_the_layers_of_a_bundle_need_onnx(device, bundle, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"")
    refused = device.edgepack("inspect", tmp_path / "m.onnx")
    assert (refused.returncode, "edgepack[build]" in refused.stderr) == (3, True)
    refused = device.edgepack("inspect", "--layers", bundle)
    assert (refused.returncode, "onnx is not installed" in refused.stderr) == (3, True)


def test_the_old_name_of_the_program(device, bundle):
    assert device.python("-m", "edgepack.runtime", "--version").stdout == f"edgepack, version {__version__}\n"
    assert device.python("-m", "edgepack.runtime", "inspect", bundle).returncode == 0


def test_a_reader_that_went_away(device, bundle):
    read, write = os.pipe()
    os.close(read)
    done = device.edgepack("inspect", bundle, "--json", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 141  # 128 + SIGPIPE, as shells count
    assert done.stderr == ""
