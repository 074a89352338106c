"""Keys, signed bundles and policies for tests, made in code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from small_bundles import small_bundle

from edgepack.trust.keys import PrivateKey, make_key
from edgepack.trust.sign import sign


def device(folder: Path, *trusted: PrivateKey, **policy: Any) -> Path:
    """Write a policy with its folder of trusted keys; return its path, for ``EDGEPACK_POLICY``."""
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    for key in trusted:
        (folder / "keys" / f"{key.public.name}.pub.pem").write_text(key.public.pem)
    path = folder / "policy.json"
    path.write_text(json.dumps({"format": 1, "require_signature": True, **policy}))
    return path


def new_key(folder: Path, name: str) -> PrivateKey:
    """Make a pair of keys."""
    return make_key(name, folder / "private")


def signed_bundle(folder: Path, *keys: PrivateKey, channels: int = 2, expires: Any = None, **changes: Any) -> Path:
    """Pack the small model into ``folder`` and sign it."""
    path = small_bundle(folder, channels, **changes)
    sign(path, keys, expires=expires)
    return path
