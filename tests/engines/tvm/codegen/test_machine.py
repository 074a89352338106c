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


@pytest.mark.parametrize(
    ("arch", "isa", "bits", "registers"),
    [
        ("x86_64", (), 128, 16),
        ("x86_64", ("avx2",), 256, 16),
        ("x86_64", ("avx2", "fma", "avx512f"), 256, 16),  # without bytes and words 512 bits are not worth it
        ("x86_64", ("avx512f", "avx512bw", "avx512dq", "avx512vl"), 512, 32),
        ("aarch64", ("sve",), 128, 32),
        ("riscv64", ("v",), 128, 32),
    ],
)
def test_vectors_are_as_wide_as_the_flags_promise(arch: str, isa: tuple[str, ...], bits: int, registers: int) -> None:
    found = machine(arch, isa)
    assert (found.vector_bits, found.registers) == (bits, registers)
    assert (found.lanes(), found.lanes(8)) == (bits // 32, bits // 8)


@pytest.mark.parametrize(
    ("arch", "isa", "has"),
    [
        ("x86_64", ("avx2", "fma"), {"has_avx2"}),
        ("x86_64", ("avx512_vnni",), set()),  # of 512 bits, which are not there
        ("x86_64", ("avx_vnni",), {"has_vnni"}),
        ("x86_64", ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"), {"has_avx512", "has_vnni"}),
        (
            "x86_64",
            ("avx512f", "avx512bw", "avx512dq", "avx512vl", "amx_tile", "amx_int8"),
            {"has_avx512", "has_amx"},
        ),
        ("x86_64", ("avx2", "fma", "amx_tile", "amx_int8"), {"has_avx2"}),  # what is behind the sums has 512 bits
        ("aarch64", ("asimddp", "i8mm"), {"has_dotprod", "has_smmla"}),
        ("aarch64", ("i8mm",), set()),
        ("aarch64", ("asimdfhm", "asimdhp"), {"has_fmlal"}),
    ],
)
def test_instructions_are_there_with_all_that_they_need(arch: str, isa: tuple[str, ...], has: set[str]) -> None:
    found = machine(arch, isa)
    names = ("has_avx2", "has_avx512", "has_vnni", "has_amx", "has_dotprod", "has_smmla", "has_fmlal")
    assert {name for name in names if getattr(found, name)} == has


def test_flags_of_another_architecture_are_no_features() -> None:
    found = machine("aarch64", ("avx2", "asimddp"))
    assert found.features == ("+neon", "+dotprod")
    assert found.has("asimd", "asimddp")
    assert not found.has("i8mm")


def test_the_base_of_riscv_is_always_there() -> None:
    assert {"+m", "+a", "+f", "+d", "+c"} == set(machine("riscv64").features)


def test_tvm_takes_the_target() -> None:
    import tvm

    for arch in ("x86_64", "aarch64", "riscv64"):
        target = machine(arch, threads=3).target()
        assert tvm.target.Target(target).kind.name == "llvm"
        assert target["num-cores"] == 3
