"""Reads, checks and writes ``manifest.json``, the table of contents of a bundle."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from edgepack.base import documents
from edgepack.bundle.layout import MANIFEST, MEMBER_LIMIT, SIGNATURE, name_problem, names_problem
from edgepack.bundle.payloads import binding_problems
from edgepack.data.recipes import check_preprocessing
from edgepack.errors import BundleError, ConfigError, ToolchainError
from edgepack.specs.bundle import Manifest, Payload
from edgepack.specs.model import TensorSpec
from edgepack.specs.types import Part
from edgepack.tasks import check_task
from edgepack.verify.golden import GOLDEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edgepack.specs.bundle import FileEntry
    from edgepack.specs.data import Preprocessing
    from edgepack.specs.task import Task

T = TypeVar("T")

FORMAT = 1
SBOM = "sbom.cdx.json"
LAYERS = "layers.json"
TUNING = "tuning.json"
MODEL_FOLDER = "model/"
TASK_FOLDER = "task/"  # files that a task makes inputs with, as tokenizer.json
MANIFEST_LIMIT_BYTES = 4 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
SHA256 = re.compile(r"[0-9a-f]{64}")
_DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)
_MOST_VERSION = 200
_MOST_AXES, _MOST_VALUES = 64, 1 << 48  # numpy's axes, and more values than a machine addresses
UPGRADE = "pip install --upgrade edgepack"


def read_manifest(text: bytes, where: str) -> Manifest:
    """Return the manifest in ``text`` after checking all that can be checked without the other members.

    ``where`` names the bundle in errors. Raises ``BundleError``; for a newer format with the hint to upgrade.
    """
    manifest = read_listing(Manifest, text, where, MANIFEST, "bundle", FORMAT)
    check_manifest(manifest, where)
    return manifest


def read_listing(kind: type[T], text: bytes, where: str, name: str, of: str, newest: int) -> T:
    """Return the first member ``name`` of an archive as ``kind``; ``of`` is what the archive is called.

    It has a format up to ``newest`` and no text that would act on a terminal. Raises ``BundleError``.
    """
    try:
        data = documents.read_json(text)
    except ValueError as error:
        raise BundleError(f"{where}: {name} is not valid JSON: {error}") from None
    _check_format(data, where, name, of, newest)
    _check_strings(data, where, name)
    try:
        return documents.decode(kind, data, f"{where}: {name}")  # type: ignore[no-any-return]
    except ConfigError as error:
        raise BundleError(
            error.message[:400], hint=f"made by another version of edgepack, or damaged: {UPGRADE}"
        ) from None


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return ``manifest`` as the bytes of the member, checked first: what is written can be read."""
    text = documents.to_json(manifest).encode("utf-8", "surrogatepass")
    if len(text) > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"the manifest has {len(text)} bytes; at most {MANIFEST_LIMIT_BYTES} are read")
    read_manifest(text, manifest.name)
    return text


