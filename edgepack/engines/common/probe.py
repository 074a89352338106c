"""What the doctor's probes of engines share: a small model, and what a child process found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgepack.base.files import scratch_folder, sha256_file
from edgepack.device.host import host_facts
from edgepack.engines import get_backend
from edgepack.engines.targets import host_target, native_precisions
from edgepack.errors import EdgepackError
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.specs.run import RunOptions

# y = Relu(x) of two float32 numbers as an ONNX message (opset 13), so that an engine is tried without the onnx package.
RELU = (
    b'\x08\x07:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02B\x04\n\x00\x10\r"
)


@dataclass(frozen=True)
class Probe:
    """What a child process found: ``words`` for the summary, and the devices and precisions of an engine."""

    words: str
    devices: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()


def engine_probe(devices: tuple[str, ...], precisions: tuple[str, ...]) -> Probe:
    """Return what an engine that works is said to do."""
    if not devices:
        raise EdgepackError("it finds no device to compute on", hint="install it again")
    return Probe(f"builds and runs on {', '.join(devices)} in {', '.join(precisions)}", devices, precisions)


def probe_backend(name: str) -> Probe:
    """Compile a model for this host's CPU with an engine, and run it."""
    import numpy as np

    backend, host = get_backend(name), host_facts()
    backend.versions()
    with scratch_folder("edgepack-doctor-") as folder:
        path = folder / "relu.onnx"
        path.write_bytes(RELU)
        x, y = (TensorSpec(name, "float32", (2,)) for name in "xy")
        model = OnnxModel(path, sha256_file(path), len(RELU), 13, (x,), (y,))
        compiled = backend.compile_model(model, host_target(name, host), "fp32", folder / "out")
        runner = backend.load_model(compiled, RunOptions(threads=1))
        check_relu(runner.infer({"x": np.array([-1, 2], np.float32)})["y"])
        runner.close()
    return engine_probe(("CPU",), native_precisions(name, host))


def check_relu(output: Any) -> None:
    """Raise ``EdgepackError`` unless ``output`` is that of ``RELU`` for [-1, 2]."""
    if list(output) != [0.0, 2.0]:
        raise EdgepackError(f"it computes max(0, [-1, 2]) = {list(output)}", hint="install it again")
