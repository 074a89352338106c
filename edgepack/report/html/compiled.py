"""Keeps the page's templates compiled in the user's cache, as Python does with modules: it took 0.1 CPU s a build."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepack.base.files import atomic_write, read_regular, sha256_json
from edgepack.errors import EdgepackError
from edgepack.runtime.cache import refuse_foreign

_MOST_BYTES = 1 << 24  # of a compiled template, far above any
_DIGEST_BYTES = hashlib.sha256().digest_size


def environment(folder: Path, options: Mapping[str, Any]) -> Any:
    """Return a Jinja environment of a folder's templates; where the cache cannot be used, it compiles them itself."""
    from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
    from jinja2 import __version__ as version

    class Compiled(BytecodeCache):
        """Jinja itself sees that a template has changed, but not that its options or Jinja's version have."""

        def load_bytecode(self, bucket: Any) -> None:
            try:
                found = read_regular(self._path(bucket), _MOST_BYTES)
            except (OSError, EdgepackError, RuntimeError):
                return
            if found[:_DIGEST_BYTES] == _digest(found[_DIGEST_BYTES:]):  # what is damaged could end Python
                bucket.bytecode_from_string(found[_DIGEST_BYTES:])

        def dump_bytecode(self, bucket: Any) -> None:
            try:
                with atomic_write(self._path(bucket), 0o600) as file:
                    content = bucket.bytecode_to_string()
                    file.write(_digest(content) + content)
            except (OSError, EdgepackError, RuntimeError):
                return

        def _path(self, bucket: Any) -> Path:
            return _private(cache_folder()) / sha256_json([version, sorted(options.items()), bucket.key])[:32]

    return Environment(loader=FileSystemLoader(folder), undefined=StrictUndefined, bytecode_cache=Compiled(), **options)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def cache_folder() -> Path:
    """Return ``edgepack/templates`` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return ((Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "templates").absolute()


def _private(folder: Path) -> Path:
    """Return a folder that no other user may write, since what lies there is run. Raises ``StorageError``."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    refuse_foreign(folder)
    return folder
