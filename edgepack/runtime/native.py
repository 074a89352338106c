"""Whether machine code in a bundle may run on this device: who made it must be trusted, so somebody must say so.

In this order: the caller (``--allow-native``), ``EDGEPACK_ALLOW_NATIVE``, the device's settings file, and else only
what this user built here. Bundles of data (ONNX, OpenVINO's IR) are not asked about.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base import documents
from edgepack.base.files import sha256_file, storage_errors
from edgepack.bundle.payloads import is_native
from edgepack.engines import engine_of
from edgepack.errors import ConfigError, StorageError
from edgepack.runtime.cache import cache_folder, refuse_foreign

if TYPE_CHECKING:
    from edgepack.bundle.archive import Bundle
    from edgepack.specs.bundle import Manifest

VARIABLE = "EDGEPACK_ALLOW_NATIVE"
SETTINGS_VARIABLE = "EDGEPACK_SETTINGS"
SYSTEM_SETTINGS = Path("/etc/edgepack/device.json")
_NAME = "device.json"
_BUILT = "built"
_DIGEST_BYTES = 65  # 64 digits and the end of the line
_MOST_BUILT = 100_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class DeviceSettings:
    """What holds for all bundles on one device; ``device.json``."""

    allow_native: bool = False


def may_run_native(bundle: Bundle, allowed: bool | None = None) -> bool:
    """Say whether native code of ``bundle`` may run; ``allowed`` is what the caller says, None for nothing.

    Raises ``ConfigError`` for settings that cannot be read, ``StorageError`` for those that others may write.
    """
    if allowed is not None:
        return allowed
    if text := os.environ.get(VARIABLE):
        if text not in ("0", "1"):
            raise ConfigError(f"{VARIABLE} is {text[:40]!r}", hint="write 1 to run native code, or 0")
        return text == "1"
    settings = read_settings()
    return settings.allow_native if settings is not None else _was_built_here(bundle.sha256)


def refusal(manifest: Manifest) -> ConfigError:
    """Return the error of a bundle whose native code may not run."""
    payload = next(payload for payload in manifest.payloads if is_native(payload))
    engine = engine_of(payload.backend)
    title = engine.title if engine is not None else payload.backend
    return ConfigError(
        f"{manifest.name} holds native code for {title} and was not built here, so it is not run",
        hint=f'if you trust who made it, give --allow-native, or set {VARIABLE}=1, or write {{"allow_native": true}} '
        f"to {SYSTEM_SETTINGS} on this device",
    )


def read_settings() -> DeviceSettings | None:
    """Return this device's settings: of ``$EDGEPACK_SETTINGS``, else of the user, else of the system; None without."""
    if named := os.environ.get(SETTINGS_VARIABLE):
        return _read(Path(named))
    home = os.environ.get("XDG_CONFIG_HOME")
    user = (Path(home) if home else Path.home() / ".config") / "edgepack" / _NAME
    return next((_read(path) for path in (user, SYSTEM_SETTINGS) if path.is_file()), None)


def _read(path: Path) -> DeviceSettings:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=f"correct {SETTINGS_VARIABLE}") from None
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
        raise StorageError(f"{path} is writable by other users", hint=f"chmod go-w {path}")
    return documents.from_json(DeviceSettings, text, str(path))


# --- what was built here ----------------------------------------------------------------------------------------------


def note_built(sha256: str) -> None:
    """Remember that a bundle, by the sha256 of its file, was made here by this user, so that its code may run here.

    A folder that cannot be written, or that is not this user's alone, remembers nothing.
    """
    root = cache_folder()
    try:
        if _was_built_here(sha256):
            return
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            refuse_foreign(root)
            with (root / _BUILT).open("a", encoding="ascii") as file:
                file.write(sha256 + "\n")
    except (OSError, StorageError):
        return


@contextmanager
def note_copy(bundle: Path, copy: Path) -> Iterator[None]:
    """Remember ``copy``, which the block makes with the same contents, when ``bundle`` was built here."""
    built = bundle.is_file() and _was_built_here(sha256_file(bundle))
    yield
    if built:
        note_built(sha256_file(copy))


def _was_built_here(sha256: str) -> bool:
    root = cache_folder()
    try:
        refuse_foreign(root)
        with (root / _BUILT).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - size % _DIGEST_BYTES - _MOST_BUILT * _DIGEST_BYTES))
            lines = file.read().decode("ascii", errors="replace").split("\n")
    except (OSError, StorageError):
        return False
    return bool(_SHA256.fullmatch(sha256)) and sha256 in lines
