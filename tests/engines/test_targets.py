"""Device profiles: the contract that every shipped one keeps, wrong ones of every kind, and those of this host."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from profiles import SHIPPED

from edgepack.base import documents
from edgepack.device.host import host_facts, saturates
from edgepack.engines import ENGINES, targets
from edgepack.engines.targets import is_this_host
from edgepack.errors import ConfigError
from edgepack.quantize.rules import check_rules
from edgepack.specs.target import Compute, Host, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

VNNI = {"avx512_vnni", "avx_vnni"}
# What names the profile or follows from another key; everything else is a fact that comes from somewhere.
NOT_FACTS = {"id", "title", "backend", "arch", "os", "quantization.engine", "engine.build_on"}

ON_CPU = [name for name in ENGINES.own if ENGINES.get(name).on_cpu]

JETSONS = [
    *(f"jetson-{board}-{jetpack}" for board in ("orin-nano", "orin-nx-8gb", "orin-nx-16gb", "agx-orin-32gb",
      "agx-orin-64gb") for jetpack in ("jp5", "jp6", "jp7")),
    *("jetson-orin-nano-super-jp6", "jetson-orin-nano-super-jp7", "jetson-agx-thor-jp7", "jetson-xavier-nx-jp5"),
    "jetson-nano-jp4",
]  # fmt: skip


# --- every shipped profile --------------------------------------------------------------------------------------------


def facts(target: Target) -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted path, value, default) of every fact of a profile."""
    for field in dataclasses.fields(Target):
        value = getattr(target, field.name)
        if field.name == "sources":
            continue
        if dataclasses.is_dataclass(value):
            for inner in dataclasses.fields(value):
                default = inner.default if inner.default is not dataclasses.MISSING else {}
                yield f"{field.name}.{inner.name}", getattr(value, inner.name), default
        else:
            yield field.name, value, None


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads_under_its_files_name(name: str) -> None:
    assert targets.load_target(name).id == name


@pytest.mark.parametrize("name", SHIPPED)
def test_every_fact_of_a_shipped_profile_has_a_source(name: str) -> None:
    target = targets.load_target(name)
    for path, value, default in facts(target):
        is_fact = path not in NOT_FACTS and (value != default or path == "compute.precisions")
        if is_fact:
            assert path in target.sources or path.partition(".")[0] in target.sources, path


@pytest.mark.parametrize("name", SHIPPED)
def test_every_source_of_a_shipped_profile_belongs_to_a_fact_that_is_there(name: str) -> None:
    target = targets.load_target(name)
    values = {path: value for path, value, _ in facts(target)}
    for path in target.sources:
        assert values.get(path) not in (None, (), {}), path


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profiles_rules_fit_its_instruction_set(name: str) -> None:
    target = targets.load_target(name)
    assert target.quantization.engine == target.backend
    assert target.backend in ENGINES
    is_x86_cpu = target.arch == "x86_64" and target.engine.device == "CPU"
    assert target.quantization.saturates == (is_x86_cpu and not VNNI & set(target.compute.isa))
    if target.engine.device == "CPU":
        assert target.compute.isa


def test_the_hosts_caches_are_facts_of_its_tvm_profile_alone() -> None:
    known = {"l1_bytes": 48 << 10, "l2_bytes": 2 << 20, "l2_cores": 2}
    for engine in ("tvm", "onnxruntime"):
        found = targets.host_target(engine, host_facts(), known)
        told = {k: v for k in known if (v := getattr(found.compute, k)) is not None}
        assert told == (known if engine == "tvm" else {})
        assert {f"compute.{k}" for k in told} == {k for k in found.sources if k.startswith("compute.l")}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_survives_a_document(name: str) -> None:
    target = targets.load_target(name)
    assert documents.from_json(Target, documents.to_json(target), name) == target


def test_the_promised_profiles_are_shipped() -> None:
    wanted = {"intel-core-ultra-cpu", "intel-core-ultra-gpu", "intel-core-ultra-npu", "intel-n100", "xeon-amx"}
    boards = {"raspberry-pi-4", "raspberry-pi-5", "rk3588", "generic-aarch64", "armv8.2-dotprod"}
    boards |= {"armv8.6-i8mm", "riscv64-rva22v"}
    computers = {"x86-64-v2", "x86-64-v3", "x86-64-v4"}
    wanted |= {f"{name}-tvm" for name in boards | computers}
    assert wanted | {"amd-zen3", "raspberry-pi-5", "generic-aarch64", "nvidia-gpu"} <= set(SHIPPED)
    assert set(JETSONS) <= set(SHIPPED)


