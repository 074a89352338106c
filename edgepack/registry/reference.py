"""Where a bundle is in a registry, ``host[:port]/name[:tag][@sha256:digest]``, or in a folder, ``oci:PATH[:TAG]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import ConfigError

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_REFERENCE = re.compile(rf"({_HOST})/({_NAME})(?::({_TAG}))?(?:@(sha256:[0-9a-f]{{64}}))?")
_FOLDER = re.compile(rf"oci:(.+?)(?::({_TAG}))?")
_MOST_CHARACTERS = 1000
_MOST_PORT = 65_535
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Reference:
    """A tag or a digest of a repository in a registry."""

    host: str
    name: str
    tag: str | None = None
    digest: str | None = None

    @property
    def version(self) -> str:
        """Return what a manifest is asked for by: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"

    @property
    def is_loopback(self) -> bool:
        """Say whether the registry is this machine, which may speak plain HTTP."""
        return re.sub(r":[0-9]+\Z", "", self.host) in _LOOPBACK

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True)
class Folder:
    """A tag in an OCI layout folder."""

    path: Path
    tag: str = "latest"

    def __str__(self) -> str:
        return f"oci:{self.path}:{self.tag}"


def is_repository(text: str) -> bool:
    """Say whether ``text`` may be a repository's name in a registry."""
    return len(text) < _MOST_CHARACTERS and re.fullmatch(_NAME, text) is not None


def parse(text: str) -> Reference | Folder:
    """Return what a reference names. Raises ``ConfigError``."""
    if text.startswith("oci://"):
        raise ConfigError(
            f"{text[:120]!r}: a registry is named without 'oci://', and a folder is oci:FOLDER",
            hint=f"registry: {text[6:120]}; folder: oci:/PATH:TAG with one slash",
        )
    if text.startswith("oci:") and (found := _FOLDER.fullmatch(text)):
        return Folder(Path(found[1]), found[2] or "latest")
    match = _REFERENCE.fullmatch(text) if len(text) < _MOST_CHARACTERS else None
    if match is None or _port(match[1]) > _MOST_PORT:
        raise ConfigError(
            f"{text[:120]!r} is not a reference to a registry",
            hint="write it like registry.example.com/models/net:1.0, or oci:FOLDER:1.0",
        )
    return Reference(*match.groups())


def _port(host: str) -> int:
    found = re.search(r":([0-9]+)\Z", host)
    return int(found[1]) if found else 0
