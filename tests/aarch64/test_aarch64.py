"""aarch64 bundles run under qemu-user: the numbers are right and no instruction is one that the processor lacks.

qemu translates instructions, so that nothing here says how fast anything is. 'make test-aarch64' sets it up.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backend_models
import codegen_models
import half_models
import numpy as np
import onnxruntime
import pytest
from integer_models import convolved, products_of_activations, quantized, reference, requantized

from edgepack.base import documents
from edgepack.bundle.archive import open_bundle, read_member
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.errors import ToolchainError
from edgepack.verify.golden import read_golden

if TYPE_CHECKING:
    from edgepack.specs.model import OnnxModel

ROOT = Path(__file__).resolve().parent.parent.parent
PLACE = Path(os.environ.get("EDGEPACK_AARCH64", ROOT / ".aarch64"))
PROCESSORS = {
    "generic-aarch64-tvm": "cortex-a53",
    "raspberry-pi-4-tvm": "cortex-a72",
    "raspberry-pi-5-tvm": "cortex-a76",
    "rk3588-tvm": "cortex-a76",
    "armv8.2-dotprod-tvm": "max",
    "armv8.6-i8mm-tvm": "max",
}
LIMIT_S = 240

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (PLACE / "packages" / "numpy").is_dir(), reason="no aarch64 system in .aarch64: run 'make test-aarch64'"
    ),
]


@dataclass(frozen=True)
class Device:
    """A processor that qemu pretends to be."""

    cpu: str

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [PLACE / "host/usr/bin/qemu-aarch64-static", "-L", PLACE / "root", "-cpu", self.cpu, *words]
        environment = {
            "PYTHONPATH": f"{PLACE / 'packages'}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_LIBRARY_PATH": str(PLACE / "root/usr/lib/aarch64-linux-gnu"),
        }
        text = [str(word) for word in command]
        return subprocess.run(text, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    def python(self, folder: Path, feeds: list[Any], scratch: Path) -> list[Any]:
        """The outputs by edgepack's own runner."""
        np.savez(scratch / "in.npz", **{str(i): feed for i, feed in enumerate(feeds)})
        script = Path(__file__).with_name("run_folder.py")
        program = PLACE / "root/usr/bin/python3.11"
        done = self.run(program, script, folder, scratch / "in.npz", scratch / "out.npz")
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.splitlines()[-1] == "aarch64 []"
        with np.load(scratch / "out.npz") as outputs:
            return [outputs[name] for name in sorted(outputs.files, key=int)]

    def program(self, folder: Path, feeds: list[Any], scratch: Path) -> list[Any]:
        """The outputs by the C++ runner, as bytes."""
        names = []
        for i, feed in enumerate(feeds):
            names.append(scratch / f"in{i}.bin")
            np.ascontiguousarray(feed).tofile(names[-1])
        (folder / "runner").chmod(0o755)
        done = self.run(folder / "runner", folder, *names, "--out", scratch / "out", "--threads", 1)
        assert done.returncode == 0, done.stderr[-2000:]
        return [(scratch / f"out{i}.bin").read_bytes() for i in range(len(list(scratch.glob("out?.bin"))))]


def compiled(model: OnnxModel, target: str, precision: Any, out: Path) -> Path:
    try:
        get_backend("tvm").compile_model(model, load_target(target), precision, out)
    except ToolchainError as error:
        pytest.skip(f"{error.message}: {error.hint}")
    return out


@pytest.mark.parametrize(
    ("name", "target", "cpu"),
    [(name, target, cpu) for target, cpu in PROCESSORS.items() for name in ("conv", "quantized")]
    + [(name, "generic-aarch64-tvm", "cortex-a53") for name in ("several", "branches")],
)
def test_both_runners_give_the_reference_outputs(name: str, target: str, cpu: str, tmp_path: Path) -> None:
    proto = backend_models.MODELS[name]()
    model = backend_models.save(proto, tmp_path / "model.onnx")
    feeds = backend_models.feeds(name)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"]).run(None, feeds)
    folder = compiled(model, target, "int8" if name == "quantized" else "fp32", tmp_path / "out")
    ordered = [feeds[spec.name] for spec in model.inputs]
    tolerance = 0.05 * 1.01 if name == "quantized" else 1e-5  # one step of the output's scale, where rounding differs
    found = Device(cpu).python(folder, ordered, tmp_path)
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, atol=tolerance, rtol=1e-5)
    raw = Device(cpu).program(folder, ordered, tmp_path)
    assert raw == [np.ascontiguousarray(array).tobytes() for array in found]


