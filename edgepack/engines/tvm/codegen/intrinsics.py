"""Sums of four products of bytes in one instruction: which a machine has, and how TVM is made to use it.

Each is a tensor intrinsic: sums int32 [lanes] += activations [4] times weights int8 [lanes, 4], or, where the second
factor is put in order while running, four of its bytes in each int32 [lanes] (``words``), or, where each sum has
activations of its own, four of these in each int32 [lanes] (``each``); SMMLA's is
sums int32 [2, 2] += activations int8 [2, 8] times weights int8 [2, 8], transposed.

- VPDPBUSD (AVX512-VNNI, AVX-VNNI): activations uint8; exact.
- VPMADDUBSW and VPMADDWD (AVX2, AVX512BW): activations uint8; exact only when two neighbouring weights cannot exceed 16
  bits (``quantize/saturation.py``), which the caller checks on the weights themselves.
- SDOT (Armv8.2 dot product): activations int8; exact.
- FMLAL (Armv8.2 FP16FML): sums float32 [8] += an activation float16 times weights float16 [8], rounded once.
- SMMLA (Armv8.6 int8 matrix multiplication): activations int8; exact.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.machine import Machine

# The largest sum of two neighbouring weights that VPMADDUBSW cannot saturate: 255 * 128 < 2^15. The quantizer keeps the
# same limit where a target saturates (``quantize/saturation.py``, which is above this layer).
PAIR_LIMIT = 128
SMMLA = "edgepack.smmla"
FMLAL = "edgepack.fmlal"
FMLAL_LANES = 8
Instruction = Literal["vpdpbusd", "vpmaddubsw", "sdot"]


@dataclass(frozen=True)
class Dot:
    """One such instruction, for vectors of ``lanes`` sums; activations of type ``activations``."""

    instruction: Instruction
    lanes: int
    activations: Literal["uint8", "int8"]
    form: Literal["broadcast", "words", "each"] = "broadcast"

    @property
    def name(self) -> str:
        """The name under which it is registered with TVM."""
        return f"edgepack.{self.instruction}.{self.lanes}{'' if self.form == 'broadcast' else f'.{self.form}'}"


def multiplies_activations(machine: Machine) -> bool:
    """Say whether the machine multiplies bytes that are both only known while running: exactly, whatever they are."""
    return machine.has_vnni or (machine.arch == "aarch64" and machine.has_dotprod)


def activation_type(machine: Machine) -> Literal["uint8", "int8"]:
    """Return the type of activations that this machine's instructions multiply."""
    return "int8" if machine.arch == "aarch64" else "uint8"


def dot_for(machine: Machine, lanes: int, *, safe: bool) -> Dot | None:
    """Return the instruction for vectors of ``lanes`` sums, or None.

    ``safe``: no two neighbouring weights can exceed 16 bits together.
    """
    if machine.arch == "x86_64":
        if machine.has_vnni:
            return Dot("vpdpbusd", lanes, "uint8")
        if safe and ((machine.has_avx512 and lanes == 16) or (machine.has_avx2 and lanes == 8)):
            return Dot("vpmaddubsw", lanes, "uint8")
        return None
    if machine.has_dotprod and lanes == 4:
        return Dot("sdot", lanes, "int8")
    return None


@functools.cache
def register(dot: Dot) -> str:
    """Register the intrinsic with TVM, once, and return its name."""
    from tvm.s_tir import TensorIntrin

    if dot.form != "broadcast":
        TensorIntrin.register(dot.name, *(_words(dot) if dot.form == "words" else _each(dot)), override=True)
        return dot.name
    made = _vpmaddubsw(dot.lanes) if dot.instruction == "vpmaddubsw" else _exact(dot)
    TensorIntrin.register(dot.name, _description(dot), made, override=True)
    return dot.name


@functools.cache
def register_smmla() -> str:
    """Register SMMLA with TVM, once, and return its name."""
    from tvm.s_tir import TensorIntrin

    TensorIntrin.register(SMMLA, *_smmla(), override=True)
    return SMMLA


@functools.cache
def register_fmlal() -> str:
    """Register FMLAL and FMLAL2 with TVM, once, as one, and return its name."""
    from tvm.s_tir import TensorIntrin

    TensorIntrin.register(FMLAL, *_fmlal(), override=True)
    return FMLAL


