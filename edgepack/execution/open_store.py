"""Opens the store that ``--store`` or ``EDGEPACK_STORE`` names: a folder, or one that machines share, behind a folder.

The folder before a shared store is in the user's cache, one for each address. It has a size that is kept when it is
opened and nobody else uses it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from edgepack.base.files import storage_errors
from edgepack.errors import ConfigError
from edgepack.execution.prune import prune
from edgepack.execution.shared.address import Address, is_address, parse_address
from edgepack.execution.shared.record import read_secret
from edgepack.execution.shared.remote import Remote
from edgepack.execution.shared.shared import SharedStore
from edgepack.execution.store import Store, default_folder

_CACHE_BYTES = 20 << 30
_LOCK = "in-use.lock"


def open_store(where: str | Path | None = None) -> Store:
    """Return the store that ``where`` names, None: what ``$EDGEPACK_STORE`` names, else the user's own.

    Raises ``ConfigError``, and ``ToolchainError`` where a shared one needs a package that is not here.
    """
    named = str(where if where is not None else os.environ.get("EDGEPACK_STORE", ""))
    if not is_address(named):
        folder = Path(where) if where is not None else default_folder()
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"the store {folder} is a file", hint="give a folder with --store or EDGEPACK_STORE")
        return Store(folder)
    address = parse_address(named)
    shared = open_shared(address)
    store = Store(cache_folder(address), shared)
    _keep_size(store, _most_bytes())
    return store


def open_shared(address: Address) -> SharedStore:
    """Return the shared store at an address, with the key that ``$EDGEPACK_STORE_KEY`` names."""
    key = os.environ.get("EDGEPACK_STORE_KEY")
    return SharedStore(Remote(address), read_secret(Path(key)) if key else None)


def cache_folder(address: Address) -> Path:
    """Return the folder before a shared store: below ``$EDGEPACK_STORE_CACHE``, else ``shared`` in the user's cache."""
    given = os.environ.get("EDGEPACK_STORE_CACHE")
    root = Path(given) if given else _own_cache() / "shared"
    return root / hashlib.sha256(address.url.encode()).hexdigest()[:16]


def _own_cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "edgepack"


def _most_bytes() -> int:
    text = os.environ.get("EDGEPACK_STORE_CACHE_BYTES")
    if text is None:
        return _CACHE_BYTES
    if not text.isascii() or not text.isdigit():
        raise ConfigError(
            f"EDGEPACK_STORE_CACHE_BYTES is {text!r}", hint=f"write a whole number of bytes, as in {_CACHE_BYTES}"
        )
    return int(text)


def _keep_size(store: Store, most_bytes: int) -> None:
    """Remove what was not used for longest until ``most_bytes`` are left, unless another process uses the folder.

    The lock is kept as long as this process lives, which says that it uses it.
    """
    store.claim()
    with storage_errors(store.folder):
        lock = os.open(store.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # others use it, or this file system has no locks
        pass
    else:
        prune(store, None, most_bytes)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        pass
