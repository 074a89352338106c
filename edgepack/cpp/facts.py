"""``facts.h``: what the C++ loader takes from edgepack's own modules, so that every fact has one place.

Limits, names, error kinds, engines, the tolerance policy, and the types of documents, made from the dataclasses.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import edgepack
from edgepack import errors
from edgepack.base import documents
from edgepack.bundle import archive, layout, manifest
from edgepack.data import recipes
from edgepack.device.host import FLAGS
from edgepack.engines import ENGINES, REFERENCE, Engine
from edgepack.engines.common.refusals import OTHER_FILES
from edgepack.graph import captured, wire
from edgepack.runtime.load import ID_DIGITS, RECORD
from edgepack.runtime.native import DeviceSettings
from edgepack.specs.bundle import Manifest
from edgepack.specs.types import Precision
from edgepack.tasks import TASKS
from edgepack.trust import chain, envelope, root, statement
from edgepack.trust.keyless import bundle as keyless
from edgepack.trust.keyless import trusted_root
from edgepack.trust.policy import CLOCKS_DIFFER, MOST_AGE_DAYS, Policy
from edgepack.verify import golden, tolerance

# The statuses of edgepack.h, in their order, which is promised; each is a class of errors.py.
STATUSES: tuple[type[errors.EdgepackError], ...] = (
    errors.EdgepackError,
    errors.ConfigError,
    errors.DataError,
    errors.BundleError,
    errors.ToolchainError,
    errors.CompileError,
    errors.VerificationError,
    errors.IntegrityError,
    errors.TrustError,
    errors.StorageError,
)
# Numbers of edgepack_dtype, in its order: name, bytes, and the letter of numpy's kind.
DTYPES = (
    ("bool", 1, "b"), ("int8", 1, "i"), ("int16", 2, "i"), ("int32", 4, "i"), ("int64", 8, "i"), ("uint8", 1, "u"),
    ("uint16", 2, "u"), ("uint32", 4, "u"), ("uint64", 8, "u"), ("float16", 2, "f"), ("float32", 4, "f"),
    ("float64", 8, "f"),
)  # fmt: skip
_HEAD = """\
// Made by edgepack/cpp/facts.py from edgepack's own modules: change those.

#ifndef EDGEPACK_FACTS_H_
#define EDGEPACK_FACTS_H_

#include <string_view>

#include "schema.h"

namespace edgepack::facts {

struct Kind {
  const char* name;
  int exit_code;
  const char* hint;
};
struct Dtype {
  const char* name;
  size_t bytes;
  char kind;
};
struct Engine {
  const char *name, *title, *portable, *install;
  bool self_contained, built_on_device, fixes_batch;
};
struct OnnxField {
  const char* message;
  uint64_t number;
  const char* holds;
};
struct Tolerance {
  const char* precision;
  double sqnr_db, max_abs, mismatch, zero_within;
};

"""
_TAIL = """
inline const Engine* engine_of(std::string_view name) {
  for (const Engine& engine : kEngines)
    if (name == engine.name) return &engine;
  return nullptr;
}
inline int dtype_of(std::string_view name) {
  int place = 0;
  for (const Dtype& dtype : kDtypes) {
    if (name == dtype.name) return place;
    ++place;
  }
  return -1;
}
inline bool is_dtype(std::string_view name) { return dtype_of(name) >= 0; }
inline bool is_task(std::string_view name) {
  for (const char* task : kTasks)
    if (name == task) return true;
  return false;
}

}  // namespace edgepack::facts

