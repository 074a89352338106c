"""A RAUC bundle's input: manifest, hook and the edgepack bundle as an image that the hook installs.

Source: RAUC, "Bundle Hooks" and "Manifest"; the hook gets its orders in ``$1`` and the environment.
"""

from __future__ import annotations

from pathlib import Path

from edgepack.base.files import write_text
from edgepack.updaters.script import Update, copy_bundle, shared, write_script

_HOOK = """\
#!/bin/sh
# RAUC hook: the image of the slot class 'edgepack' is a bundle, and edgepack installs it.
set -eu
{shared}
case "$1" in
    slot-install)
        [ "$RAUC_SLOT_CLASS" = edgepack ] || {{ echo "no bundle for the slot class $RAUC_SLOT_CLASS" >&2; exit 1; }}
        install_bundle "$RAUC_IMAGE_NAME"
        ;;
    *) echo "unknown call $1" >&2; exit 1 ;;
esac
"""
# RAUC tells images by their suffix; 'img' may be written to a slot of any type, and the hook takes its place.
_MANIFEST = """\
[update]
compatible={compatible}
version={version}

[bundle]
format=plain

[hooks]
filename=hook.sh

[image.edgepack]
filename={name}.img
hooks=install
"""
_SLOT = """\
# For /etc/rauc/system.conf of devices: a slot that stands for the models, as RAUC wants one. Nothing is written to its
# device by RAUC; it must be a file or a partition that is there.
[slot.edgepack.0]
device={root}.slot
type=raw
"""


def write(update: Update, out: Path) -> tuple[str, ...]:
    """Write ``input``, the folder for ``rauc bundle``, and the slot that devices must have."""
    place = out / "input"
    place.mkdir(parents=True, exist_ok=True)
    write_script(place / "hook.sh", _HOOK.format(shared=shared(update)))
    words = {"compatible": update.target, "version": update.package_version, "name": update.name}
    write_text(place / "manifest.raucm", _MANIFEST.format(**words))
    copy_bundle(update, place / f"{update.name}.img")
    write_text(out / "slot.conf", _SLOT.format(root=update.root))
    return (
        f"rauc bundle --cert cert.pem --key key.pem input {update.package}.raucb",
        f"devices need the slot of slot.conf in /etc/rauc/system.conf, and compatible={update.target}",
    )