@pytest.mark.parametrize("name", JETSONS)
def test_a_jetsons_rules_are_those_that_tensorrt_takes(name: str) -> None:
    target = targets.load_target(name)
    check_rules(target.quantization)
    assert (target.engine.build_on, target.engine.device, target.arch) == ("device", "GPU", "aarch64")
    assert target.compute.gpu_sm == {"nano": "5.3", "xavier": "7.2", "agx-thor": "11.0"}.get(
        next((k for k in ("agx-thor", "xavier", "orin", "nano") if k in name), ""), "8.7"
    )
    assert ("int8" in target.compute.precisions) == (target.compute.gpu_sm != "5.3")


def test_a_profile_of_tensorrt_needs_no_rules_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('id = "t"\ntitle = "T"\nbackend = "tensorrt"\narch = "aarch64"\n[engine]\ndevice = "DLA.1"\n')
    rules = targets.load_target(str(path)).quantization
    assert (rules.activation_type, rules.activation_symmetric, rules.quantize_bias) == ("int8", True, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('device = "TPU"', "'TPU' is not known"),
        ('version = "latest"', "not a version"),
        ('cuda = "12;rm"', "not a version"),
    ],
)
def test_a_wrong_engine_of_tensorrt_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "t.toml"
    engine = line if line.startswith("device") else f'device = "GPU"\n{line}'
    path.write_text(f'id = "t"\ntitle = "T"\nbackend = "tensorrt"\narch = "aarch64"\n[engine]\n{engine}\n')
    with pytest.raises(ConfigError, match=message):
        targets.load_target(str(path))


def test_an_npu_offers_no_fp32() -> None:
    assert targets.load_target("intel-core-ultra-npu").compute.precisions == ("fp16", "int8")


L4T = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8\n"
BOARDS = {
    "NVIDIA Jetson Orin Nano Developer Kit": ("jetson-orin-nano-jp6", 7_900_000_000),
    "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super": ("jetson-orin-nano-super-jp6", 7_900_000_000),
    "NVIDIA Jetson Orin NX Engineering Reference Developer Kit": ("jetson-orin-nx-16gb-jp6", 16_400_000_000),
    "NVIDIA Orin NX Developer Kit": ("jetson-orin-nx-8gb-jp6", 7_900_000_000),
    "NVIDIA Jetson AGX Orin Developer Kit": ("jetson-agx-orin-64gb-jp6", 65_000_000_000),
}


@pytest.mark.parametrize("board", BOARDS)
def test_a_jetson_recognises_its_board_memory_and_release(board: str, tmp_path: Path) -> None:
    name, memory = BOARDS[board]
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text(L4T)
    isa = ("asimd", "asimddp", "asimdhp", "fphp")
    here = Host(f"{board} (Arm Cortex-A78AE)", "aarch64", isa, 6, memory, "linux", "5", "3.10", gpu="NVIDIA tegra234")
    jp6 = [n for n in JETSONS if n.endswith("jp6") and is_this_host(targets.load_target(n), here, tmp_path)]
    assert jp6 == [name]
    for other in (n for n in JETSONS if not n.endswith(("jp6", "jp7"))):
        assert not is_this_host(targets.load_target(other), here, tmp_path), other
    assert not is_this_host(targets.load_target(name), dataclasses.replace(here, gpu=None), tmp_path)


MACHINES = {
    "Intel(R) Core(TM) Ultra 7 155H": "intel-core-ultra-cpu",
    "Intel(R) Core(TM) Ultra 5 245K": "intel-core-ultra-cpu",
    "Intel(R) N100": "intel-n100",
    "Intel(R) Xeon(R) Platinum 8480+": "xeon-amx",
    "AMD Ryzen 7 5800X 8-Core Processor": "amd-zen3",
    "AMD EPYC 7763 64-Core Processor": "amd-zen3",
    "Raspberry Pi 5 Model B Rev 1.0 (Arm Cortex-A76)": "raspberry-pi-5",
    "Arm Neoverse-N1": "generic-aarch64",
    "Raspberry Pi 4 Model B Rev 1.4 (Arm Cortex-A72)": "raspberry-pi-4-tvm",
    "Radxa ROCK 5B (Arm Cortex-A55, Arm Cortex-A76)": "rk3588-tvm",
    "riscv64": "riscv64-rva22v-tvm",
}