#endif  // EDGEPACK_FACTS_H_
"""


def facts_header() -> str:
    """Return the text of ``facts.h``; the same edgepack gives the same text."""
    made = _Types()
    for name, kind in _DOCUMENTS.items():
        made.add_named(name, kind)
    return _HEAD + "".join(f"{line}\n" for line in (*_constants(), *_tables(), *made.lines)) + _TAIL


_DOCUMENTS: Mapping[str, Any] = {
    "kManifestType": Manifest,
    "kSettingsType": DeviceSettings,
    "kPolicyType": Policy,
    "kTolerancesType": golden.Tolerances,
    "kEnvelopeType": envelope.SigstoreBundle,
    "kKeylessType": keyless.KeylessDocument,
    "kSignedType": statement.Signed,
    "kRootType": root.SignedRoot,
}


def _constants() -> Iterator[str]:
    texts = {
        "kVersion": edgepack.__version__,
        "kManifest": layout.MANIFEST,
        "kSignature": layout.SIGNATURE,
        "kGolden": golden.GOLDEN,
        "kSbom": manifest.SBOM,
        "kLayers": manifest.LAYERS,
        "kTuning": manifest.TUNING,
        "kModelFolder": manifest.MODEL_FOLDER,
        "kTaskFolder": manifest.TASK_FOLDER,
        "kUpgrade": manifest.UPGRADE,
        "kReference": REFERENCE,
        "kDequantize": captured.DEQUANTIZE,
        "kOtherFiles": OTHER_FILES,
        "kMediaType": envelope.MEDIA_TYPE,
        "kPayloadType": envelope.PAYLOAD_TYPE,
        "kStatementType": statement.STATEMENT_TYPE,
        "kPredicateType": statement.PREDICATE_TYPE,
        "kRecord": RECORD,
        "kRootRole": root.ROOT,
        "kBundlesRole": root.BUNDLES,
        "kRootKeyType": root.KEY_TYPE,
        "kRootScheme": root.SCHEME,
    }
    numbers = {
        "kFormat": manifest.FORMAT,
        "kAlignmentBytes": layout.ALIGNMENT_BYTES,
        "kMemberLimit": layout.MEMBER_LIMIT,
        "kDirectoryLimitBytes": layout.DIRECTORY_LIMIT_BYTES,
        "kManifestLimitBytes": manifest.MANIFEST_LIMIT_BYTES,
        "kSignatureLimitBytes": archive.SIGNATURE_LIMIT_BYTES,
        "kJsonLimitBytes": documents.JSON_LIMIT_BYTES,
        "kMostDepth": documents.MOST_DEPTH,
        "kMostEntries": documents.MOST_ENTRIES,
        "kMostPixelsASide": recipes.MOST_PIXELS_A_SIDE,
        "kMostPad": recipes.MOST_PAD,
        "kMostAtOnce": golden.MOST_AT_ONCE,
        "kMostSignatures": envelope.MOST_SIGNATURES,
        "kMostHashes": keyless.MOST_HASHES,
        "kMostTimestamps": keyless.MOST_TIMESTAMPS,
        "kMostLineBytes": keyless.MOST_LINE_BYTES,
        "kTrustedRootLimitBytes": trusted_root.LIMIT_BYTES,
        "kMostCertificates": chain.MOST,
        "kMostAuthorityBytes": chain.MOST_BYTES,
        "kMostChainDepth": chain.MOST_DEPTH,
        "kMostRootKeys": root.MOST_KEYS,
        "kRootLimitBytes": root.LIMIT_BYTES,
        "kIdDigits": ID_DIGITS,
        "kMostLevels": wire.MOST_LEVELS,
        "kMostAgeDays": MOST_AGE_DAYS,
        "kClocksDifferS": int(CLOCKS_DIFFER.total_seconds()),
    }
    yield from (f"inline constexpr char {name}[] = {_text(value)};" for name, value in texts.items())
    yield from (f"inline constexpr uint64_t {name} = {value};" for name, value in numbers.items())
    yield f"inline constexpr double kMostOfFew = {tolerance.MOST_OF_FEW!r};"
    yield f"inline constexpr double kHighestSqnrDb = {tolerance.HIGHEST_SQNR_DB!r};"
    yield f"inline constexpr double kSteps = {float(tolerance.STEPS)!r};"
    yield f"inline constexpr double kRounded = {tolerance.ROUNDED!r};"


def _tables() -> Iterator[str]:
    yield _table("Kind", "kKinds", (_row(k.__name__, k.exit_code, _hint(k)) for k in STATUSES))
    yield _table("Dtype", "kDtypes", (f"{{{_text(n)}, {size}, '{kind}'}}" for n, size, kind in DTYPES))
    yield _table("Engine", "kEngines", (_engine(name, ENGINES.get(name)) for name in ENGINES.own))
    widest = ((p, tolerance.widest(p)) for p in typing.get_args(Precision))
    yield _table(
        "Tolerance", "kTolerances", (_row(p, w.sqnr_db, w.max_abs, w.mismatch, w.zero_within) for p, w in widest)
    )
    fields = (_row(kind, number, holds) for kind, inside in wire.MESSAGES.items() for number, holds in inside.items())
    yield _table("OnnxField", "kOnnxFields", fields)
    yield _table("const char* const", "kBranches", map(_text, captured.BRANCHES))
    yield _table("const char* const", "kLeftOut", map(_text, captured.LEFT_OUT))
    yield _table("const char* const", "kTasks", map(_text, TASKS.own))
    yield _table("const char* const", "kFlags", map(_text, sorted(FLAGS)))
    ranges = (f"{{{low:#x}, {high:#x}}}" for low, high in _unprintable())
    yield f"inline constexpr uint32_t kUnprintable[][2] = {{{', '.join(ranges)}}};"


def _hint(kind: type[errors.EdgepackError]) -> str:
    return kind.default_hint if kind is not errors.EdgepackError else "see edgepack's documentation"


def _engine(name: str, engine: Engine) -> str:
    assert len(engine.portable) <= 1
    install = engine.install_command if engine.extra or engine.install else "see edgepack's documentation"
    portable = "".join(engine.portable)
    return _row(
        name, engine.title, portable, install, engine.self_contained, engine.built_on_device, engine.fixes_batch
    )


def _unprintable() -> Iterator[tuple[int, int]]:
    """Yield the first and last character of each range that Python's ``repr`` writes as escapes."""
    begin = None
    for number in range(sys.maxunicode + 2):
        escaped = number <= sys.maxunicode and not chr(number).isprintable()
        if escaped and begin is None:
            begin = number
        elif not escaped and begin is not None:
            yield begin, number - 1
            begin = None


