"""Builds libedgepack for a processor and writes what a C or C++ program needs of it, in folders that tools look in."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import edgepack
from edgepack.base import resources
from edgepack.base.files import atomic_write, scratch_folder, storage_errors
from edgepack.cpp.facts import facts_header
from edgepack.engines.common.linking import build_cpp
from edgepack.errors import ConfigError

SONAME = "libedgepack.so.0"  # the number changes when edgepack.h changes what it promises
PROGRAM = "edgepack-run"
_LINK = "libedgepack.so"
_GLIBC = re.compile(r"2\.[0-9]{1,2}")
_MAIN = "main.cpp"
# What the program has of its own beside the library, which it is linked to: it reads and writes arrays.
_PROGRAM = (_MAIN, "npz.cpp", "text.cpp", "sha256.cpp", "buffer.cpp")
_PKG_CONFIG = """\
prefix=${{pcfiledir}}/../..

Name: edgepack
Description: Opens edgepack's bundles and runs them
Version: {version}
Cflags: -I${{prefix}}/include
Libs: -L${{prefix}}/lib -ledgepack
"""


@dataclass(frozen=True)
class ExportedLibrary:
    """What was written below ``folder``; ``files`` are relative to it."""

    folder: Path
    arch: str
    files: tuple[str, ...]


def export_library(out: Path, arch: str, glibc: str | None = None, *, source: bool = False) -> ExportedLibrary:
    """Write ``include``, ``lib``, ``bin`` and, when asked for, ``src`` below ``out``.

    ``glibc`` is the oldest C library that it must run on. The same edgepack gives the same bytes. Raises
    ``CompileError`` when it does not build, ``ToolchainError`` without Zig, ``ConfigError`` where ``out`` is a file.
    """
    if glibc is not None and not _GLIBC.fullmatch(glibc):
        raise ConfigError(f"{glibc[:40]!r} is not a version of glibc", hint="write it like 2.28")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", hint="give a folder, which is made where there is none")
    with scratch_folder("edgepack-cpp-") as scratch:
        place = scratch / "src"
        names = write_source(place)
        sources = [name for name in names if name.endswith(".cpp") and not name.endswith(_MAIN)]
        shared = ["-shared", "-fPIC", f"-Wl,-soname,{SONAME}", "-Wl,--version-script=source/exports.map"]
        build_cpp(place, sources, shared, place / SONAME, arch, glibc)
        program = [*(f"source/{name}" for name in _PROGRAM), SONAME]
        build_cpp(place, program, ["-Wl,-rpath,$ORIGIN/../lib"], scratch / PROGRAM, arch, glibc)
        made = {f"lib/{SONAME}": place / SONAME, f"bin/{PROGRAM}": scratch / PROGRAM}
        made |= {f"include/{name}": place / "include" / name for name in ("edgepack.h", "edgepack.hpp")}
        made |= {f"src/{name}": place / name for name in names} if source else {}
        return _write(out, arch, made)


def write_source(place: Path) -> tuple[str, ...]:
    """Write all that a C++17 compiler needs into ``place``; return the names of the files."""
    package = resources.package_folder()
    cpp = package / "cpp"
    files = {
        path.relative_to(cpp).as_posix(): path.read_bytes()
        for folder in ("include", "source")
        for path in sorted((cpp / folder).rglob("*"))
        if path.suffix in (".cpp", ".h", ".hpp", ".map")
    }
    for path in sorted((package / "engines").glob("*/cpp/*.h")):  # a runner that goes with every bundle of an engine
        files[f"source/engines/{path.name}"] = path.read_bytes()
    files["source/facts.h"] = facts_header().encode()
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tuple(sorted(files))


def _write(out: Path, arch: str, made: dict[str, Path]) -> ExportedLibrary:
    config = "lib/pkgconfig/edgepack.pc"
    with storage_errors(out):
        for name, path in made.items():
            _copy(path, out / name, executable=name.startswith(("lib/", "bin/")))
        (out / config).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out / config) as file:
            file.write(_PKG_CONFIG.format(version=edgepack.__version__).encode())
        link = out / "lib" / _LINK
        link.unlink(missing_ok=True)
        link.symlink_to(SONAME)
    return ExportedLibrary(out, arch, tuple(sorted([*made, config, f"lib/{_LINK}"])))


def _copy(source: Path, out: Path, *, executable: bool) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out, 0o755 if executable else 0o644) as file, source.open("rb") as content:
        shutil.copyfileobj(content, file)