def _description(dot: Dot) -> Any:
    """Return what the intrinsic computes, as plain loops."""
    from tvm.script import tirx as T  # noqa: N812

    lanes, kind = dot.lanes, dot.activations

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (4,), kind, offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (lanes, 4), "int8", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (lanes,), "int32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:4], B[0:lanes, 0:4])
            T.writes(C[0:lanes])
            for i in T.serial(0, lanes):
                for k in T.serial(0, 4):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        C[vi] = C[vi] + T.cast(A[vk], "int32") * T.cast(B[vi, vk], "int32")

    return description


def _words(dot: Dot) -> tuple[Any, Any]:
    """Return the description and the implementation with four bytes of the second factor in each int32."""
    from tvm.script import tirx as T  # noqa: N812

    lanes, kind = dot.lanes, dot.activations
    wide, part = f"int32x{lanes}", f"{kind}x4"
    bytes_a, bytes_b = f"{kind}x{lanes * 4}", f"int8x{lanes * 4}"
    intrinsic = _llvm(dot)

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (4,), kind, offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (lanes,), "int32", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (lanes,), "int32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:4], B[0:lanes])
            T.writes(C[0:lanes])
            for i in T.serial(0, lanes):
                for k in T.serial(T.int64(0), T.int64(4)):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        C[vi] = C[vi] + T.cast(A[vk], "int32") * T.cast(
                            T.cast(T.shift_right(B[vi], T.cast(vk * T.int64(8), "int32")), "int8"), "int32"
                        )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (4,), kind, offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (lanes,), "int32", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (lanes,), "int32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:4], B[0:lanes])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(intrinsic),
                C.vload([0], dtype=wide),
                T.reinterpret(T.broadcast(T.reinterpret(A.vload([0], part), dtype="int32"), lanes), dtype=bytes_a),
                T.reinterpret(B.vload([0], dtype=wide), dtype=bytes_b),
                dtype=wide,
            )

    return description, implementation


def _each(dot: Dot) -> tuple[Any, Any]:
    """Return the description and the implementation with four activations of each sum in an int32."""
    from tvm.script import tirx as T  # noqa: N812

    lanes, kind = dot.lanes, dot.activations
    wide, bytes_a, bytes_b = f"int32x{lanes}", f"{kind}x{lanes * 4}", f"int8x{lanes * 4}"
    intrinsic = _llvm(dot)

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (lanes,), "int32", offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (lanes, 4), "int8", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (lanes,), "int32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:lanes], B[0:lanes, 0:4])
            T.writes(C[0:lanes])
            for i in T.serial(0, lanes):
                for k in T.serial(T.int64(0), T.int64(4)):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        C[vi] = C[vi] + T.cast(
                            T.cast(T.shift_right(A[vi], T.cast(vk * T.int64(8), "int32")), kind), "int32"
                        ) * T.cast(B[vi, vk], "int32")

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (lanes,), "int32", offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (lanes, 4), "int8", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (lanes,), "int32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:lanes], B[0:lanes, 0:4])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(intrinsic),
                C.vload([0], dtype=wide),
                T.reinterpret(A.vload([0], dtype=wide), dtype=bytes_a),
                B.vload([0, 0], dtype=bytes_b),
                dtype=wide,
            )

    return description, implementation


def _llvm(dot: Dot) -> str:
    """Return LLVM's name of VPDPBUSD or SDOT for vectors of so many sums."""
    if dot.instruction == "vpdpbusd":
        return f"llvm.x86.avx512.vpdpbusd.{dot.lanes * 32}"
    return "llvm.aarch64.neon.sdot.v4i32.v16i8"