def _table(kind: str, name: str, rows: typing.Iterable[str]) -> str:
    return f"inline constexpr {kind} {name}[] = {{{', '.join(rows)}}};"


def _row(*values: object) -> str:
    return f"{{{', '.join(map(_literal, values))}}}"


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    assert value.isascii()
    assert value.isprintable()
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Types:
    """Definitions of types, each after those it refers to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: dict[Any, str] = {}

    def add_named(self, name: str, kind: Any) -> None:
        self.lines.append(f"inline constexpr const Type& {name} = {self._add(kind)};")

    def _add(self, kind: Any) -> str:
        if kind not in self._names:
            definition = self._definition(kind)
            name = f"kType{len(self._names)}"
            self.lines.append(f"inline constexpr Type {name} = {definition};")
            self._names[kind] = name
        return self._names[kind]

    def _definition(self, kind: Any) -> str:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return _type("kAny")
        if dataclasses.is_dataclass(kind):
            return self._record(kind)
        if origin is typing.Literal:
            return _type(
                "kLiteral", words=self._array("const char* const", map(_text, arguments)), words_n=len(arguments)
            )
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments)
        if origin is tuple and arguments[1:] == (Ellipsis,):
            return self._parts("kList", arguments[:1])
        if origin is tuple:
            return self._parts("kTuple", arguments)
        if origin is not None and issubclass(origin, Mapping):
            return self._parts("kTable", arguments[1:])
        return _type({int: "kInteger", bool: "kBool", str: "kText", float: "kFloat"}[kind])

    def _record(self, kind: Any) -> str:
        hints, missing = typing.get_type_hints(kind), dataclasses.MISSING
        fields = [
            f"{{{_text(f.name)}, &{self._add(hints[f.name])}, "
            f"{_literal(f.default is missing and f.default_factory is missing)}}}"
            for f in dataclasses.fields(kind)
        ]
        return _type("kRecord", fields=self._array("Field", fields), fields_n=len(fields))

    def _union(self, arguments: tuple[Any, ...]) -> str:
        kinds = tuple(kind for kind in arguments if kind is not type(None))
        expected = " or ".join(dict.fromkeys(documents.kind_words(kind) for kind in kinds))
        return self._parts("kUnion", kinds, optional=len(kinds) < len(arguments), expected=expected)

    def _parts(self, kind: str, parts: tuple[Any, ...], *, optional: bool = False, expected: str = "") -> str:
        names = [f"&{self._add(part)}" for part in parts]
        array = self._array("const Type* const", names)
        return _type(kind, optional=optional, expected=expected, parts=array, parts_n=len(names))

    def _array(self, kind: str, rows: typing.Iterable[str]) -> str:
        name = f"kArray{len(self.lines)}"
        self.lines.append(_table(kind, name, rows))
        return name


def _type(
    kind: str, *, optional: bool = False, expected: str = "", parts: str = "nullptr", parts_n: int = 0,
    fields: str = "nullptr", fields_n: int = 0, words: str = "nullptr", words_n: int = 0,
) -> str:  # fmt: skip
    head = f"Type::{kind}, {_literal(optional)}, {_text(expected)}"
    return f"{{{head}, {parts}, {parts_n}, {fields}, {fields_n}, {words}, {words_n}}}"