INTEGER_TARGETS = {  # what the rules of the kernels are then called
    "raspberry-pi-4-tvm": "window",
    "raspberry-pi-5-tvm": "window sdot",
    "armv8.6-i8mm-tvm": "matrix smmla",
}


@pytest.mark.parametrize(
    ("shape", "weights", "stride", "pad"),
    [
        ([1, 16, 9, 7], (24, 16, 3, 3), 1, 1),
        ([2, 8, 6, 5], (10, 8, 3, 3), 2, 1),
        ([1, 24, 5, 5], (40, 24, 1, 1), 1, 0),
        ([1, 64, 4, 4], (136, 64, 3, 3), 1, 1),  # the weights go by once, not the positions
    ],
)
@pytest.mark.parametrize("target", list(INTEGER_TARGETS))
def test_integer_convolutions_are_exact(
    target: str, shape: list[int], weights: tuple[int, ...], stride: int, pad: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    integers = random.integers(-128, 128, weights).astype(np.int8)
    scales = random.uniform(0.001, 0.01, weights[0])
    proto, bias = quantized("Conv", shape, integers, scales, 131, relu=True, strides=[stride] * 2, pads=[pad] * 4)
    x = random.integers(0, 256, shape).astype(np.float32)
    folder = compiled(backend_models.save(proto, tmp_path / "model.onnx"), target, "int8", tmp_path / "out")
    rules = (folder / "functions.txt").read_text()
    flat = INTEGER_TARGETS[target].replace("window", "flat") if weights[2] == 1 else INTEGER_TARGETS[target]
    assert flat in rules, rules
    (found,) = Device(PROCESSORS[target]).python(folder, [x], tmp_path)
    sums = convolved(x, integers, 131, stride, pad, 1) + bias[None, :, None, None]
    np.testing.assert_array_equal(found, reference(sums, scales, relu=True, axis=1))


@pytest.mark.parametrize("target", ["raspberry-pi-4-tvm", "raspberry-pi-5-tvm"])
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), 1), ((5, 5), 2)])
def test_depthwise_integers_are_exact(target: str, kernel: tuple[int, int], stride: int, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    shape, channels = [1, 16, 11, 9], 16
    integers = random.integers(-127, 128, (channels, 1, *kernel)).astype(np.int8)
    scales = random.uniform(0.001, 0.01, channels)
    proto, bias = quantized(
        "Conv", shape, integers, scales, 131, relu=True, strides=[stride] * 2, pads=[1] * 4, group=channels
    )
    x = random.integers(0, 256, shape).astype(np.float32)
    folder = compiled(backend_models.save(proto, tmp_path / "model.onnx"), target, "int8", tmp_path / "out")
    assert ("columns sdot" in (folder / "functions.txt").read_text()) == (target == "raspberry-pi-5-tvm")
    (found,) = Device(PROCESSORS[target]).python(folder, [x], tmp_path)
    sums = convolved(x, integers, 131, stride, 1, channels) + bias[None, :, None, None]
    np.testing.assert_array_equal(found, reference(sums, scales, relu=True, axis=1))


@pytest.mark.parametrize("rows", [1, 6, 7])
def test_integer_products_are_exact_by_smmla(rows: int, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    integers = random.integers(-128, 128, (40, 22)).astype(np.int8)
    scales = random.uniform(0.001, 0.01, 22)
    proto, bias = quantized("MatMul", [rows, 40], integers, scales, 7, relu=False)
    x = random.integers(0, 256, (rows, 40)).astype(np.float32)
    model = backend_models.save(proto, tmp_path / "model.onnx")
    folder = compiled(model, "armv8.6-i8mm-tvm", "int8", tmp_path / "out")
    assert "matrix smmla" in (folder / "functions.txt").read_text()
    (found,) = Device("max").python(folder, [x], tmp_path)
    sums = (x.astype(np.int64) - 7) @ integers.astype(np.int64) + bias
    np.testing.assert_array_equal(found, reference(sums, scales, relu=False, axis=1))


def test_integer_products_of_activations_are_exact(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    shapes, zeros = ([2, 7, 22], [2, 22, 20]), (131, 117)
    x, w = (random.integers(0, 256, shape).astype(np.float32) for shape in shapes)
    proto = products_of_activations(*shapes, zeros, end=True)
    model = backend_models.save(proto, tmp_path / "model.onnx")
    folder = compiled(model, "raspberry-pi-5-tvm", "int8", tmp_path / "out")
    assert "activations sdot" in (folder / "functions.txt").read_text()
    (found,) = Device("cortex-a76").python(folder, [x, w], tmp_path)
    sums = (x.astype(np.int64) - zeros[0]) @ (w.astype(np.int64) - zeros[1])
    np.testing.assert_array_equal(found, requantized(sums, end=True))


@pytest.mark.parametrize(
    ("target", "precision"),
    [(target, precision) for target in ("raspberry-pi-4-tvm", "raspberry-pi-5-tvm") for precision in ("fp32", "int8")]
    + [("raspberry-pi-5-tvm", "fp16"), ("armv8.6-i8mm-tvm", "int8")],
)
def test_a_trained_networks_bundle_passes_its_golden_vectors(
    target: str, precision: str, assets: Path, tmp_path: Path
) -> None:
    from edgepack.pipeline.build import build
    from edgepack.pipeline.settings import BuildSettings
    from edgepack.verify.distance import distances

    with np.load(assets / "cifar10_test_b.npz") as data:
        pictures = data["x"][:64].astype(np.float32) / 255
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    np.savez(tmp_path / "pictures.npz", input=((pictures - mean) / std).transpose(0, 3, 1, 2))
    result = build(
        BuildSettings(
            model=str(assets / "resnet20_cifar10.onnx"),
            targets=(target,),
            precisions=(precision,),
            data=str(tmp_path / "pictures.npz"),
            benchmark=False,
            method="plain",  # the corrections take minutes, and what they do is not what is tested here
            out=str(tmp_path / "built"),
        )
    )
    (row,) = result.rows
    assert (row.status, row.reason) == ("ok", None)
    assert "was not run" in row.notes["code"]
    assert row.latency_ns is None
    bundle = open_bundle(Path(str(row.bundle)))
    folder = tmp_path / "device"
    folder.mkdir()
    for name in bundle.manifest.payloads[0].files:
        (folder / Path(name).name).write_bytes(read_member(bundle, name))
    vectors = read_golden(read_member(bundle, "golden.npz"))
    found = []
    for number, feed in enumerate(vectors.inputs):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        ordered = [feed[spec.name] for spec in bundle.manifest.inputs]
        answer = Device(PROCESSORS[target]).python(folder, ordered, scratch)
        raw = Device(PROCESSORS[target]).program(folder, ordered, scratch)
        assert raw == [np.ascontiguousarray(array).tobytes() for array in answer]
        found.append(dict(zip([s.name for s in bundle.manifest.outputs], answer, strict=True)))
    distance = distances(vectors.outputs, found, vectors.tolerance)
    print(f"\n{target} {precision} under qemu -cpu {PROCESSORS[target]}: {documents.to_json(distance[0])}")
    assert all(output.passed for output in distance)


@pytest.mark.parametrize("name", sorted(half_models.MODELS))
@pytest.mark.parametrize("target", ["raspberry-pi-5-tvm", "armv8.6-i8mm-tvm"])
def test_float16_adds_in_float32(target: str, name: str, tmp_path: Path) -> None:
    proto = half_models.MODELS[name]()
    feeds = codegen_models.feeds(proto)
    (wanted,) = codegen_models.run_reference(proto, feeds)
    model = backend_models.save(half_models.halves(proto), tmp_path / "model.onnx")
    folder = compiled(model, target, "fp16", tmp_path / "out")
    assert ("fmlal" in (folder / "functions.txt").read_text()) is (target == "armv8.6-i8mm-tvm")
    (found,) = Device(PROCESSORS[target]).python(folder, [feeds["x"]], tmp_path)
    distance = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"\n{target} {name} fp16 under qemu -cpu {PROCESSORS[target]}: {distance:.1e} of the largest value from fp32")
    assert distance <= 4 * half_models.STEP


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    model = backend_models.save(backend_models.conv(), tmp_path / "model.onnx")
    digests = []
    for place in ("a", "b/deeper"):
        folder = compiled(model, "raspberry-pi-4-tvm", "fp32", tmp_path / place)
        digests.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()})
    assert digests[0] == digests[1]
