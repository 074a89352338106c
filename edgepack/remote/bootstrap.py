"""Brings edgepack to a machine that has Python and nothing else: its wheel, numpy, Click and the bundle's engine.

The packages are chosen here, by pip, for the board's Python, processor and C library, and sent as one archive. They are
unpacked there into a folder of their own, which every later command puts before the board's own packages; nothing else
is touched there, and the board needs neither pip nor a network.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from edgepack.base.files import scratch_folder
from edgepack.base.resources import calibration_folder, package_folder, targets_folder
from edgepack.bundle.archive import open_bundle
from edgepack.engines import engine_of
from edgepack.errors import RemoteError, ToolchainError
from edgepack.remote.commands import Facts, probe
from edgepack.remote.ssh import SITE, Board, ask
from edgepack.specs.bundle import Manifest
from edgepack.specs.types import Progress, no_progress

_LIMIT_S = 1800.0
_VERIFY = "cryptography>=43"  # a board's policy may ask for the signature that is there
_GLIBC = ("2_17", "2_27", "2_28", "2_31", "2_34", "2_35", "2_39")  # those that wheels are made for
# The last member of the archive: a stream that was cut between two members looks like a shorter archive.
_WHOLE = ".whole"
# What a cut link or a full disk left goes at once, and with the next try where even that was cut off.
_UNPACK = (
    f'site="{SITE}"; set -e; umask 077; new="$site.new.$$"; '
    'for left in "$site".new.*; do kill -0 "${left##*.}" 2>/dev/null || rm -rf "$left"; done; '
    "trap 'rm -rf \"$new\"' EXIT; trap 'exit 1' HUP INT TERM PIPE; "
    'mkdir -p "$new"; cd "$new"; '
    '"$0" -c \'import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode="r|").extractall(".")\'; '
    f'[ -e {_WHOLE} ] || {{ echo "the link was cut" >&2; exit 1; }}; rm {_WHOLE}; '
    'rm -rf "$site.old"; if [ -d "$site" ]; then mv "$site" "$site.old"; fi; '
    'mv "$new" "$site"; rm -rf "$site.old"'
)


def bring(board: Board, bundle: Path, progress: Progress = no_progress) -> Facts:
    """Bring what a board needs for a bundle, and return what the board is then.

    Raises ``ToolchainError`` when a package has nothing for the board's Python and processor, ``RemoteError``.
    """
    opened = open_bundle(bundle)
    packages = (*packages_for(opened.manifest), *((_VERIFY,) if opened.signature is not None else ()))
    facts = probe(board)
    with scratch_folder() as scratch:
        progress("gather packages", 0, 2)
        gather(facts, packages, scratch / "site")
        progress("send packages", 1, 2)
        archive = scratch / "site.tar"
        _pack(scratch / "site", archive)
        with archive.open("rb") as file:
            answer = ask(board, ["sh", "-c", _UNPACK, board.python], _LIMIT_S, stdin=file)
    if answer.code:
        raise RemoteError(
            f"{board.host} could not unpack what it needs: {answer.err[-300:]}",
            hint="free some disk space, or check the link; nothing of it is left there",
        )
    found = probe(board)
    if found.edgepack is None:
        raise RemoteError(
            f"{board.host} cannot import what was brought: numpy or Click does not fit", hint="give --python"
        )
    return found


def packages_for(manifest: Manifest) -> tuple[str, ...]:
    """Return what pip is asked for: numpy, Click, and the engine of the first payload that pip can bring."""
    wanted = ["numpy", "click"]
    for payload in manifest.payloads:
        engine = engine_of(payload.backend)
        if engine is None or engine.self_contained or engine.built_on_device or not engine.distributions:
            continue
        oldest = manifest.requirements.engine.get(engine.distributions[0])
        wanted.append(f"{engine.distributions[0]}>={oldest}" if oldest else engine.distributions[0])
        break
    return tuple(wanted)


def gather(facts: Facts, packages: tuple[str, ...], out: Path) -> None:
    """Write the packages for a board, and edgepack itself, into ``out``. Raises ``ToolchainError``."""
    platforms = [word for name in _platforms(facts) for word in ("--platform", name)]
    words = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
        "--only-binary=:all:", "--target", str(out), "--python-version", facts.python, "--implementation", "cp",
        *platforms, *packages,
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode:
        raise ToolchainError(
            f"there is no {', '.join(packages)} for Python {facts.python} on {facts.arch} with glibc {facts.libc}: "
            f"{done.stderr.strip()[-300:]}",
            hint="install the engine there by hand, then leave --bootstrap out",
        )
    code = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package_folder(), out / "edgepack", ignore=code)
    for folder in (targets_folder(), calibration_folder()):
        shutil.copytree(folder, out / "edgepack" / "_data" / folder.name, ignore=code, dirs_exist_ok=True)


def _platforms(facts: Facts) -> list[str]:
    """Return pip's names of all platforms whose wheels run on a board, the newest C library first."""
    libc = tuple(int(part) for part in facts.libc.split(".")[:2] if part.isdigit())
    fitting = [name for name in _GLIBC if tuple(map(int, name.split("_"))) <= (libc or (2, 17))]
    names = [f"manylinux_{name}_{facts.arch}" for name in reversed(fitting)]
    return [*names, f"manylinux2014_{facts.arch}"]


def _pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False, filter=_plain)
        tar.addfile(tarfile.TarInfo(_WHOLE))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
