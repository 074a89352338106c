"""Where a shared store is: ``s3://bucket/folder``, ``gs://bucket/folder`` or ``file:///folder``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgepack.errors import ConfigError

PROTOCOLS = ("file", "gs", "s3")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_PART = re.compile(r"[A-Za-z0-9._ @=+-]+")
_READ_ONLY = "read-only"


@dataclass(frozen=True)
class Address:
    """A shared store: its protocol, the folder in it as fsspec names it, and whether this machine may write there."""

    protocol: str
    root: str
    read_only: bool = False

    @property
    def url(self) -> str:
        """The address as it is written, without what may be done."""
        return f"{self.protocol}://{self.root}"


def is_address(where: str) -> bool:
    """Say whether ``--store`` names a shared store, and not a folder."""
    return "://" in where


def parse_address(where: str) -> Address:
    """Return the shared store that ``where`` names. Raises ``ConfigError`` for one that cannot be meant."""
    url, _, mode = where.partition("?")
    protocol, _, path = url.partition("://")
    if protocol not in PROTOCOLS:
        raise _wrong(where, f"{protocol}:// is not known")
    if mode not in ("", _READ_ONLY):
        raise _wrong(where, f"?{mode} is not known")
    root = path.rstrip("/")
    parts = root.lstrip("/").split("/") if protocol == "file" else root.split("/")
    if protocol == "file" and not root.startswith("/"):
        raise _wrong(where, "a folder is written with three strokes")
    if protocol != "file" and not _BUCKET.fullmatch(parts[0]):
        raise _wrong(where, f"{parts[0]!r} is not the name of a bucket")
    for part in parts:
        if part in (".", "..") or not _PART.fullmatch(part):
            raise _wrong(where, f"{part!r} cannot be a part of it")
    return Address(protocol, root, bool(mode))


def _wrong(where: str, why: str) -> ConfigError:
    return ConfigError(
        f"--store {where!r}: {why}",
        hint="write s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER, with ?read-only to write nothing there",
    )
