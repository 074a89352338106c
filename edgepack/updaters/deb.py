"""A Debian package with the bundle, whose configuration is ``edgepack install``.

Written without Debian's tools, so that it can be made anywhere, and the same input gives the same bytes.
Sources: deb(5), deb-control(5); Debian Policy, chapter 6, for the arguments of maintainer scripts.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from edgepack.base.files import atomic_write
from edgepack.updaters.script import CONFIG, Update, shared

_FOLDER = "usr/lib/edgepack"
_CHUNK_BYTES = 1 << 20
_INSTALL = """\
#!/bin/sh
# Puts the bundle of this package in use, when it is proved on this device; else the package stays unconfigured.
set -eu
{shared}
case "$1" in
    configure) install_bundle "${{DPKG_ROOT:-}}/{folder}/{name}/{file}" ;;
esac
"""
_BEFORE = """\
#!/bin/sh
# Says what is missing before anything is unpacked.
set -eu
{shared}
$program --version >/dev/null 2>&1 || {{
    echo "edgepack is not installed for root on this device: pip install edgepack" >&2
    exit 1
}}
"""
_CONTROL = """\
Package: {package}
Version: {version}
Architecture: all
Maintainer: edgepack
Depends: python3 (>= 3.10)
Installed-Size: {kilobytes}
Section: misc
Priority: optional
Description: model {name}, for {target}
 An edgepack bundle. Configuring the package runs edgepack install, which
 checks the bundle, proves it with its golden vectors and puts it in use.
"""


def write(update: Update, out: Path) -> tuple[str, ...]:
    """Write ``PACKAGE_VERSION_all.deb`` into ``out``."""
    path = out / f"{update.package}_{update.package_version}_all.deb"
    place = f"{_FOLDER}/{update.name}/{update.file}"
    control = _archive({name: (text.encode(), mode) for name, (text, mode) in _control(update, place).items()})
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(b"!<arch>\n")
        _member(file, "debian-binary", b"2.0\n")
        _member(file, "control.tar.gz", control)
        start = file.tell()
        file.write(bytes(60))
        _write_data(file, update.bundle, place)
        size = file.tell() - start - 60
        file.write(b"\n" * (size % 2))
        file.seek(start)
        file.write(_header("data.tar", size))
        file.seek(0, io.SEEK_END)
    return f"dpkg -i {path.name}", f"a device without edgepack is told so; its settings are in {CONFIG}"


def _control(update: Update, place: str) -> dict[str, tuple[str, int]]:
    words = {"shared": shared(update), "folder": _FOLDER, "name": update.name, "file": update.file}
    size, digest = update.bundle.stat().st_size, hashlib.md5(usedforsecurity=False)
    with update.bundle.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    facts = _CONTROL.format(
        package=update.package,
        version=update.package_version,
        kilobytes=-(-size // 1024),
        name=update.name,
        target=update.target,
    )
    return {
        "control": (facts, 0o644),
        "md5sums": (f"{digest.hexdigest()}  {place}\n", 0o644),
        "preinst": (_BEFORE.format(**words), 0o755),
        "postinst": (_INSTALL.format(**words), 0o755),
    }


def _archive(members: dict[str, tuple[bytes, int]]) -> bytes:
    """Return a packed tar of small files."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(_folder("."))
        for name, (data, mode) in sorted(members.items()):
            tar.addfile(_file(f"./{name}", len(data), mode), io.BytesIO(data))
    return gzip.compress(plain.getvalue(), mtime=0)


def _write_data(out: IO[bytes], bundle: Path, place: str) -> None:
    """Write the tar of what is unpacked, with its folders; a bundle's weights do not get smaller by packing."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar, bundle.open("rb") as file:
        for folder in reversed(PurePosixPath(place).parents):
            tar.addfile(_folder(f"./{folder}" if folder.name else "."))
        tar.addfile(_file(f"./{place}", bundle.stat().st_size, 0o644), file)


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"{name}/" if name != "." else "./")
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    info.uname = info.gname = "root"
    return info


def _file(name: str, size: int, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    info.uname = info.gname = "root"
    return info


def _member(out: IO[bytes], name: str, data: bytes) -> None:
    out.write(_header(name, len(data)) + data + b"\n" * (len(data) % 2))


def _header(name: str, size: int) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{size:<10}`\n".encode("ascii")
