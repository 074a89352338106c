"""A systemd system extension with the bundle, and the unit that installs it.

Source: systemd-sysext(8), os-release(5) on extension-release files.
"""

from __future__ import annotations

from pathlib import Path

from edgepack.base.files import write_text
from edgepack.updaters.script import Update, copy_bundle, shared, write_script

_SCRIPT = """\
#!/bin/sh
# Puts the bundle of this extension in use.
set -eu
{shared}
install_bundle "${{1:-/usr/lib/edgepack/{name}/{file}}}"
"""
_UNIT = """\
[Unit]
Description=Install the model {name} {version}
After=local-fs.target systemd-sysext.service
ConditionPathExists=/usr/lib/edgepack/{name}/{file}

[Service]
Type=oneshot
ExecStart=/usr/lib/edgepack/{name}/install
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def write(update: Update, out: Path) -> tuple[str, ...]:
    """Write the extension as a folder, as ``/var/lib/extensions`` takes it."""
    name = update.package
    usr = out / name / "usr"
    place = usr / "lib" / "edgepack" / update.name
    copy_bundle(update, place / update.file)
    words = {"shared": shared(update), "name": update.name, "file": update.file, "version": update.package_version}
    write_script(place / "install", _SCRIPT.format(**words))
    for path, text in (
        (usr / "lib" / "systemd" / "system" / f"{name}.service", _UNIT.format(**words)),
        # A bundle is for a processor and an engine, which edgepack checks; the system's release says nothing of it.
        (usr / "lib" / "extension-release.d" / f"extension-release.{name}", "ID=_any\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return (
        f"copy {name} to /var/lib/extensions, or: mksquashfs {name} {name}.raw -all-root",
        f"systemd-sysext refresh && systemctl daemon-reload && systemctl start {name}",
    )