@pytest.mark.parametrize(("cpu", "name"), MACHINES.items())
def test_a_device_recognises_itself(cpu: str, name: str, tmp_path: Path) -> None:
    target = targets.load_target(name)
    machine = Host(cpu, target.arch, target.compute.isa, 4, 1 << 30, "linux", "6", "3.11")
    assert is_this_host(target, machine, tmp_path)
    for other in ("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", "AMD Ryzen 9 7950X 16-Core Processor"):
        assert target.compute.cpu_model == "." or not is_this_host(
            target, dataclasses.replace(machine, cpu=other), tmp_path
        )


X86 = Host("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", "x86_64", ("avx2",), 4, 8 << 30, "linux", "6", "3.11")
PI = Host("Raspberry Pi 5 Model B Rev 1.0 (Arm Cortex-A76)", "aarch64", (), 4, 8 << 30, "linux", "6", "3.11")


@pytest.mark.parametrize(
    ("name", "machine", "facts", "here", "found"),
    [
        ("raspberry-pi-5", X86, {}, True, False),
        ("raspberry-pi-5", X86, {}, False, False),
        ("raspberry-pi-5", dataclasses.replace(PI, isa=("asimd", "asimddp", "asimdhp", "fphp")), {}, True, True),
        ("jetson-orin-nano-jp6", X86, {}, True, False),
        ("host-onnxruntime", X86, {}, True, True),
        ("host-onnxruntime", X86, {}, False, True),
        ("host-tensorrt", X86, {}, True, False),
        ("a-board-of-mine", X86, {}, True, None),
        ("a-board-of-mine", X86, {"target.arch": "aarch64"}, True, False),
        ("a-board-of-mine", X86, {"target.arch": "x86_64", "target.os": "windows"}, True, False),
        ("a-board-of-mine", X86, {"target.arch": "x86_64"}, True, None),
        ("a-board-of-mine", X86, {"target.cpu_model": "Core.* i5"}, True, True),
        ("a-board-of-mine", X86, {"target.cpu_model": "Atom"}, True, False),
        ("a-board-of-mine", X86, {"target.cpu_model": "("}, True, None),
        ("a-board-of-mine", X86, {"target.cpu_model": "(a+)+b"}, True, None),
        ("../targets/my-board.toml", X86, {}, True, None),
    ],
)
def test_whether_a_machine_is_the_device_of_a_bundle(
    name: str, machine: Host, facts: dict[str, str], here: bool, found: bool | None, tmp_path: Path
) -> None:
    assert targets.is_device(name, machine, facts, tmp_path if here else None) is found


def test_what_a_bundle_knows_of_its_device_is_enough_to_recognise_it(board: Path) -> None:
    target = targets.load_target(str(board))
    facts = targets.device_facts_of(dataclasses.replace(target, compute=Compute(cpu_model="Pi 5")))
    assert targets.is_device("unheard-of", dataclasses.replace(PI, arch=target.arch), facts) is True
    assert targets.is_device("unheard-of", dataclasses.replace(X86, arch=target.arch), facts) is False


@pytest.mark.parametrize("name", ["x/raspberry-pi-5", "../targets/raspberry-pi-5", "x" * 5000, "a\0b", ""])
def test_a_name_of_a_document_leads_to_no_file(name: str) -> None:
    assert targets.shipped_profile(name) is None
    assert targets.is_device(name, PI, {}, root=None) is None


def test_a_xeon_without_amx_is_not_one_with_it(tmp_path: Path) -> None:
    old = Host("Intel(R) Xeon(R) Gold 6148", "x86_64", ("avx2", "avx512f"), 4, 1 << 30, "linux", "6", "3.11")
    assert not is_this_host(targets.load_target("xeon-amx"), old, tmp_path)


# --- this host --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ON_CPU)
def test_this_host_is_a_target_of_every_engine(engine: str) -> None:
    target, machine = targets.load_target(f"host-{engine}"), host_facts()
    assert (target.backend, target.arch, target.compute.isa) == (engine, machine.arch, machine.isa)
    assert target.compute.cores == machine.cores
    assert target.quantization.saturates == saturates(machine)
    assert target.title.startswith("this host")
    assert {"fp32", "int8"} <= set(target.compute.precisions)
    assert is_this_host(target)


