"""What lets a device's own updater bring bundles: one module a kind, one line of ``UPDATERS``.

Each calls ``edgepack install``, which checks, proves and switches as it does by hand; the updater carries the file.
"""

from __future__ import annotations

from collections.abc import Mapping

# Kind: its function (Update, Path) -> tuple[str, ...], which writes a folder and returns what is to be done with it.
UPDATERS: Mapping[str, str] = {
    "deb": "edgepack.updaters.deb:write",
    "mender": "edgepack.updaters.mender:write",
    "rauc": "edgepack.updaters.rauc:write",
    "sysext": "edgepack.updaters.sysext:write",
}
