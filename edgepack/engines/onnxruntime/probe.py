"""Tries ONNX Runtime for the doctor."""

from __future__ import annotations

from edgepack.device.host import host_facts
from edgepack.engines.common.probe import RELU, Probe, check_relu, engine_probe
from edgepack.engines.targets import half_on_arm


def probe() -> Probe:
    """Run a model on ONNX Runtime's CPU and list its execution providers."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(RELU, providers=["CPUExecutionProvider"])
    check_relu(session.run(None, {"x": np.array([-1, 2], np.float32)})[0])
    # Azure's provider sends models to a web service; it computes nothing here.
    names = [n.removesuffix("ExecutionProvider") for n in onnxruntime.get_available_providers()]
    devices = tuple(sorted(name for name in names if name != "Azure"))
    return engine_probe(devices, half_on_arm(host_facts()))
