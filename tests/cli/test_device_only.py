"""The commands on a device: only numpy, Click and ONNX Runtime can be imported, in child processes too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bare_device import BareDevice
from PIL import Image
from small_bundles import small_bundle, small_onnx
from trust_cases import device as policy_file
from trust_cases import new_key, signed_bundle

from edgepack import __version__
from edgepack.base import documents
from edgepack.bundle.archive import open_bundle
from edgepack.calibrate import calibrate
from edgepack.calibrate.merge import measure_statistics
from edgepack.calibrate.ranges import read_ranges
from edgepack.data.samples import find_samples, take_samples
from edgepack.graph.load import load_model
from edgepack.specs.bundle import Manifest
from edgepack.specs.data import Preprocessing, SampleStatistics
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
    assert "every undamaged bundle is accepted" in device.edgepack("policy").stdout


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


RECIPE = """title = "small"
[preprocessing]
resize = [8, 8]
scale = 0.01
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job as a builder makes it, with its model and preprocessing."""
    folder = tmp_path_factory.mktemp("job")
    model = load_model(small_onnx(folder / "small.onnx"))
    (folder / "small.toml").write_text(RECIPE)
    words = ("calibrate", model.path, "--recipe", folder / "small.toml", "--job", "-o", folder / "small.job")
    subprocess.run([sys.executable, "-m", "edgepack", *map(str, words)], check=True, capture_output=True)
    return folder / "small.job", model, Preprocessing(resize=(8, 8), scale=0.01)


def counted(device, job, data, out, *more):
    done = device.edgepack("calibrate", job, "--data", data, "-o", out, *more, "--store", out.parent / "store")
    assert done.returncode == 0, done.stderr
    return documents.from_json(SampleStatistics, out.read_text(), "x")


def test_ranges_of_two_devices_are_those_of_a_builder_with_all_samples(device, job, tmp_path):
    path, model, _ = job
    images = np.random.default_rng(1).standard_normal((12, 3, 8, 8), np.float32)
    for name, part in (("one", slice(0, 5)), ("other", slice(5, 12)), ("all", slice(0, 12))):
        np.savez(tmp_path / f"{name}.npz", image=images[part])
    one, other = (counted(device, path, tmp_path / f"{n}.npz", tmp_path / f"{n}.json") for n in ("one", "other"))
    assert (one.samples, other.samples, len(one.tensors)) == (5, 7, 6)
    found = find_samples(str(tmp_path / "one.npz"), model.inputs, None)
    assert one == measure_statistics(model, found, tmp_path / "builder"), "a device's document is a builder's"
    whole = find_samples(str(tmp_path / "all.npz"), model.inputs, None)
    for observer in ("minmax", "mse"):
        words = ("--merge", tmp_path / "other.json", tmp_path / "one.json", "--observer", observer)
        done = device.edgepack("calibrate", *words, "-o", tmp_path / "ranges.json")
        assert done.returncode == 0, done.stderr
        ranges = read_ranges(tmp_path / "ranges.json")
        assert ranges.tensors == calibrate(model, whole, observer, 99.99, tmp_path / "builder").tensors
        assert (ranges.samples, ranges.model_sha256) == (12, model.sha256)


def test_pictures_are_counted_with_pillow_besides(job, tmp_path):
    path, model, made = job
    pixels = np.random.default_rng(2).integers(0, 256, (3, 9, 12, 3), np.uint8)
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{number}.png")
    with_pillow = BareDevice(tmp_path / "site", *ENGINE, "PIL")
    found = counted(with_pillow, path, tmp_path / "pictures", tmp_path / "a.json", "--samples", "2", "--seed", "5")
    samples = take_samples(find_samples(str(tmp_path / "pictures"), model.inputs, made), 2, 5)
    assert found == measure_statistics(model, samples, tmp_path / "builder")


def test_a_job_that_is_damaged_ends_with_5_and_writes_nothing(device, job, tmp_path):
    damaged = Path(shutil.copy(job[0], tmp_path / "damaged.job"))
    data = bytearray(damaged.read_bytes())
    data[data.rindex(b"kernel")] ^= 1  # a weight's name in the model
    damaged.write_bytes(data)
    np.savez(tmp_path / "x.npz", image=np.zeros((1, 3, 8, 8), np.float32))
    words = ("calibrate", damaged, "--data", tmp_path / "x.npz", "-o", tmp_path / "a.json", "--store", tmp_path / "s")
    refused = device.edgepack(*words)
    assert (refused.returncode, "'model/model.onnx' do not match" in refused.stderr) == (5, True), refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "a.json").exists()


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
    assert done.stderr.count("hint: pip install 'edgepack[builder]'") == len(BUILDER_COMMANDS) - 1
    assert done.stderr.count("hint: pip install 'edgepack[demo]'") == 1
    for words in BUILDER_COMMANDS[:-2]:
        assert f"'edgepack {words.split()[0]}' needs packages that are not installed: onnx" in done.stderr


def test_a_model_and_the_layers_of_a_bundle_need_onnx(device, bundle, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"")
    refused = device.edgepack("inspect", tmp_path / "m.onnx")
    assert (refused.returncode, "edgepack[builder]" in refused.stderr) == (3, True)
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
