"""What a profile for OpenVINO may say, and what its kernels compute in."""

from __future__ import annotations

import pytest
from made_up import HOST

from edgepack.engines.openvino.target import check_profile, native_precisions
from edgepack.errors import ConfigError
from edgepack.specs.target import EngineFacts, Host, Target


def target(device: str) -> Target:
    return Target("t", "T", "openvino", "x86_64", engine=EngineFacts(device=device))


@pytest.mark.parametrize("device", ["CPU", "GPU", "GPU.1", "NPU"])
def test_devices_of_openvino_pass(device: str) -> None:
    check_profile(target(device), "t.toml")


@pytest.mark.parametrize("device", ["GPUU", "CUDAExecutionProvider", "AUTO", ".GPU"])
def test_others_are_refused_with_their_place(device: str) -> None:
    with pytest.raises(ConfigError, match=r"t\.toml: engine: device"):
        check_profile(target(device), "t.toml")


def machine(arch: str, flags: str) -> Host:
    return Host(**{**vars(HOST), "arch": arch, "isa": tuple(flags.split())})


@pytest.mark.parametrize(
    ("arch", "flags", "precisions"),
    [
        ("x86_64", "avx2", "fp32 int8"),
        ("x86_64", "avx512f avx512_fp16", "fp32 fp16 int8"),
        ("x86_64", "avx512_bf16", "fp32 bf16 int8"),
        ("x86_64", "amx_bf16", "fp32 bf16 int8"),
        ("x86_64", "avx_vnni avx_vnni_int8 avx_ne_convert", "fp32 fp16 bf16 int8"),
        ("x86_64", "avx_vnni avx_ne_convert", "fp32 int8"),
        ("aarch64", "fphp asimdhp", "fp32 fp16 int8"),
    ],
)
def test_precisions_are_those_with_instructions_of_their_own(arch: str, flags: str, precisions: str) -> None:
    assert native_precisions(machine(arch, flags)) == tuple(precisions.split())
