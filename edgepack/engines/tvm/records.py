"""The memory of tuning: one file for each target and processor, a JSON line for each kernel that was measured.

The first line says the format, TVM's version and the processor; what was measured for another one is refused. Lines
are added whole and only at the end, so that a killed process costs the line it was writing at most: a last line that
was cut short is left out, and cut off before the next is added. A later line replaces an earlier one of the same
kernel.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base import documents
from edgepack.base.files import sha256_file, sha256_json, storage_errors, sync_folder, write_text
from edgepack.engines.tvm.codegen.machine import Machine
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Workload
from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1
_MOST_BYTES = 256 << 20
_MOST_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Trial:
    """A tile that was measured: how many times the time of the rule's tile it took, in turns with it."""

    tile: Blocking
    ratio: float


@dataclass(frozen=True)
class Record:
    """What is known of one kernel on one processor.

    ``best`` is the tile that was faster than the rule's in nearly every round, or None where none was; ``rule_ns`` the
    shortest time of the rule's tile in nanoseconds a call; ``rounds`` how often it was measured; ``failed`` the tiles
    that could not be built; ``took_ns`` how long all this took. ``cpu`` and ``at``: on what, and when.
    """

    workload: Workload
    rule: Blocking
    rule_ns: float
    trials: tuple[Trial, ...]
    best: Blocking | None
    rounds: int
    failed: tuple[Blocking, ...] = ()
    took_ns: int = 0
    cpu: str = ""
    at: str = ""

    @property
    def ratio(self) -> float:
        """How many times the rule's time the tile takes that is used."""
        return next((trial.ratio for trial in self.trials if trial.tile == self.best), 1.0)


@dataclass
class Records:
    """The records of one processor, by workload; ``cut`` says whether the file's last line was not whole."""

    machine: Machine
    tvm: str
    path: Path
    by_workload: dict[Workload, Record] = field(default_factory=dict)
    cut: bool = False

    def add(self, record: Record) -> None:
        """Keep a record, also on disk. Raises ``StorageError``."""
        line = json.dumps(documents.encode(record), separators=(",", ":")) + "\n"
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            with os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file.fileno()).st_size == 0:
                    file.write(self._header())
                _to_whole_line(file)
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self.path.parent)
        self.by_workload[record.workload] = record

    def merge(self, other: Records) -> int:
        """Take over the other's records, the newer of two of one kernel; return how many were taken.

        Raises ``ConfigError`` when they are of another processor or TVM.
        """
        _refuse_other(other, self.machine, self.tvm)
        taken = 0
        for workload, record in other.by_workload.items():
            own = self.by_workload.get(workload)
            if own is None or record.at > own.at:
                self.add(record)
                taken += 1
        return taken

    def write(self, out: Path) -> None:
        """Write all records into one file, sorted, so that the same records give the same bytes."""
        lines = sorted(
            json.dumps(documents.encode(record), separators=(",", ":")) for record in self.by_workload.values()
        )
        write_text(out, self._header().decode() + "".join(line + "\n" for line in lines))

    def _header(self) -> bytes:
        head = {"edgepack_tuning": FORMAT, "tvm": self.tvm, "machine": _identity(self.machine)}
        return (json.dumps(head) + "\n").encode()


def _to_whole_line(file: Any) -> None:
    """Cut off what follows the last end of a line, and go there."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - _MOST_LINE_BYTES)
    file.seek(start)
    tail = file.read()
    whole = start + tail.rfind(b"\n") + 1
    file.truncate(whole)
    file.seek(whole)


def default_folder() -> Path:
    """Return ``$EDGEPACK_TUNING``, else ``edgepack/tuning`` in the user's cache folder."""
    if folder := os.environ.get("EDGEPACK_TUNING"):
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "tuning"


def path_of(target: str, machine: Machine, tvm: str) -> Path:
    """Return the file of a target: another processor under the same name, or another TVM, has another file."""
    digest = sha256_json({"machine": _identity(machine), "tvm": tvm})
    return default_folder() / f"{target}-{digest[:8]}.jsonl"


def digest_of(path: Path) -> str | None:
    """Return the sha256 of a file of records, None where there is none."""
    return sha256_file(path) if path.is_file() else None


def load_records(path: Path, machine: Machine, tvm: str) -> Records:
    """Return the records of a file, none where it is not there.

    Raises ``ConfigError`` when it is not such a file, of another version, of another processor, or damaged but for its
    last line.
    """
    records = Records(machine, tvm, path)
    if not path.exists():
        return records
    found = read_records(path)
    _refuse_other(found, machine, tvm)
    records.by_workload, records.cut = found.by_workload, found.cut
    return records


def _refuse_other(found: Records, machine: Machine, tvm: str) -> None:
    """Raise ``ConfigError`` for what was measured with another TVM or for another processor."""
    hint = "measure again: which tile is fastest depends on the processor and on the code that TVM makes"
    if found.tvm != tvm:
        raise ConfigError(f"{found.path} was measured with TVM {found.tvm}, and this is TVM {tvm}", hint=hint)
    if _identity(found.machine) != _identity(machine):
        raise ConfigError(
            f"{found.path} was measured for another processor: {_words(found.machine)}, not {_words(machine)}",
            hint=hint,
        )


def read_records(path: Path) -> Records:
    """Return a file of records for whatever processor it was measured. Raises ``ConfigError``."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _damaged(path, "is too large to be a file of tuning records")
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="give a readable file") from error
    head = _object(lines[0])
    if head is None or "edgepack_tuning" not in head:
        raise _damaged(path, "is not a file of tuning records")
    if head["edgepack_tuning"] != FORMAT:
        raise ConfigError(
            f"{path} has version {head['edgepack_tuning']!r} of the format; this edgepack reads version {FORMAT}",
            hint="remove the file and tune again, or use the edgepack that wrote it",
        )
    try:
        machine = documents.decode(Machine, head["machine"], f"{path}:1")
        tvm = documents.decode(str, head["tvm"], f"{path}:1")
    except (ConfigError, KeyError) as error:
        raise _damaged(path, "does not say for which processor it was measured") from error
    records = Records(machine, tvm, path, cut=bool(lines[-1]))
    for number, line in enumerate(lines[1:-1], 2):
        document = _object(line)
        try:
            if document is None:
                raise ConfigError("not JSON", hint="")
            record = documents.decode(Record, document, f"{path}:{number}")
            if not all(math.isfinite(v) and v > 0 for v in (record.rule_ns, *(t.ratio for t in record.trials))):
                raise ConfigError("an invalid time", hint="")
        except ConfigError as error:
            raise _damaged(path, f"is damaged at line {number}") from error
        records.by_workload[record.workload] = record
    return records


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = documents.read_json(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _damaged(path: Path, words: str) -> ConfigError:
    return ConfigError(f"{path} {words}", hint="remove it: it will be made again by 'edgepack tune --target'")


def _identity(machine: Machine) -> Any:
    return documents.encode(machine)


def _words(machine: Machine) -> str:
    flags = [flag for flag in machine.isa if flag.startswith(("avx", "asimd", "i8mm", "v"))]
    return f"{machine.arch} {' '.join(flags)}, {machine.threads} threads".replace("  ", " ")


def trials_of(records: Iterable[Record]) -> list[tuple[Workload, Blocking, float]]:
    """Return every measured tile with its nanoseconds a call, the rule's among them."""
    found = []
    for record in records:
        found.append((record.workload, record.rule, record.rule_ns))
        found += [(record.workload, trial.tile, record.rule_ns * trial.ratio) for trial in record.trials]
    return found
