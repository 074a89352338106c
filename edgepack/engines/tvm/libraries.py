"""Finds TVM's two runtime libraries for a device's processor: in a folder of yours, in the packages here, or on PyPI.

The Apache project publishes wheels for x86-64 and aarch64 Linux. Those of another processor than this machine's are
fetched once by pip, of the very versions that are installed here, and kept in the user's cache. pip takes the files of
``wheels.txt`` alone, by their hashes, whatever an index or a folder of wheels offers: they go to the board as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from edgepack.base.files import scratch_folder, sha256_file
from edgepack.device.host import host_facts
from edgepack.engines.common.linking import cache_folder
from edgepack.engines.tvm.elf import machine_of
from edgepack.engines.tvm.runtime_abi import FFI, IN_PACKAGES, RUNTIME, find_in_packages
from edgepack.errors import CompileError, ToolchainError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.specs.target import Target

FOLDER_VARIABLE = "EDGEPACK_TVM_LIBRARIES"
# The bundle carries them under these names, so the licence asks that its text goes along.
LICENCE = "TVM-LICENSE.txt"
NOTICE = "TVM-NOTICE.txt"
_MEMBERS = {**IN_PACKAGES, LICENCE: "tvm/LICENSE", NOTICE: "tvm/NOTICE"}
FILES = tuple(sorted(_MEMBERS))
_PLATFORMS = {"aarch64": "manylinux_2_28_aarch64", "x86_64": "manylinux_2_28_x86_64"}
_LIMIT_S = 900.0
_WHEELS = Path(__file__).with_name("wheels.txt")


def runtime_files(arch: str, versions: Mapping[str, str]) -> dict[str, Path]:
    """Return the runtime libraries for ``arch``, and their licence, by the names that they have in a bundle.

    ``versions`` are those of the packages apache-tvm and apache-tvm-ffi. Raises ``ToolchainError`` that says what to
    do where there are none.
    """
    here = _installed()
    if (own := _own_folder(arch)) is not None:
        return _checked({**here, **{name: own / name for name in (FFI, RUNTIME)}}, arch)
    if arch == host_facts().arch:
        return _checked(here, arch)
    if arch not in _PLATFORMS:
        _tell_to_bring(arch, versions)
    folder = cache_folder() / f"runtime-{versions['apache-tvm']}-{versions['apache-tvm-ffi']}" / arch
    if not folder.is_dir():
        _fetch(arch, versions, folder)
    return _checked({**here, **{name: folder / name for name in (FFI, RUNTIME)}}, arch)


def own_libraries(target: Target) -> dict[str, str]:
    """Return the sha256 of the user's own libraries for a target's processor, by name; none where there is no folder.

    All others are told by their versions.
    """
    folder = _own_folder(target.arch)
    files = [] if folder is None else [folder / name for name in (FFI, RUNTIME)]
    return {path.name: sha256_file(path) for path in files if path.is_file()}


def _own_folder(arch: str) -> Path | None:
    """Return the folder with the user's libraries for a processor."""
    given = os.environ.get(FOLDER_VARIABLE)
    folder = Path(given, arch) if given else None
    return folder if folder is not None and folder.is_dir() else None


def _installed() -> dict[str, Path]:
    """Return where the packages here keep the files."""
    found = {}
    for name, member in _MEMBERS.items():
        path = find_in_packages(member)
        if path is None:
            raise ToolchainError("TVM is not installed", hint="pip install 'edgepack[tvm]'")
        found[name] = path
    return found


def _checked(files: dict[str, Path], arch: str) -> dict[str, Path]:
    for name in (FFI, RUNTIME):
        path = files[name]
        if not path.is_file():
            raise ToolchainError(f"{path} is missing", hint=f"put TVM's {name} for {arch} there")
        try:
            found = machine_of(path)
        except CompileError as error:
            raise ToolchainError(f"{path} is not a library: {error.message}", hint="build or copy it again") from None
        if found != arch:
            raise ToolchainError(f"{path} is for {found}, not {arch}", hint=f"put the {name} built for {arch} there")
    return files


def _fetch(arch: str, versions: Mapping[str, str], folder: Path) -> None:
    """Download the wheels for ``arch`` and keep their libraries as ``folder``, whole or not at all."""
    wanted = [f"{name}=={versions[name]}" for name in ("apache-tvm", "apache-tvm-ffi")]
    by_hand = (
        f"on a machine with a network, pip download {' '.join(wanted)} for {_PLATFORMS[arch]}, unpack {FFI} and "
        f"{RUNTIME} into FOLDER/{arch} and set {FOLDER_VARIABLE}=FOLDER"
    )
    known = [line.split()[0] for line in _WHEELS.read_text().splitlines() if "==" in line]
    if unknown := [requirement for requirement in wanted if requirement not in known]:
        raise ToolchainError(
            f"TVM's runtime for {arch} is not fetched: the hashes of {' and '.join(unknown)} are not known here",
            hint=f"install {' and '.join(known)}, or {by_hand}",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(".wheels.", folder.parent) as scratch:
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--only-binary=:all:", "--platform", _PLATFORMS[arch], "--python-version", "3.11"),
            *("--dest", str(scratch), "--require-hashes", "--requirement", str(_WHEELS)),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
            words = " ".join(done.stderr.split())[-400:] if done.returncode else ""
            if "DO NOT MATCH THE HASHES" in done.stderr:
                words = f"what pip was given has other hashes than PyPI's files: ...{words}"
        except (OSError, subprocess.TimeoutExpired) as error:
            words = str(error)[:400]
        wheels = sorted(scratch.glob("*.whl"))
        if words or len(wheels) != 2:
            raise ToolchainError(
                f"TVM's runtime for {arch} could not be fetched: {words or 'pip downloaded nothing'}",
                hint=by_hand,
            )
        ready = scratch / arch
        ready.mkdir()
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for name in (FFI, RUNTIME):
                    if _MEMBERS[name] in archive.namelist():
                        with archive.open(_MEMBERS[name]) as source, (ready / name).open("wb") as out:
                            shutil.copyfileobj(source, out)
        try:
            ready.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise


def _tell_to_bring(arch: str, versions: Mapping[str, str]) -> NoReturn:
    raise ToolchainError(
        f"there is no TVM runtime for {arch} on PyPI: you supply it",
        hint=f"build {FFI} {versions['apache-tvm-ffi']} and {RUNTIME} {versions['apache-tvm']} for {arch} from source, "
        f"put them into FOLDER/{arch} and set {FOLDER_VARIABLE}=FOLDER",
    )
