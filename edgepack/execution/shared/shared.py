"""The shared store behind a local one: what is not here is looked for there, and what was made here is put there.

A build never fails for it: what cannot be fetched is made, what cannot be put there stays here, and both are told once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from edgepack.execution.shared.record import (
    MOST_BYTES,
    BadRecordError,
    Record,
    document_of,
    make_record,
    read_record,
    write_record,
)
from edgepack.execution.shared.remote import AbsentError, DamagedError, Remote, RemoteError

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_FAILURES = 3  # in a row, after which nothing more is asked of it
_AT_ONCE = 4  # files of one output


def record_name(stage: str, key: str) -> str:
    """Return where the record of an output is, below the root."""
    return f"records/{stage}/{key}.json"


def blob_name(sha256: str) -> str:
    """Return where the contents of a file are, below the root."""
    return f"blobs/{sha256[:2]}/{sha256}"


class SharedStore:
    """Outputs of stages in a shared store. ``tell`` is called with what the user should know, each thing once.

    One object serves several threads.
    """

    def __init__(self, remote: Remote, secret: bytes | None = None) -> None:
        self.remote, self.secret = remote, secret
        self.tell: Callable[[str], None] = _LOG.warning
        self._lock = threading.Lock()
        self._failures, self._told = 0, set[str]()
        self._damaged: set[str] = set()  # blobs that were found so: they are written again

    @property
    def url(self) -> str:
        """Where it is."""
        return self.remote.address.url

    def fetch(self, stage: str, key: str, into: Path) -> dict[str, Any] | None:
        """Write the files of an output into an empty folder; return its document, None where there is none to use.

        Every file has the size and the sha256 that the record says, or nothing is returned.
        """
        return self._try(lambda: self._fetch(stage, key, into))

    def keep(self, key: str, document: Mapping[str, Any], folder: Path) -> None:
        """Put an output there, its record last. What others removed meanwhile is put there again."""
        record = make_record(key, document)
        data = write_record(record, self.secret)
        if not self.remote.address.read_only and len(data) <= MOST_BYTES:
            self._try(lambda: self._keep(record, data, folder))

    def _fetch(self, stage: str, key: str, into: Path) -> dict[str, Any] | None:
        try:
            data = self.remote.read(record_name(stage, key), MOST_BYTES)
            record = read_record(data, stage, key, self.secret)
            self._download(record, into)
        except AbsentError:
            return None
        except (BadRecordError, DamagedError) as error:
            self._say(f"an output of {stage} in {self.url} is not used: {error}")
            return None
        return document_of(record)

    def _keep(self, record: Record, data: bytes, folder: Path) -> None:
        self._upload(record, folder)
        self.remote.write(record_name(record.stage, record.key), data)
        self._upload(record, folder)  # a prune may have taken what was there, as no record named it then

    def _download(self, record: Record, into: Path) -> None:
        def one(name: str) -> None:
            blob, to = record.files[name], into / name
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.remote.download(blob_name(blob.sha256), to, blob.size_bytes, blob.sha256)
            except DamagedError:
                self._damaged.add(blob.sha256)
                raise

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(one, name) for name in record.files]:
                done.result()

    def _upload(self, record: Record, folder: Path) -> None:
        """Put the contents of files there that are not there, or not as they should be."""
        sources = {blob.sha256: (folder / name, blob.size_bytes) for name, blob in record.files.items()}

        def one(sha256: str) -> None:
            source, size = sources[sha256]
            if sha256 in self._damaged or self.remote.size(blob_name(sha256)) != size:
                self.remote.upload(blob_name(sha256), source)
                self._damaged.discard(sha256)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(one, sha256) for sha256 in sources]:
                done.result()

    def _try(self, call: Callable[[], T]) -> T | None:
        """Return what a call returns; None where it fails, which is told, or the store has failed too often before."""
        if self._failures >= _FAILURES:
            return None
        try:
            found = call()
        except RemoteError as error:
            with self._lock:
                self._failures += 1
            self._say(f"the shared store {self.url} fails: {error}", once="fails")
            if self._failures >= _FAILURES:
                self._say(f"the shared store {self.url} is left alone: what it has is made here, and stays here")
            return None
        self._failures = 0
        return found

    def _say(self, text: str, *, once: str = "") -> None:
        with self._lock:
            if (once or text) in self._told:
                return
            self._told.add(once or text)
        self.tell(text)
