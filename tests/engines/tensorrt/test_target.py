"""The profile of this machine's GPU, and what any profile for TensorRT may say."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import made_up
import pytest

from edgepack.device.profiles import check_target
from edgepack.engines.tensorrt.target import check_profile, host_target
from edgepack.errors import ConfigError
from edgepack.specs.target import EngineFacts, Target

GPU = dataclasses.replace(made_up.HOST, gpu="NVIDIA Made-up 5090")


def test_a_gpu_makes_a_profile_whose_engine_the_machine_builds() -> None:
    found = host_target(GPU)
    assert (found.id, found.backend, found.engine.device, found.engine.build_on) == (
        "host-tensorrt",
        "tensorrt",
        "GPU",
        "device",
    )
    assert "NVIDIA Made-up 5090" in found.title
    assert found.quantization.activation_symmetric
    assert not found.quantization.quantize_bias
    check_profile(found, "host")


def test_the_machine_is_known_by_its_very_name() -> None:
    pattern = host_target(GPU).compute.cpu_model
    assert pattern is not None
    assert re.search(pattern, GPU.cpu)  # brackets and a plus are in the name
    assert not re.search(pattern, f"{GPU.cpu} and more")


def test_the_profile_holds_what_every_profile_must() -> None:
    check_target(
        dataclasses.replace(
            host_target(GPU),
            id="gpu",
            compute=dataclasses.replace(host_target(GPU).compute, cpu_model=None),
            sources={},
        ),
        "x",
    )


def test_without_a_gpu_there_is_a_hint() -> None:
    with pytest.raises(ConfigError, match="no NVIDIA driver was found here") as caught:
        host_target(made_up.HOST)
    assert "--target jetson-orin-nano-jp6" in str(caught.value.hint)


def target(**facts: Any) -> Target:
    return Target("t", "T", "tensorrt", "aarch64", engine=EngineFacts(**{"device": "GPU", **facts}))


@pytest.mark.parametrize(
    "facts", [{}, {"device": "DLA"}, {"device": "DLA.1"}, {"version": "10.3"}, {"version": "8", "cuda": "12.6.1.4"}]
)
def test_devices_and_versions(facts: dict[str, str]) -> None:
    check_profile(target(**facts), "t.toml")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"device": "CPU"}, "engine: device"),
        ({"device": "DLA.2"}, "engine: device"),
        ({"version": "10.x"}, "engine: version"),
        ({"cuda": "12.6.1.4.5"}, "engine: cuda"),
        ({"version": ""}, "engine: version"),
    ],
)
def test_others_are_refused_with_their_place(facts: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=f"t.toml: {words}"):
        check_profile(target(**facts), "t.toml")
