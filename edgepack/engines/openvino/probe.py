"""Tries OpenVINO for the doctor."""

from __future__ import annotations

from edgepack.engines.common.probe import RELU, Probe, check_relu, engine_probe


def probe() -> Probe:
    """Run a model on every device that OpenVINO finds, and ask each what it computes in."""
    import numpy as np
    import openvino

    core = openvino.Core()
    model = core.read_model(RELU, b"")
    found: dict[str, set[str]] = {}
    refused: list[str] = []
    for device in core.available_devices:
        settings = {"INFERENCE_PRECISION_HINT": "f32"} if device == "CPU" else {}
        try:
            check_relu(core.compile_model(model, device, settings)({"x": np.array([-1, 2], np.float32)})[0])
            found[device] = set(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
        except Exception as error:  # a device with a bad driver; the others still count
            refused.append(f"{device} does not work ({' '.join(str(error).split())[:200]})")
    offered = set().union(*found.values())
    names = tuple(name for name in ("fp32", "fp16", "bf16", "int8") if name.upper() in offered)
    found_all = engine_probe(tuple(found), names)
    return Probe("; ".join([found_all.words, *refused]), found_all.devices, found_all.precisions)