def _exact(dot: Dot) -> Any:
    """Return the implementation where one instruction does all: VPDPBUSD, SDOT."""
    from tvm.script import tirx as T  # noqa: N812

    lanes, kind, intrinsic = dot.lanes, dot.activations, _llvm(dot)
    wide, part = f"int32x{lanes}", f"{kind}x4"
    bytes_a, bytes_b = f"{kind}x{lanes * 4}", f"int8x{lanes * 4}"

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (4,), kind, offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (lanes, 4), "int8", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (lanes,), "int32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:4], B[0:lanes, 0:4])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(intrinsic),
                C.vload([0], dtype=wide),
                T.reinterpret(T.broadcast(T.reinterpret(A.vload([0], part), dtype="int32"), lanes), dtype=bytes_a),
                B.vload([0, 0], dtype=bytes_b),
                dtype=wide,
            )

    return implementation


def _vpmaddubsw(lanes: int) -> Any:
    from tvm.script import tirx as T  # noqa: N812

    first, second = {
        16: ("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512"),
        8: ("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd"),
    }[lanes]
    wide, half = f"int32x{lanes}", f"int16x{lanes * 2}"
    bytes_a, bytes_b = f"uint8x{lanes * 4}", f"int8x{lanes * 4}"

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (4,), "uint8", offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (lanes, 4), "int8", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (lanes,), "int32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:4], B[0:lanes, 0:4])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = C.vload([0], dtype=wide) + T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(second),
                T.call_llvm_pure_intrin(
                    T.llvm_lookup_intrinsic_id(first),
                    T.reinterpret(
                        T.broadcast(T.reinterpret(A.vload([0], "uint8x4"), dtype="int32"), lanes), dtype=bytes_a
                    ),
                    B.vload([0, 0], dtype=bytes_b),
                    dtype=half,
                ),
                T.broadcast(T.int16(1), lanes * 2),
                dtype=wide,
            )

    return implementation


def _smmla() -> tuple[Any, Any]:
    from tvm.script import tirx as T  # noqa: N812

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (2, 8), "int8", offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (2, 8), "int8", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (2, 2), "int32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:2, 0:2], A[0:2, 0:8], B[0:2, 0:8])
            T.writes(C[0:2, 0:2])
            for i in T.serial(0, 2):
                for j in T.serial(0, 2):
                    for k in T.serial(0, 8):
                        with T.sblock("update"):
                            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                            C[vi, vj] = C[vi, vj] + T.cast(A[vi, vk], "int32") * T.cast(B[vj, vk], "int32")

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (2, 8), "int8", offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (2, 8), "int8", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (2, 2), "int32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:2, 0:2], A[0:2, 0:8], B[0:2, 0:8])
            T.writes(C[0:2, 0:2])
            C[0, T.ramp(T.int32(0), 1, 4)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.smmla.v4i32.v16i8"),
                C.vload([0, 0], dtype="int32x4"),
                A.vload([0, 0], dtype="int8x16"),
                B.vload([0, 0], dtype="int8x16"),
                dtype="int32x4",
            )

    return description, implementation


def _fmlal() -> tuple[Any, Any]:
    from tvm.script import tirx as T  # noqa: N812

    low, high = (f"llvm.aarch64.neon.{name}.v4f32.v8f16" for name in ("fmlal", "fmlal2"))

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (1,), "float16", offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (8,), "float16", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (8,), "float32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:8], A[0:1], B[0:8])
            T.writes(C[0:8])
            for i in T.serial(0, 8):
                with T.sblock("update"):
                    vi = T.axis.spatial(8, i)
                    C[vi] = C[vi] + T.cast(A[0], "float32") * T.cast(B[vi], "float32")

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (1,), "float16", offset_factor=1)  # noqa: N806
        B = T.match_buffer(b, (8,), "float16", offset_factor=1)  # noqa: N806
        C = T.match_buffer(c, (8,), "float32", scope="local", offset_factor=1)  # noqa: N806
        with T.sblock("root"):
            T.reads(C[0:8], A[0:1], B[0:8])
            T.writes(C[0:8])
            C[T.ramp(T.int32(0), 1, 4)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(low),
                C.vload([0], dtype="float32x4"),
                T.broadcast(A[0], 8),
                B.vload([0], dtype="float16x8"),
                dtype="float32x4",
            )
            C[T.ramp(T.int32(4), 1, 4)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(high),
                C.vload([4], dtype="float32x4"),
                T.broadcast(A[0], 8),
                B.vload([0], dtype="float16x8"),
                dtype="float32x4",
            )

    return description, implementation
