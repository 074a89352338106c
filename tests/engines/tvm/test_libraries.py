"""Where the runtime libraries of a processor come from, and what is said where there are none."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from edgepack.base.stage import stage_of
from edgepack.device.host import host_facts
from edgepack.engines.targets import load_target
from edgepack.engines.tvm import libraries
from edgepack.engines.tvm.elf import machine_of
from edgepack.engines.tvm.engine import PINS, versions
from edgepack.engines.tvm.libraries import FOLDER_VARIABLE, runtime_files
from edgepack.engines.tvm.runtime_abi import FFI, IN_PACKAGES, RUNTIME
from edgepack.errors import ToolchainError
from edgepack.pipeline.stages.compile import compile_for_target


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's with libraries for this machine under the name riscv64."""
    here = runtime_files(host_facts().arch, versions())
    (tmp_path / "riscv64").mkdir()
    for name in (FFI, RUNTIME):
        shutil.copyfile(here[name], tmp_path / "riscv64" / name)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path / "riscv64"


def as_riscv(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[18:20] = (243).to_bytes(2, "little")
    path.write_bytes(data)


def test_those_of_this_machine_come_from_the_installed_packages() -> None:
    found = runtime_files(host_facts().arch, versions())
    assert set(found) == set(libraries.FILES)
    assert machine_of(found[RUNTIME]) == host_facts().arch
    assert "Apache License" in found[libraries.LICENCE].read_text()


def test_for_riscv64_the_user_is_told_to_supply_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(ToolchainError, match="you supply it") as caught:
        runtime_files("riscv64", versions())
    assert FOLDER_VARIABLE in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_users_own_libraries_are_taken(own: Path) -> None:
    for name in (FFI, RUNTIME):
        as_riscv(own / name)
    found = runtime_files("riscv64", versions())
    assert (found[FFI], found[RUNTIME]) == (own / FFI, own / RUNTIME)


def test_a_users_libraries_of_another_processor_are_refused(own: Path) -> None:
    with pytest.raises(ToolchainError, match=rf"is for {host_facts().arch}, not riscv64"):
        runtime_files("riscv64", versions())


@pytest.mark.parametrize("data", [b"", b"text", b"\x7fELF\x02\x01" + bytes(100)])
def test_files_that_are_no_libraries_are_refused(data: bytes, own: Path) -> None:
    (own / FFI).write_bytes(data)
    with pytest.raises(ToolchainError, match="is not a library"):
        runtime_files("riscv64", versions())


def test_a_model_is_compiled_again_where_the_users_libraries_change(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bundle carries them: the store must not give one with those before."""
    depends = stage_of(compile_for_target).depends
    assert depends is not None
    target = load_target("riscv64-rva22v-tvm")
    first = depends(None, target, "fp32")
    assert set(first["carried"]) == {FFI, RUNTIME}
    as_riscv(own / FFI)
    second = depends(None, target, "fp32")
    assert second != first
    assert depends(None, load_target("host-tvm"), "fp32")["carried"] == {}, "those are for another processor"
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert depends(None, target, "fp32") not in (first, second)


def test_a_missing_one_is_named(own: Path) -> None:
    as_riscv(own / FFI)
    (own / RUNTIME).unlink()
    with pytest.raises(ToolchainError, match=rf"{RUNTIME} is missing"):
        runtime_files("riscv64", versions())


def test_a_failed_download_leaves_nothing_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "aarch64" if host_facts().arch == "x86_64" else "x86_64"
    monkeypatch.setenv("EDGEPACK_TVM_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", FOLDER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ToolchainError, match=rf"runtime for {other} could not be fetched") as caught:
        runtime_files(other, versions())
    assert FOLDER_VARIABLE in caught.value.hint
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


OTHER = "aarch64" if host_facts().arch == "x86_64" else "x86_64"
LOCK = Path(__file__).parents[3] / "locks/dev-linux-x86_64-py311.txt"


def made_up_wheels(folder: Path) -> None:
    """Wheels of the right names and versions, whose libraries are this machine's own, that nobody published."""
    here = runtime_files(host_facts().arch, versions())
    for package, tag in (("apache-tvm", "py3-none"), ("apache-tvm-ffi", "cp311-cp311")):
        stem = f"{package.replace('-', '_')}-{versions()[package]}"
        with zipfile.ZipFile(folder / f"{stem}-{tag}-manylinux_2_28_{OTHER}.whl", "w") as wheel:
            metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {versions()[package]}\n"
            wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
            for name in (FFI, RUNTIME):
                wheel.write(here[name], IN_PACKAGES[name])


def test_wheels_that_pypi_does_not_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They become machine code on a board: an index, a mirror or a folder of wheels must not choose what that is."""
    monkeypatch.setenv("EDGEPACK_TVM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    made_up_wheels(tmp_path)
    with pytest.raises(ToolchainError, match=r"could not be fetched: what pip was given has other hashes"):
        runtime_files(OTHER, versions())
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_versions_whose_hashes_are_unknown_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_TVM_CACHE", str(tmp_path))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(ToolchainError, match=r"hashes of apache-tvm==0\.27\.9 are not known") as caught:
        runtime_files(OTHER, {**versions(), "apache-tvm": "0.27.9"})
    assert all(f"{name}=={version}" in caught.value.hint for name, version in PINS.items())
    assert FOLDER_VARIABLE in caught.value.hint


def test_the_hashes_are_those_of_the_pinned_versions_in_the_lock() -> None:
    def hashes(text: str) -> dict[str, set[str]]:
        found = re.finditer(r"^(apache-tvm(?:-ffi)?==\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})+)", text, re.MULTILINE)
        return {entry[1]: set(re.findall(r"sha256:([0-9a-f]{64})", entry[2])) for entry in found}

    listed, locked = hashes(libraries._WHEELS.read_text()), hashes(LOCK.read_text())
    assert set(listed) == set(locked) == {f"{name}=={version}" for name, version in PINS.items()}
    for requirement, of_wheels in listed.items():
        assert len(of_wheels) == len(libraries._PLATFORMS)
        assert of_wheels <= locked[requirement]
