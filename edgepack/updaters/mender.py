"""A Mender update module, and the bundle as its payload.

Source: Mender, "Update Modules", version 3 of the protocol: the states and what the module answers to them.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from edgepack.updaters.script import Update, copy_bundle, shared, write_script

MODULE = "edgepack-bundle"
_SCRIPT = """\
#!/bin/sh
# Mender update module for edgepack bundles: copy it to /usr/share/mender/modules/v3/{module}.
set -eu
{shared}
state=$1
files=$2

case "$state" in
    NeedsArtifactReboot) echo No ;;
    SupportsRollback) echo Yes ;;
    ArtifactInstall)
        set -- "$files"/files/*.edgepack
        [ $# -eq 1 ] && [ -f "$1" ] || {{ echo "the artifact must hold one .edgepack file" >&2; exit 1; }}
        before=$(in_use)
        echo "$before" >"$files/tmp/before"
        install_bundle "$1"
        in_use >"$files/tmp/installed"
        ;;
    ArtifactRollback)
        # What install refused was never in use: there is nothing to go back from.
        [ -f "$files/tmp/installed" ] || exit 0
        before=$(cat "$files/tmp/before")
        installed=$(cat "$files/tmp/installed")
        [ "$installed" != "$before" ] && [ "$(in_use)" = "$installed" ] || exit 0
        [ -n "$before" ] || {{ echo "no version was in use before: there is none to return to" >&2; exit 1; }}
        $program rollback --root "$root"
        ;;
esac
"""
_ARTIFACT = """\
#!/bin/sh
# Writes the artifact by mender-artifact; DEVICE_TYPE is what your devices call themselves.
set -eu
cd "$(dirname "$0")"
exec mender-artifact write module-image --type {module} --artifact-name {artifact} \\
    --device-type "${{DEVICE_TYPE:?the type of your devices}}" --file {file} --output-path {artifact}.mender "$@"
"""


def write(update: Update, out: Path) -> tuple[str, ...]:
    """Write the module, the bundle, and the script that makes an artifact of it."""
    artifact = f"{update.package}-{update.package_version}"
    out.mkdir(parents=True, exist_ok=True)
    write_script(out / MODULE, _SCRIPT.format(module=MODULE, shared=shared(update)))
    words = {"module": MODULE, "artifact": shlex.quote(artifact), "file": shlex.quote(update.file)}
    write_script(out / "write-artifact.sh", _ARTIFACT.format(**words))
    copy_bundle(update, out / update.file)
    return (
        f"on devices, once: copy {MODULE} to /usr/share/mender/modules/v3",
        f"DEVICE_TYPE=my-board ./write-artifact.sh writes {artifact}.mender; its options go on to mender-artifact",
    )
