"""The store of stage outputs: each under the digest of all its inputs, so that nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgepack import documents
from edgepack.errors import ConfigError
from edgepack.files import sha256_file, sha256_json, storage_errors, sync_folder, write_text

T = TypeVar("T")

# A file changed within this time of being hashed may change again without a new mtime, so its digest is not kept.
_RACY_NS = 2_000_000_000


def default_folder() -> Path:
    """Return ``$EDGEPACK_STORE``, else ``edgepack/store`` in the user's cache folder."""
    if folder := os.environ.get("EDGEPACK_STORE"):
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "store"


class Store:
    """Folders of stage outputs, ``<stage>/<digest>/``; each appears whole by a rename or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.ran: list[str] = []
        self.reused: list[str] = []
        self._digests: dict[str, list[Any]] | None = None
        self._digests_changed = False

    def run(
        self,
        stage: str,
        version: int,
        inputs: Mapping[str, Any],
        kind: type[T],
        function: Callable[[Path], T],
        fresh: Callable[[Path], bool] = lambda _: True,
    ) -> T:
        """Return the stored output for ``inputs``, else call ``function`` with an empty folder and store the answer.

        ``inputs`` must name everything the output depends on: digests of files, options, versions of tools. An entry
        whose files are missing or of another size is made again, and so is one for whose folder ``fresh`` says no.
        Raises ``StorageError`` on a full disk.
        """
        key = sha256_json(documents.encode({"stage": stage, "version": version, "inputs": inputs}))
        final = self.folder / stage / key[:32]
        stored = self._read(final, kind)
        if stored is not None and fresh(final):
            self.reused.append(stage)
            return stored
        self.ran.append(stage)
        with storage_errors(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{key[:8]}.", dir=final.parent))
            try:
                value = function(scratch)
                files = {
                    p.relative_to(scratch).as_posix(): p.stat().st_size
                    for p in sorted(scratch.rglob("*"))
                    if p.is_file()
                }
                document = {
                    "stage": stage,
                    "version": version,
                    "files": files,
                    "value": documents.encode(value, scratch),
                }
                write_text(scratch / "value.json", json.dumps(document, indent=1))
                self._publish(scratch, final)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        result = self._read(final, kind)
        assert result is not None, "an entry just written must be readable"
        return result

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file, from the last time when its size, times and inode are unchanged."""
        known = self._load_digests()
        name, stat = str(path.absolute()), path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        entry = known.get(name)
        if entry is not None and entry[:4] == mark:
            return str(entry[4])
        digest = sha256_file(path)
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _RACY_NS:
            known[name] = [*mark, digest]
            self._digests_changed = True
        return digest

    def save(self) -> None:
        """Keep the file digests for the next run."""
        if self._digests_changed and self._digests is not None:
            write_text(self.folder / "digests.json", json.dumps(self._digests))
            self._digests_changed = False

    def size_bytes(self) -> int:
        """Return the bytes of all files in the store."""
        return sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file()) if self.folder.is_dir() else 0

    def clear(self) -> None:
        """Remove everything that was stored."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def _publish(self, scratch: Path, final: Path) -> None:
        for path in [*scratch.rglob("*"), scratch]:
            if path.is_dir():
                sync_folder(path)
            elif path.name != "value.json":
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if final.exists():  # another build made it meanwhile, or it was found damaged
            shutil.rmtree(final, ignore_errors=True)
        scratch.chmod(0o755)
        scratch.replace(final)
        sync_folder(final.parent)

    def _read(self, folder: Path, kind: type[T]) -> T | None:
        try:
            document = json.loads((folder / "value.json").read_bytes())
            whole = all((folder / name).stat().st_size == size for name, size in document["files"].items())
            if not whole:
                return None
            value = documents.decode(kind, document["value"], str(folder), folder)
        except (OSError, ValueError, KeyError, AttributeError, TypeError, ConfigError):
            return None
        return value  # type: ignore[no-any-return]

    def _load_digests(self) -> dict[str, list[Any]]:
        if self._digests is None:
            try:
                loaded = json.loads((self.folder / "digests.json").read_bytes())
                self._digests = {str(k): v for k, v in loaded.items() if isinstance(v, list) and len(v) == 5}
            except (OSError, ValueError, AttributeError):
                self._digests = {}
        return self._digests
