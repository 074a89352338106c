"""Makes libraries and programs for Linux on any processor with Zig's compiler driver, from the Python package ziglang.

Zig brings the C libraries of all targets as stubs that state which version each function came with, so that what is
linked for glibc 2.31 runs on that one and newer ones. It runs in the folder of its inputs on their bare names: nothing
of a path gets into what it writes.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import scratch_folder
from edgepack.errors import CompileError, ToolchainError

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the wheels of TVM's runtime need (manylinux_2_28); nothing that goes with them needs to be older.
DEFAULT_GLIBC = "2.28"
ARCHITECTURES = ("x86_64", "aarch64", "riscv64")
_LIMIT_S = 600.0
_FIRST_LIMIT_S = 3600.0  # C++'s own library is a minute of work, and a build machine may be busy
_WORDS_CHARACTERS = 800


def cache_folder() -> Path:
    """Return ``$EDGEPACK_TVM_CACHE``, else ``edgepack/tvm`` in the user's cache folder."""
    if folder := os.environ.get("EDGEPACK_TVM_CACHE"):
        return Path(folder).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return ((Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "tvm").absolute()


def link_library(objects: Sequence[Path], out: Path, arch: str, glibc: str | None) -> None:
    """Link object files, all in one folder, into a shared library that needs libc alone. Raises ``CompileError``."""
    folder = objects[0].parent
    names = [path.relative_to(folder).as_posix() for path in objects]
    _zig(["-shared", *names], folder, out, arch, glibc)


def build_program(source: Path, out: Path, arch: str, glibc: str | None) -> None:
    """Compile one C++ file, which uses libc alone, into a program. Raises ``CompileError``."""
    options = [
        "-x",
        "c++",
        "-std=c++17",
        "-O2",
        "-fno-exceptions",
        "-fno-rtti",
        "-fno-sanitize=all",
        source.name,
        "-ldl",
    ]
    _zig(options, source.parent, out, arch, glibc)


def build_cpp(
    folder: Path, sources: Sequence[str], options: Sequence[str], out: Path, arch: str, glibc: str | None
) -> None:
    """Compile C++ files of a folder, by their names in it, with all of C++'s library inside what is made.

    Zig makes that library for a processor once, which takes a minute, and keeps it in its cache. Raises
    ``CompileError``.
    """
    words = ["-std=c++17", "-O2", "-fvisibility=hidden", "-fno-sanitize=all", *options, *sources, "-ldl", "-lpthread"]
    _zig(words, folder, out, arch, glibc, driver="c++", limit_s=_FIRST_LIMIT_S)


def zig() -> Path:
    """Return the compiler driver. Raises ``ToolchainError`` with the command that installs it."""
    found = importlib.util.find_spec("ziglang")
    for folder in (found.submodule_search_locations or []) if found else []:
        if (program := Path(folder) / "zig").is_file():
            return program
    raise ToolchainError(
        "ziglang, which links for other processors, is not installed", hint="pip install 'edgepack[tvm]'"
    )


def _zig(
    arguments: list[str],
    folder: Path,
    out: Path,
    arch: str,
    glibc: str | None,
    *,
    driver: str = "cc",
    limit_s: float = _LIMIT_S,
) -> None:
    if arch not in ARCHITECTURES:
        raise CompileError(f"linking is not supported for {arch}", hint=f"supported: {', '.join(ARCHITECTURES)}")
    program = zig()
    with scratch_folder("edgepack-zig-") as scratch:
        command = [
            *(
                str(program),
                driver,
                "-target",
                f"{arch}-linux-gnu.{glibc or DEFAULT_GLIBC}",
                "-s",
                "-Wl,--build-id=none",
            ),
            *("-o", str(scratch / out.name), *arguments),
        ]
        cache = os.environ.get("ZIG_GLOBAL_CACHE_DIR") or str(cache_folder() / "zig")
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": str(scratch / "cache")}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise CompileError(f"linking {out.name} for {arch} took longer than {limit_s:.0f} s") from None
        except OSError as error:
            raise ToolchainError(
                f"zig does not start: {error.strerror}", hint="pip install --force-reinstall ziglang"
            ) from None
        if done.returncode:
            words = " ".join((done.stderr or done.stdout).split())[-_WORDS_CHARACTERS:]
            raise CompileError(
                f"zig did not link {out.name} for {arch}: {words or f'exit status {done.returncode}'}",
                hint=f"check the free space in {cache} and in the temporary folder",
            )
        out.write_bytes((scratch / out.name).read_bytes())