def test_a_gpu_makes_a_profile_of_this_host() -> None:
    machine_with_gpu = dataclasses.replace(machine("avx2"), gpu="NVIDIA T4")
    found = targets.host_targets(machine_with_gpu)[-1]
    assert (found.id, found.engine.build_on, found.backend) == ("host-tensorrt", "device", "tensorrt")
    check_rules(found.quantization)
    assert "host-tensorrt" not in [t.id for t in targets.host_targets(machine("avx2"))]


def machine(flags: str, arch: str = "x86_64") -> Host:
    return Host("c", arch, tuple(flags.split()), 4, 1 << 30, "linux", "6", "3.11")


@pytest.mark.parametrize(
    ("engine", "flags", "precisions"),
    [
        ("onnxruntime", "avx2", "fp32 int8"),
        ("onnxruntime", "avx512f avx512_fp16 avx512_bf16 amx_bf16", "fp32 int8"),
        ("onnxruntime", "asimd", "fp32 int8"),
        ("onnxruntime", "asimd asimdhp fphp", "fp32 fp16 int8"),
        ("openvino", "avx2 avx_vnni", "fp32 int8"),
        ("openvino", "avx512f avx512_vnni", "fp32 int8"),
        ("openvino", "avx512_bf16", "fp32 bf16 int8"),
        ("openvino", "avx512_fp16 amx_bf16", "fp32 fp16 bf16 int8"),
        ("openvino", "avx_vnni avx_vnni_int8 avx_ne_convert", "fp32 fp16 bf16 int8"),
        ("openvino", "asimd asimdhp fphp", "fp32 fp16 int8"),
    ],
)
def test_precisions_follow_the_instruction_set(engine: str, flags: str, precisions: str) -> None:
    assert targets.native_precisions(engine, machine(flags)) == tuple(precisions.split())


def test_what_openvino_says_of_this_cpu_agrees() -> None:
    openvino = pytest.importorskip("openvino")
    offered = set(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    native = targets.native_precisions("openvino", host_facts())
    assert ("FP16" in offered) == ("fp16" in native)
    assert ("BF16" in offered) == ("bf16" in native)


def test_the_host_profile_of_a_cpu_without_vnni_saturates() -> None:
    assert all(target.quantization.saturates for target in targets.host_targets(machine("avx2")))
    assert not any(target.quantization.saturates for target in targets.host_targets(machine("asimd", "aarch64")))


def test_the_list_begins_with_this_host_and_has_every_profile() -> None:
    ids = [target.id for target in targets.list_targets()]
    here = len(ids) - len(SHIPPED)
    assert set(ids[:here]) - {"host-tensorrt"} == {f"host-{engine}" for engine in ON_CPU}
    assert ids[here:] == SHIPPED


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("raspberry-pi5", "did you mean 'raspberry-pi-5'?"),
        ("host-onnxrutime", "did you mean 'host-onnxruntime'?"),
        ("RASPBERRY-PI-5x9", "did you mean 'raspberry-pi-5'?"),
        ("", "'edgepack targets' lists all"),
        ("zzzzzz", "'edgepack targets' lists all"),
    ],
)
def test_an_unknown_id_is_answered_with_the_near_one(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="unknown target") as caught:
        targets.load_target(name)
    assert hint in caught.value.hint


@pytest.mark.skipif(host_facts().gpu is not None, reason="there is an NVIDIA GPU here")
def test_a_host_without_a_gpu_is_told_what_to_ask_for() -> None:
    with pytest.raises(ConfigError, match="no NVIDIA driver") as caught:
        targets.load_target("host-tensorrt")
    assert "jetson-orin-nano-jp6" in caught.value.hint


def test_a_file_is_loaded_by_its_path(board: Path) -> None:
    target = targets.load_target(str(board))
    assert (target.id, target.compute.cores, target.quantization.saturates) == ("my-board", 4, False)
    assert target.engine.max_opset == 21


def test_rules_follow_the_backend(tmp_path: Path) -> None:
    for rules in ("", "[quantization]\nper_channel = false\n"):
        path = tmp_path / "t.toml"
        path.write_text(f'id = "t"\ntitle = "T"\nbackend = "openvino"\narch = "aarch64"\n{rules}')
        assert targets.load_target(str(path)).quantization.engine == "openvino"
