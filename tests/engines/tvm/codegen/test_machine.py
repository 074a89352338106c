"""The processor that code is generated for."""

from __future__ import annotations

import pytest

from edgepack.engines.targets import load_target
from edgepack.engines.tvm.codegen.machine import machine
from edgepack.engines.tvm.compile import processor_of
from edgepack.errors import ConfigError


@pytest.mark.parametrize(("threads", "sharing", "share"), [(4, 4, 256), (1, 4, 1024), (2, 4, 512), (4, 1, 1024)])
def test_cores_that_work_at_once_share_a_cache(threads: int, sharing: int, share: int) -> None:
    of = machine("aarch64", l2_bytes=1 << 20, l2_cores=sharing, threads=threads)
    assert of.l2_share_bytes == share << 10


@pytest.mark.parametrize(
    ("name", "caches"),
    [
        ("raspberry-pi-4-tvm", (32 << 10, 1 << 20, 4)),
        ("raspberry-pi-5-tvm", (64 << 10, 512 << 10, 1)),
        ("rk3588-tvm", (64 << 10, 512 << 10, 1)),
    ],
)
def test_code_is_generated_for_the_profiles_caches(name: str, caches: tuple[int, int, int]) -> None:
    of = processor_of(load_target(name))
    assert (of.l1_bytes, of.l2_bytes, of.l2_cores) == caches


def test_a_named_processors_own_features_are_taken_away_unless_the_profile_has_them() -> None:
    of = machine("aarch64", ("asimddp",), cpu="cortex-a76")
    assert {"+neon", "+dotprod", "-fullfp16", "-i8mm"} <= set(of.features)
    assert not {"-neon", "-dotprod", "+fullfp16", "+i8mm"} & set(of.features)


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match="no code is generated for the architecture 'mips'"):
        machine("mips")
