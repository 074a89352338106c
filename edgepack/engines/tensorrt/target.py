"""The profile of this machine's NVIDIA GPU, and what any profile for TensorRT may say."""

from __future__ import annotations

import re

from edgepack.device.profiles import HOST_PREFIX, check_choice
from edgepack.engines.tensorrt.facts import ENGINE
from edgepack.errors import ConfigError
from edgepack.specs.target import Compute, EngineFacts, Host, QuantizationRules, Target

_DEVICES = ("GPU", "DLA", "DLA.0", "DLA.1")


def host_target(machine: Host) -> Target:
    """Return the profile of this machine's NVIDIA GPU; what its engine build needs more is asked when it is built.

    Raises ``ConfigError`` where there is none.
    """
    if machine.gpu is None:
        raise ConfigError(
            "host-tensorrt is made from this machine's NVIDIA GPU, and no NVIDIA driver was found here",
            hint="for a device elsewhere give its profile, as --target jetson-orin-nano-jp6 or --target nvidia-gpu",
        )
    return Target(
        id=f"{HOST_PREFIX}tensorrt",
        title=f"this host ({machine.gpu}), {ENGINE.title}",
        backend="tensorrt",
        arch=machine.arch,
        os=machine.os,
        engine=EngineFacts(**ENGINE.defaults["engine"]),  # type: ignore[arg-type]
        compute=Compute(precisions=("fp32", "fp16", "int8"), cpu_model=f"^{re.escape(machine.cpu)}$"),
        quantization=QuantizationRules(engine="tensorrt", **ENGINE.defaults["quantization"]),  # type: ignore[arg-type]
        sources={
            "compute.cpu_model": "/proc/cpuinfo of this host",
            "compute.precisions": "TensorRT documentation, support matrix: fp16 and int8 from SM 6.1 on",
            "quantization": "TensorRT documentation, Working with Quantized Types: symmetric int8 only",
        },
    )


def check_profile(target: Target, where: str) -> None:
    """Raise ``ConfigError`` for a device that TensorRT does not have, and for what is not a version."""
    check_choice(target.engine.device, _DEVICES, f"{where}: engine: device")
    for key, version in (("version", target.engine.version), ("cuda", target.engine.cuda)):
        if version is not None and not re.fullmatch(r"\d+(\.\d+){0,3}", version):
            raise ConfigError(f"{where}: engine: {key} = {version[:40]!r} is not a version", hint="write it as 10.3")
