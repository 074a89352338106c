"""What ``edgepack tune`` found on devices: read and checked, chosen by the device's key, written beside the bundle.

A tuning belongs to a device, and a bundle goes to many, so a bundle's digest and signature do not cover it: it
is in ``NAME.edgepack.tuning.json`` beside ``NAME.edgepack``, with one entry for each device and scenario. It
holds the digest of the payload's files, so that it is never taken for another model's. ``tune --into`` writes a copy of
the bundle that carries the same document as its member ``tuning.json``; what stands beside a bundle goes before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgepack.base import documents
from edgepack.base.files import read_regular, scratch_folder, sha256_json, write_text
from edgepack.base.run_options import out_of_bounds
from edgepack.bundle.archive import (
    Bundle,
    Source,
    copy_member,
    file_entry,
    measure,
    open_checked,
    read_member,
    write_archive,
)
from edgepack.bundle.manifest import TUNING, manifest_bytes
from edgepack.errors import BundleError, ConfigError, StorageError
from edgepack.specs.bundle import FileEntry, Manifest, Payload
from edgepack.specs.result import Tuned
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Host

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 1
SUFFIX = ".tuning.json"
LIMIT_BYTES = 4 << 20
TunedFor = Literal["SingleStream", "Offline"]
_MOST_BATCH = 65_536
_HINT = "tune again with 'edgepack tune BUNDLE', or remove the file"


@dataclass(frozen=True)
class TuningTrial:
    """One way of running that was tried: its time over the default's, with how many ``rounds`` of both in turn.

    ``ratio`` is None where it could not be run, which ``reason`` says.
    """

    changes: str
    ratio: float | None
    rounds: int
    reason: str | None = None


@dataclass(frozen=True)
class Tuning:
    """The best options found on one device for one scenario, and how they were found.

    ``options`` and ``batch`` are the engine's defaults unless the search found something whose interval of the ratio
    (its time over the default's, a sample) excludes 1: then ``verdict`` is "faster". ``device`` are the facts that make
    the key. ``default_ns`` and ``tuned_ns`` are medians a sample of the last comparison.
    """

    device: Mapping[str, str]
    scenario: TunedFor
    options: RunOptions
    batch: int
    verdict: Literal["faster", "default"]
    ratio: float
    ci95: tuple[float, float]
    default_ns: int
    tuned_ns: int
    trials: tuple[TuningTrial, ...]
    seed: int
    budget_ns: int
    took_ns: int
    tuned_at: str
    valid: bool
    invalid_reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tunings:
    """The document: tunings by ``key_of``; ``payload_sha256`` is that of the files which the engine loads."""

    payload_sha256: str
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    format: int = FORMAT


def device_facts(host: Host, payload: Payload, device: str, versions: Mapping[str, str]) -> dict[str, str]:
    """Return what must be the same for a tuning to hold: CPU, instruction set, cores, engine and its version."""
    return {
        "cpu": host.cpu,
        "arch": host.arch,
        "isa": " ".join(host.isa),
        "cores": str(host.cores),
        "engine": payload.backend,
        "device": device,
        **{f"version {name}": version for name, version in sorted(versions.items())},
    }


def key_of(facts: Mapping[str, str], scenario: TunedFor) -> str:
    """Return the key of a tuning: the scenario and 16 digits of the facts' digest."""
    return f"{scenario}-{sha256_json(dict(facts))[:16]}"


def tuned_for(scenario: str) -> TunedFor:
    """Return which tuning serves a scenario: throughput for Offline, latency for the others."""
    return "Offline" if scenario == "Offline" else "SingleStream"


def payload_sha256(manifest: Manifest, payload: Payload) -> str:
    """Return the digest of a payload's files: the same model packed again has the same."""
    known = {entry.path: entry for entry in manifest.files}
    return sha256_json([[known[name].sha256, known[name].size_bytes] for name in payload.files])


def path_beside(bundle: Path) -> Path:
    """Return where the tunings of a bundle stand."""
    return bundle.with_name(bundle.name + SUFFIX)


def find_tuning(
    bundle: Bundle, payload: Payload, facts: Mapping[str, str], scenario: str = "SingleStream"
) -> Tuning | None:
    """Return the tuning for this device; None when there is none.

    Raises ``ConfigError`` when the file beside the bundle is damaged, ``BundleError`` for the member.
    """
    wanted = tuned_for(scenario)
    for found in _documents(bundle):
        tuning = found.tunings.get(key_of(facts, wanted))
        if tuning is not None and found.payload_sha256 == payload_sha256(bundle.manifest, payload):
            return tuning
    return None


def about(tuning: Tuning) -> Tuned:
    """Return what a result says of the tuning whose options it was measured with."""
    key = key_of(tuning.device, tuning.scenario)
    return Tuned(key, tuning.scenario, tuning.ratio, tuning.ci95, tuning.tuned_at, tuning.seed)


def with_tuning(bundle: Bundle, payload: Payload, tuning: Tuning) -> Tunings:
    """Return the document with all that is known of a bundle's payload, and the tuning."""
    digest = payload_sha256(bundle.manifest, payload)
    known: dict[str, Tuning] = {}
    for found in reversed(list(_documents(bundle))):
        if found.payload_sha256 == digest:
            known |= found.tunings
    return Tunings(digest, {**known, key_of(tuning.device, tuning.scenario): tuning})


def write_beside(bundle: Path, tunings: Tunings) -> Path:
    """Write the document beside the bundle, whole or not at all. Raises ``StorageError`` where that is not allowed."""
    path = path_beside(bundle)
    write_text(path, documents.to_json(tunings))
    return path


def write_into(bundle: Bundle, tunings: Tunings, out: Path) -> Path:
    """Write a copy of the bundle with the document as a member; its digest is another, and it is not signed.

    The device's hash check covers the member as it does every other. Raises ``StorageError``.
    """
    with scratch_folder() as folder:
        sources: dict[str, Source] = {}
        with open_checked(bundle.path) as (file, opened):
            for entry in opened.manifest.files:
                if entry.path != TUNING:
                    path = folder / str(len(sources))
                    with path.open("wb") as copy:
                        copy_member(opened, entry.path, file, copy)
                    sources[entry.path] = measure(path)
        path = folder / TUNING
        path.write_text(documents.to_json(tunings), encoding="utf-8")
        sources[TUNING] = measure(path)
        files = tuple(FileEntry(name, sources[name].sha256, sources[name].size_bytes) for name in sorted(sources))
        write_archive(out, manifest_bytes(dataclasses.replace(bundle.manifest, files=files)), sources)
    return out


def _documents(bundle: Bundle) -> Iterator[Tunings]:
    """Yield what stands beside the bundle, then what it holds."""
    path = path_beside(bundle.path)
    if path.is_file():
        yield read_tunings(_text_of(path), str(path))
    if TUNING in bundle.members:
        where = f"{bundle.path}: {TUNING}"
        if file_entry(bundle, TUNING).size_bytes > LIMIT_BYTES:
            raise BundleError(f"{where} is too large")
        try:
            yield read_tunings(read_member(bundle, TUNING), where)
        except ConfigError as error:
            raise BundleError(error.message, hint="build the bundle again") from None


def _text_of(path: Path) -> bytes:
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise ConfigError(f"{path} has more than {LIMIT_BYTES} bytes: not a tuning file", hint=_HINT)
        return read_regular(path, LIMIT_BYTES)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", hint="make it readable, or remove it") from None


def read_tunings(text: bytes, where: str) -> Tunings:
    """Return the document in ``text``; options that no tuning would hold are refused. Raises ``ConfigError``."""
    with contextlib.suppress(ValueError):
        data = documents.read_json(text)
        if isinstance(data, dict) and isinstance(data.get("format"), int) and data["format"] > FORMAT:
            raise ConfigError(
                f"{where} has tuning format {data['format']}; this edgepack reads up to {FORMAT}",
                hint="pip install --upgrade edgepack, or tune again",
            )
    try:
        found = documents.from_json(Tunings, text, where)
    except (ConfigError, RecursionError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} cannot be read: {str(error)[:300]}", hint=_HINT) from None
    for key, tuning in found.tunings.items():
        problems = _problems(key, tuning)
        if problems:
            raise ConfigError(f"{where}: {key[:60]}: {problems[0]}", hint=_HINT)
    return found


def _problems(key: str, tuning: Tuning) -> Sequence[str]:
    options = tuning.options
    problems = list(out_of_bounds(options))
    if not 1 <= tuning.batch <= _MOST_BATCH:
        problems.append(f"{tuning.batch} batch is out of range")
    if options.device is not None:
        problems.append("a tuning does not choose another device")
    if key != key_of(tuning.device, tuning.scenario):
        problems.append("the key is not that of its device")
    if tuning.batch != 1 and tuning.scenario != "Offline":
        problems.append("a batch is for Offline")
    if not 0 < tuning.ci95[0] <= tuning.ratio <= tuning.ci95[1]:
        problems.append("the ratio is not in its interval")
    if tuning.verdict == "default" and options != RunOptions():
        problems.append("it says that the defaults are best, and has others")
    return problems