def check_name(name: str, what: str = "name", of: str = " of a bundle") -> None:
    """Refuse a bundle or target name that is not a plain file name. Raises ``ConfigError``."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:120]!r} is not a valid {what}{of}",
            hint="use A-Z a-z 0-9 . _ - and begin with a letter or digit",
        )


def check_version(version: str) -> None:
    """Refuse a bundle version with other characters than a version has. Raises ``ConfigError``."""
    if not _VERSION.fullmatch(version):
        raise ConfigError(f"{version[:120]!r} is not a valid version of a bundle", hint="write it like 1.0.0")


def check_manifest(manifest: Manifest, where: str) -> None:
    """Check what types cannot say. Raises ``BundleError`` naming the place."""
    for problem in _problems(manifest):
        raise BundleError(f"{where}: {MANIFEST}: {problem}", hint="build the bundle again")


def _check_format(data: Any, where: str, name: str, of: str, newest: int) -> None:
    found = data.get("format") if isinstance(data, dict) else None
    if type(found) is not int or found < 1:
        raise BundleError(f"{where}: {name} does not say which format it has")
    if found > newest:
        raise BundleError(f"{where} has {of} format {found}; this edgepack reads up to {newest}", hint=UPGRADE)


def _check_strings(data: Any, where: str, name: str) -> None:
    """Refuse text that would act on a terminal or cannot be printed: control characters and lone surrogates."""
    for text in _strings(data):
        if _UNPRINTABLE.search(text):
            raise BundleError(f"{where}: {name} holds text with control characters: {text[:60]!a}")


def _strings(data: Any) -> Iterator[str]:
    pending = [data]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            pending += item.keys()
            pending += item.values()
        elif isinstance(item, list):
            pending += item


def _problems(manifest: Manifest) -> Iterator[str]:
    if not _NAME.fullmatch(manifest.name):
        yield f"{manifest.name!r} is not a bundle's name"
    if not _VERSION.fullmatch(manifest.version):
        yield f"{manifest.version!r} is not a version"
    if not _NAME.fullmatch(manifest.target):
        yield f"{manifest.target!r} is not a target's id"
    for what, digest in (("source", manifest.source_sha256), ("calibration", manifest.calibration_sha256)):
        if digest is not None and not SHA256.fullmatch(digest):
            yield f"{what}_sha256 is not a sha256"
    for package, version in (*manifest.requirements.engine.items(), *manifest.toolchain.items()):
        if len(version) > _MOST_VERSION:
            yield f"the version of {package[:80]} has {len(version)} characters"
    yield from tensor_problems("inputs", manifest.inputs)
    yield from tensor_problems("outputs", manifest.outputs)
    yield from file_problems(manifest.files, (MANIFEST, SIGNATURE), (GOLDEN, SBOM))
    yield from _payload_problems(manifest.payloads, {entry.path for entry in manifest.files})
    yield from binding_problems(manifest)
    if any(count < 0 for count in manifest.layers.values()):
        yield "layers: a count is negative"
    yield from input_problems(manifest.preprocessing, manifest.task)
    if unknown := sorted(manifest.embedded.keys() - set(get_args(Part))):
        yield f"embedded: {unknown[0][:80]!r} is not {' or '.join(get_args(Part))}"


def input_problems(preprocessing: Preprocessing | None, task: Task | None) -> Iterator[str]:
    """Look at how inputs are made and answers read: what is written there is computed with on a device."""
    try:
        if preprocessing is not None:
            check_preprocessing(preprocessing, "preprocessing")
        if task is not None:
            check_task(task)
    except (ConfigError, ToolchainError) as error:  # the second: another package's task that cannot be imported
        yield error.message[:400]


def tensor_problems(what: str, tensors: tuple[TensorSpec, ...]) -> Iterator[str]:
    """Yield what is wrong with the tensors of a document: no names, types and sizes of arrays."""
    if not tensors:
        yield f"{what} is empty"
    if repeated := _repeated(tensor.name for tensor in tensors):
        yield f"{what}: {repeated!r} is listed twice"
    for tensor in tensors:
        if tensor.dtype not in _DTYPES:
            yield f"{what}: {tensor.name}: the dtype {tensor.dtype!r} is not one of numpy's numbers"
        if any(isinstance(size, int) and size < (what == "inputs") for size in tensor.shape):
            yield f"{what}: {tensor.name}: a dimension is negative or empty"
        if len(tensor.shape) > _MOST_AXES or math.prod(n for n in tensor.shape if isinstance(n, int)) > _MOST_VALUES:
            yield f"{what}: {tensor.name}: larger than any array"


def file_problems(files: tuple[FileEntry, ...], own: tuple[str, ...], needed: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with the list of an archive's members; those of ``own`` are not in it, ``needed`` are."""
    names = [entry.path for entry in files]
    if len(names) + len(own) > MEMBER_LIMIT:
        yield f"files: more than {MEMBER_LIMIT - len(own)}"
    for entry in files:
        if problem := name_problem(entry.path):
            yield f"files: {entry.path[:80]!r} {problem}"
        if entry.path in own:
            yield f"files: {entry.path!r} cannot list itself"
        if not SHA256.fullmatch(entry.sha256):
            yield f"files: {entry.path}: not a sha256"
        if entry.size_bytes < 0:
            yield f"files: {entry.path}: the size is negative"
    if problem := names_problem(names):
        yield f"files: {problem}"
    for name in needed:
        if name not in names:
            yield f"files: {name} is missing"


def _payload_problems(payloads: tuple[Payload, ...], files: set[str]) -> Iterator[str]:
    if not payloads:
        yield "payloads is empty"
    for payload in payloads:
        if not _NAME.fullmatch(payload.backend):
            yield f"payloads: {payload.backend[:80]!r} is not a backend's name"
        if repeated := _repeated(payload.files):
            yield f"payloads: {payload.backend}: {repeated[:80]!r} is listed twice"
        if payload.entry not in payload.files:
            yield f"payloads: the entry {payload.entry[:80]!r} is not one of its files"
        for name in payload.files:
            if not name.startswith(MODEL_FOLDER) or name not in files:
                yield f"payloads: {name[:80]!r} is not one of the files in {MODEL_FOLDER}"
    used = {name for payload in payloads for name in payload.files}
    others = {name for name in files - used if not name.startswith(TASK_FOLDER)}
    if unused := sorted(name for name in others if name not in (GOLDEN, SBOM, LAYERS, TUNING)):
        yield f"files: {unused[0][:80]!r} belongs to no payload"


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
