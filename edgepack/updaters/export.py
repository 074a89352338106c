"""Writes what an updater needs to bring a bundle to devices."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from edgepack.base.extensions import load_reference
from edgepack.base.files import scratch_folder, storage_errors
from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError, StorageError
from edgepack.runtime.load import is_installed
from edgepack.trust.policy import admit
from edgepack.updaters import UPDATERS
from edgepack.updaters.script import Update

ROOT = "/var/lib/edgepack"


@dataclass(frozen=True)
class Exported:
    """What was written, and what is to be done with it."""

    folder: str
    kind: str
    files: tuple[str, ...]
    next: tuple[str, ...]


def export_updater(
    bundle: Path, kind: str, out: Path, *, root: str = ROOT, health: str = "", window_s: float = 60.0
) -> Exported:
    """Write ``out``, a new folder, whole or not at all. ``root`` is the installation on devices.

    Raises ``ConfigError`` for a version that packages cannot have and a ``root`` that is not an absolute path,
    ``StorageError`` where ``out`` is there, and what ``open_bundle`` and ``admit`` raise.
    """
    if not PurePosixPath(root).is_absolute() or ".." in PurePosixPath(root).parts or not root.isprintable():
        raise ConfigError(f"--root {root[:80]!r} is not an absolute path on a device", hint=f"such as {ROOT}")
    if out.exists():
        raise StorageError(f"{out} already exists", hint="give a new folder")
    opened = open_bundle(bundle)
    admit(opened, new=not is_installed(opened))
    about = opened.manifest
    update = Update(bundle, about.name, about.version, about.target, root, health, window_s)
    write = cast("Callable[[Update, Path], tuple[str, ...]]", load_reference(UPDATERS[kind]))
    with storage_errors(out):
        parent = out.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(parent=parent) as scratch:
            said = write(update, scratch / out.name)
            shutil.move(scratch / out.name, out)
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return Exported(str(out), kind, tuple(files), said)
