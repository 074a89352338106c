"""The processor that code is generated for: its instruction set, vector registers, caches and threads, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgepack.errors import ConfigError

# Flags as /proc/cpuinfo writes them -> LLVM's names of the same features (llvm -mattr=help of the architecture).
_X86_FEATURES = {
    "ssse3": "ssse3",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx_vnni": "avxvnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512vnni",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
}
_ARM_FEATURES = {
    "asimd": "neon",
    "asimdhp": "fullfp16",
    "fphp": "fullfp16",
    "asimdfhm": "fp16fml",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
_RISCV_FEATURES = {"m": "m", "a": "a", "f": "f", "d": "d", "c": "c", "v": "v"}
_FEATURES = {"x86_64": _X86_FEATURES, "aarch64": _ARM_FEATURES, "riscv64": _RISCV_FEATURES}
_CPUS = {"x86_64": "x86-64", "aarch64": "generic", "riscv64": "generic-rv64"}
_TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "riscv64": "riscv64-linux-gnu"}
# riscv64 Linux distributions are built for RV64GC (RISC-V ABIs Specification, "lp64d"); it is always there.
_RISCV_BASE = ("m", "a", "f", "d", "c")

# The smallest of the processors in each class, where a profile tells no cache sizes: Cortex-A53 and Silvermont have
# 32 KiB of data cache a core and 512 KiB of second level (their Technical Reference Manual, and Intel's optimization
# manual).
_L1_BYTES = 32 * 1024
_L2_BYTES = 512 * 1024
# No server or desktop core with AVX-512 has less (Skylake-SP, Zen 4, from their optimization guides).
_L2_AVX512_BYTES = 1024 * 1024
_AVX512_BITS = 512


@dataclass(frozen=True)
class Machine:
    """What code generation has to know of a processor.

    ``arch`` is x86_64, aarch64 or riscv64. ``cpu`` and ``features`` are LLVM's ``-mcpu`` and ``-mattr`` (each with its
    sign). ``isa`` holds flags as in /proc/cpuinfo, sorted. ``vector_bits`` is the width of the vector registers that
    are used, ``registers`` how many of them there are. ``threads`` is what loops are divided for; ``l2_cores`` of them
    share a second-level cache.
    """

    arch: str
    cpu: str
    features: tuple[str, ...]
    isa: tuple[str, ...]
    vector_bits: int
    registers: int
    l1_bytes: int = _L1_BYTES
    l2_bytes: int = _L2_BYTES
    l2_cores: int = 1
    threads: int = 1

    def has(self, *flags: str) -> bool:
        """Say whether all these flags are there."""
        return set(flags) <= set(self.isa)

    @property
    def l2_share_bytes(self) -> int:
        """What a core has of its second-level cache while the others work too."""
        return self.l2_bytes // max(min(self.l2_cores, self.threads), 1)

    def lanes(self, bits: int = 32) -> int:
        """Return how many values of ``bits`` bits a vector register holds."""
        return self.vector_bits // bits

    @property
    def has_avx2(self) -> bool:
        """256-bit integer and fused multiply-add instructions of x86."""
        return self.has("avx2", "fma")

    @property
    def has_fma(self) -> bool:
        """Products and sums that are rounded once, as one instruction."""
        return self.arch == "aarch64" or self.has("fma") or self.has("v")

    @property
    def has_avx512(self) -> bool:
        """512-bit instructions with byte and word elements."""
        return self.has("avx512f", "avx512bw", "avx512vl", "avx512dq")

    @property
    def has_vnni(self) -> bool:
        """VPDPBUSD: four products of uint8 and int8 added to each int32, without saturation in between."""
        return (self.has_avx512 and self.has("avx512_vnni")) or self.has("avx_vnni")

    @property
    def has_amx(self) -> bool:
        """TDPBUSD: products of tiles of uint8 and int8 [16, 64] added to a tile of int32, without saturation."""
        return self.has_avx512 and self.has("amx_tile", "amx_int8")

    @property
    def has_dotprod(self) -> bool:
        """SDOT and UDOT of Armv8.2."""
        return self.has("asimddp")

    @property
    def has_smmla(self) -> bool:
        """SMMLA, UMMLA and USMMLA of Armv8.6 (i8mm)."""
        return self.has("asimddp", "i8mm")

    @property
    def has_fmlal(self) -> bool:
        """FMLAL: products of float16 added to float32 (FEAT_FHM of Armv8.2)."""
        return self.has("asimdfhm", "asimdhp")

    def target(self) -> dict[str, Any]:
        """Return TVM's target of this machine, for ``tvm.target.Target``."""
        return {
            "kind": "llvm",
            "mtriple": _TRIPLES[self.arch],
            "mcpu": self.cpu,
            "mattr": list(self.features),
            "num-cores": self.threads,
        }


def machine(
    arch: str,
    isa: tuple[str, ...] = (),
    *,
    cpu: str | None = None,
    l1_bytes: int | None = None,
    l2_bytes: int | None = None,
    l2_cores: int | None = None,
    threads: int = 1,
) -> Machine:
    """Return the machine of an architecture with these /proc/cpuinfo flags; a flag that is not named is not used.

    ``cpu`` is LLVM's name of the processor (it decides the order of instructions; only ``isa`` decides which there
    are). Raises ``ConfigError`` for an architecture that no code can be generated for.
    """
    if arch not in _FEATURES:
        raise ConfigError(
            f"no code is generated for the architecture {arch!r}", hint=f"it may be one of {', '.join(_FEATURES)}"
        )
    flags = set(isa) | (set(_RISCV_BASE) if arch == "riscv64" else set()) | ({"asimd"} if arch == "aarch64" else set())
    names = _FEATURES[arch]
    features = [f"+{names[flag]}" for flag in sorted(flags & set(names))]
    bits, registers = _vectors(arch, flags)
    if cpu is not None:  # its own list of features may hold more than the profile promises
        features += [f"-{name}" for name in sorted(set(names.values()) - {n[1:] for n in features} - {"neon"})]
    return Machine(
        arch=arch,
        cpu=cpu or _CPUS[arch],
        features=tuple(dict.fromkeys(features)),
        isa=tuple(sorted(flags)),
        vector_bits=bits,
        registers=registers,
        l1_bytes=l1_bytes or _L1_BYTES,
        l2_bytes=l2_bytes or (_L2_AVX512_BYTES if bits == _AVX512_BITS else _L2_BYTES),
        l2_cores=l2_cores or 1,
        threads=max(threads, 1),
    )


def _vectors(arch: str, flags: set[str]) -> tuple[int, int]:
    """Return the width and the number of vector registers."""
    if arch == "x86_64":
        if {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags:
            return _AVX512_BITS, 32
        return (256, 16) if {"avx", "avx2", "fma"} & flags else (128, 16)
    if arch == "aarch64":
        return 128, 32  # SVE has at least these 128 bits, and NEON's instructions run on all of them
    return 128, 32  # RVV of rva22 has VLEN >= 128; without vectors LLVM splits them into scalars
