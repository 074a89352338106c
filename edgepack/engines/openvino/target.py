"""What a profile for OpenVINO may say, and what its CPU kernels compute in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.device.profiles import check_choice
from edgepack.engines.targets import half_on_arm

if TYPE_CHECKING:
    from edgepack.specs.target import Host, Target
    from edgepack.specs.types import Precision


def check_profile(target: Target, where: str) -> None:
    """Raise ``ConfigError`` for a device that OpenVINO does not have."""
    check_choice(target.engine.device.partition(".")[0], ("CPU", "GPU", "NPU"), f"{where}: engine: device")


def native_precisions(machine: Host) -> tuple[Precision, ...]:
    """Return the precisions that its CPU kernels compute in on ``machine``, not counting emulation.

    float16 with AVX512-FP16, AVX-NE-CONVERT or ARM half precision, and bfloat16 with AVX512-BF16, AMX-BF16 or
    AVX-NE-CONVERT (``intel_cpu/src/utils/precision_support.cpp``; there oneDNN's avx2_vnni_2 is these three flags).
    """
    flags = set(machine.isa)
    narrow = {"avx_vnni", "avx_vnni_int8", "avx_ne_convert"} <= flags
    found: list[Precision] = ["fp32"]
    if "fp16" in half_on_arm(machine) or narrow or "avx512_fp16" in flags:
        found.append("fp16")
    if narrow or {"avx512_bf16", "amx_bf16"} & flags:
        found.append("bf16")
    return (*found, "int8")
