"""The part that the scripts of all updaters share: where the installation is, and the call of ``edgepack install``."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import atomic_write, write_text
from edgepack.errors import ConfigError

CONFIG = "/etc/edgepack/updater.conf"
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~]*")
# $1 is the bundle. A device may say otherwise in its own file; what is written here are the defaults.
_SHARED = """\
root={root}
health={health}
window={window}
program='python3 -m edgepack'
config=${{EDGEPACK_UPDATER_CONFIG:-{config}}}
[ ! -r "$config" ] || . "$config"

# The version in use, by the name of its folder; nothing where there is none.
in_use() {{
    readlink "$root/current" || true
}}

install_bundle() {{
    set -- install "$1" --root "$root" --wait 120s
    [ -z "$health" ] || set -- "$@" --health "$health" --window "$window"
    $program "$@"
}}
"""


@dataclass(frozen=True)
class Update:
    """A bundle to bring to devices: ``root`` is the installation there, ``health`` its command, empty for none."""

    bundle: Path
    name: str
    version: str
    target: str
    root: str
    health: str
    window_s: float

    @property
    def file(self) -> str:
        """Return the bundle's file name on the device."""
        return f"{self.name}.edgepack"

    @property
    def package(self) -> str:
        """Return a name of what packages and units may both have (a-z, 0-9, ``.``, ``-``), another for each model.

        Sources: Debian Policy, 5.6.1; systemd.unit(5). A name of other characters gets a digest of it, so that
        ``my_model`` and ``my-model`` are two.
        """
        plain = re.sub(r"[^a-z0-9.-]", "-", self.name.lower())
        digest = "" if plain == self.name else "." + hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"edgepack-{plain}{digest}"

    @property
    def package_version(self) -> str:
        """Return the version as updaters compare it. Raises ``ConfigError`` for one that begins with no digit."""
        if not _VERSION.fullmatch(self.version):
            raise ConfigError(
                f"the version {self.version[:40]!r} is not one that packages can have",
                hint="build the bundle with a version that begins with a digit, such as 1.2.0",
            )
        return self.version


def shared(update: Update) -> str:
    """Return the lines of a shell script that define ``in_use`` and ``install_bundle``."""
    return _SHARED.format(
        root=shlex.quote(update.root),
        health=shlex.quote(update.health),
        window=shlex.quote(f"{update.window_s:g}s"),
        config=CONFIG,
    )


def write_script(path: Path, text: str) -> None:
    """Write a file that is run."""
    write_text(path, text)
    path.chmod(0o755)


def copy_bundle(update: Update, path: Path) -> None:
    """Copy the bundle's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with update.bundle.open("rb") as source, atomic_write(path) as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    os.utime(path, (0, 0))
