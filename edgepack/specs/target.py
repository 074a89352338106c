"""Devices: profiles of targets, and this host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgepack.specs.types import Precision


@dataclass(frozen=True)
class EngineFacts:
    """``[engine]``: the engine on the device. ``device`` is OpenVINO's device name or an execution provider.

    ``glibc`` is the oldest C library that machine code is linked for, as "2.31".
    ``build_on`` "device": the engine's files fit one device only, so the device makes them when it installs.
    For NVIDIA's devices ``cuda`` and ``python`` are the versions that their system brings and ``l4t`` is the major
    release of Jetson Linux (/etc/nv_tegra_release), which distinguishes two generations of one board.
    """

    version: str | None = None
    device: str = "CPU"
    max_opset: int | None = None
    build_on: Literal["host", "device"] = "host"
    glibc: str | None = None
    cuda: str | None = None
    python: str | None = None
    l4t: str | None = None


@dataclass(frozen=True)
class Compute:
    """``[compute]``: instruction set (names as in /proc/cpuinfo), cores, GPU compute capability, precisions.

    ``cpu_model`` is a regular expression that the host's CPU model must match for the host to be this device.
    ``dla_cores`` counts NVIDIA's deep-learning accelerators; 0 says that there are none.
    ``l1_bytes`` is a core's data cache, ``l2_bytes`` the next one, which ``l2_cores`` of the cores share (absent: one);
    TVM's code is blocked for them.
    """

    isa: tuple[str, ...] = ()
    cores: int | None = None
    gpu_sm: str | None = None
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    cpu_model: str | None = None
    dla_cores: int | None = None
    l1_bytes: int | None = None
    l2_bytes: int | None = None
    l2_cores: int | None = None


@dataclass(frozen=True)
class QuantizationRules:
    """``[quantization]``: how this target's engine wants its int8 models.

    ``saturates``: int8 multiply-adds clip sums of two products at 16 bits (x86 without VNNI).
    ``operators``: operator types to quantize; empty means the engine's default list (``engines/int8.py``).
    ``leave``: operator types or node-name patterns (fnmatch) never quantized.
    ``engine``: whose fusion patterns and weight packing are followed (``engines/int8.py``); it follows the backend.
    """

    activation_type: Literal["uint8", "int8"] = "uint8"
    activation_symmetric: bool = False
    weight_type: Literal["int8", "uint8"] = "int8"
    weight_symmetric: bool = True
    per_channel: bool = True
    quantize_bias: bool = True
    saturates: bool = False
    operators: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    engine: str = "onnxruntime"


@dataclass(frozen=True)
class Limits:
    """``[limits]``: memory, bandwidth and dense peak operations per second for each precision."""

    memory_bytes: int | None = None
    bandwidth_bytes_per_s: int | None = None
    peak_ops_per_s: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PowerFacts:
    """``[power]``: where the power sensors are and the modes the board has."""

    sensor: str | None = None
    rails: tuple[str, ...] = ()
    tdp_w: float | None = None


@dataclass(frozen=True)
class PriceFacts:
    """``[price]``: a list price in US dollars, of ``what``, at ``date`` (YYYY-MM): without its date none is shown."""

    usd: float | None = None
    date: str | None = None
    what: str | None = None


@dataclass(frozen=True)
class Target:
    """One device profile, ``targets/<id>.toml``. A fact that is not known is absent."""

    id: str
    title: str
    backend: str
    arch: str
    os: str = "linux"
    engine: EngineFacts = EngineFacts()
    compute: Compute = Compute()
    quantization: QuantizationRules = QuantizationRules()
    limits: Limits = Limits()
    power: PowerFacts = PowerFacts()
    price: PriceFacts = PriceFacts()
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """Facts about the machine this runs on. ``isa`` holds the x86 or ARM flags that matter to an engine, sorted."""

    cpu: str
    arch: str
    isa: tuple[str, ...]
    cores: int
    memory_bytes: int
    os: str
    kernel: str
    python: str
    gpu: str | None = None
    power_mode: str | None = None
