"""One table of hostile bundles: what every loader must refuse, Python's and the C++ one, with the same words.

Each row makes a bundle of the members of a good one, and says the kind of error and words that must be in its message.
"""

from __future__ import annotations

import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fuzz_damage import assemble

from edgepack.errors import BundleError, EdgepackError, IntegrityError

Members = dict[str, bytes]
MANIFEST, GOLDEN, MODEL, SBOM = "manifest.json", "golden.npz", "model/onnxruntime/model.onnx", "sbom.cdx.json"


@dataclass(frozen=True)
class Case:
    """``make`` gets the members of a good bundle, and returns the bytes of a bad one."""

    name: str
    kind: type[EdgepackError]
    words: str
    make: Callable[[Members], bytes]


def zip_of(members: Members, method: int = zipfile.ZIP_STORED, mode: int = 0o644, comment: bytes = b"") -> bytes:
    """Return members as another tool zips them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = method
            archive.writestr(info, data)
        archive.comment = comment
    return buffer.getvalue()


def with_manifest(members: Members, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return the bundle with a changed manifest, its archive made anew."""
    manifest = json.loads(members[MANIFEST])
    change(manifest)
    return assemble({**members, MANIFEST: json.dumps(manifest).encode()})


def _patched(place: Callable[[bytearray], int], form: str, value: int) -> Callable[[Members], bytes]:
    def make(members: Members) -> bytes:
        data = bytearray(assemble(members))
        struct.pack_into(form, data, place(data), value)
        return bytes(data)

    return make


def _set(*path_and_value: Any) -> Callable[[Members], bytes]:
    """Return what puts a value at a path of the manifest."""
    *path, key, value = path_and_value

    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for step in path:
            place = place[step]
        place[key] = value

    return lambda members: with_manifest(members, change)


def _drop(key: str) -> Callable[[Members], bytes]:
    return lambda members: with_manifest(members, lambda manifest: manifest.pop(key))


def _text(text: bytes) -> Callable[[Members], bytes]:
    return lambda members: assemble({**members, MANIFEST: text})


def _twice(members: Members) -> bytes:
    data = zip_of(members)
    count, size, place = struct.unpack_from("<HII", data, len(data) - 12)
    second = data.index(b"PK\1\2", place + 4)
    end = bytearray(data[-22:])
    struct.pack_into("<HHI", end, 8, count + 1, count + 1, size + second - place)
    return data[:second] + data[place:second] + data[second:-22] + bytes(end)


def _files(**entry: Any) -> Callable[[Members], bytes]:
    added = {"path": "model/x", "sha256": "0" * 64, "size_bytes": 1, **entry}
    return lambda members: with_manifest(members, lambda manifest: manifest["files"].append(added))


def _last(data: bytearray) -> int:
    return data.rindex(b"PK\1\2")


def _preprocessing(**settings: Any) -> Callable[[Members], bytes]:
    return _set("preprocessing", settings)


def _native(members: Members) -> bytes:
    def change(manifest: dict[str, Any]) -> None:
        (payload,) = manifest["payloads"]
        manifest["payloads"] = [payload, {**payload, "backend": "tvm"}]

    return with_manifest(members, change)


CASES = (
    # other files
    Case("empty", BundleError, "is empty", lambda _: b""),
    Case("two bytes", BundleError, "is not a zip archive", lambda _: b"PK"),
    Case("text", BundleError, "is not a zip archive", lambda _: b"hello world" * 100),
    Case("an ELF file", BundleError, "is not a zip archive", lambda _: b"\x7fELF" + bytes(1000)),
    Case("a cut head", BundleError, "is cut off", lambda _: b"PK\3\4" + bytes(100)),
    Case(
        "an end alone",
        BundleError,
        "has data before the archive, or is damaged at its start",
        lambda _: b"PK\5\6" + bytes(18),
    ),
    Case("cut in half", BundleError, "is cut off", lambda m: assemble(m)[: len(assemble(m)) // 2]),
    # zip archives that are no bundles
    Case("zipped by another tool", BundleError, "has a local header of 'manifest.json' that disagrees", zip_of),
    Case(
        "compressed",
        BundleError,
        "holds the compressed member 'manifest.json'",
        lambda m: zip_of(m, zipfile.ZIP_DEFLATED),
    ),
    Case("links", BundleError, "which is a link or a special file", lambda m: zip_of(m, mode=stat.S_IFLNK | 0o777)),
    Case("a comment", BundleError, "has data after the archive", lambda m: zip_of(m, comment=b"hi")),
    Case("twice", BundleError, "is ambiguous: 'manifest.json' is listed twice", _twice),
    Case(
        "case",
        BundleError,
        "'golden.npz' and 'GOLDEN.npz' differ only in case",
        lambda m: zip_of({**m, "GOLDEN.npz": b""}),
    ),
    Case("file and folder", BundleError, "'model' is a file and the folder of", lambda m: zip_of({**m, "model": b""})),
    Case(
        "no manifest",
        BundleError,
        "has no manifest.json",
        lambda m: assemble({k: v for k, v in m.items() if k != MANIFEST}),
    ),
    Case(
        "manifest late",
        BundleError,
        "does not have manifest.json first",
        lambda m: zip_of({**{k: v for k, v in m.items() if k != MANIFEST}, MANIFEST: m[MANIFEST]}),
    ),
    Case(
        "many members",
        BundleError,
        "lists more than the 4096 members",
        lambda _: zip_of({MANIFEST: b"{}", **{f"m{i:05}": b"" for i in range(4200)}}),
    ),
    *(
        Case(f"the name {name!r}", BundleError, words, lambda m, name=name: zip_of({**m, name: b"x"}))  # type: ignore[misc]
        for name, words in (
            ("../evil", "leads out of the bundle"),
            ("/etc/cron.d/evil", "is an absolute path"),
            ("model\\evil", "holds a backslash"),
            ("model/../../evil", "leads out of the bundle"),
            ("C:/evil", "is an absolute path"),
            ("a\nb", "holds characters other than"),
            ("\u00fcber", "holds characters other than"),
            (".hidden", "starts with a dot"),
            ("a//b", "holds characters other than"),
            ("n" * 256, "is longer than 255 characters"),
            ("caf\u200b", "holds characters other than"),
            ("it's", "holds characters other than"),
        )
    ),
    # one byte of the structures
    Case("encrypted", BundleError, "holds the encrypted member", _patched(lambda d: _last(d) + 8, "<H", 1)),
    Case("a bomb", BundleError, "compressed member", _patched(lambda d: _last(d) + 24, "<I", 1 << 31)),
    Case("a method", BundleError, "compressed member", _patched(lambda d: _last(d) + 10, "<H", 8)),
    Case("overlapping", BundleError, "overlapping a neighbour", _patched(lambda d: _last(d) + 42, "<I", 0)),
    Case(
        "local size",
        BundleError,
        "local header of 'golden.npz' that disagrees",
        _patched(lambda d: d.index(b"PK\3\4", 4) + 18, "<I", 7),
    ),
    Case(
        "padding", BundleError, "local header of 'manifest.json' that disagrees", _patched(lambda _: 10_000, "<B", 65)
    ),
    Case(
        "an attribute",
        BundleError,
        "has a directory that edgepack did not write",
        _patched(lambda d: _last(d) + 36, "<H", 1),
    ),
    Case("a name's length", BundleError, "has a damaged directory", _patched(lambda d: _last(d) + 28, "<H", 60_000)),
    Case("the count", BundleError, "has a damaged directory", _patched(lambda d: len(d) - 12, "<H", 9)),
    Case(
        "the directory's place", BundleError, "does not fit into it", _patched(lambda d: len(d) - 6, "<I", 0xFFFFFFF0)
    ),
    Case("64 bits", BundleError, "is damaged at its end", _patched(lambda d: len(d) - 6, "<I", 0xFFFFFFFF)),
    Case("before", BundleError, "has data before the archive", lambda m: b"#!/bin/sh\n" + assemble(m)),
    Case("after", BundleError, "has data after the archive", lambda m: assemble(m) + b"more"),
    Case("two archives", BundleError, "has data before the archive or between its parts", lambda m: assemble(m) * 2),
    # contents
    Case(
        "not listed",
        IntegrityError,
        "holds 'model/evil', which its manifest does not list",
        lambda m: assemble({**m, "model/evil": b"x"}),
    ),
    Case(
        "missing",
        IntegrityError,
        "lacks 'sbom.cdx.json'",
        lambda m: assemble({k: v for k, v in m.items() if k != SBOM}),
    ),
    Case("longer", IntegrityError, "bytes, its manifest says", lambda m: assemble({**m, SBOM: m[SBOM] + b" "})),
    Case(
        "a changed model",
        IntegrityError,
        f"the contents of '{MODEL}' do not match",
        lambda m: assemble({**m, MODEL: m[MODEL][:-1] + bytes([m[MODEL][-1] ^ 1])}),
    ),
    Case(
        "a changed manifest",
        IntegrityError,
        "the contents of 'manifest.json' do not match",
        lambda m: assemble(m).replace(b'"name": "small"', b'"name": "smalL"'),
    ),
    Case(
        "a large manifest",
        BundleError,
        "at most 4194304 are read",
        lambda m: assemble({**m, MANIFEST: m[MANIFEST] + b" " * 5_000_000}),
    ),
    Case(
        "a large signature",
        BundleError,
        "at most 1048576 are read",
        lambda m: assemble({**m, "signature.dsse.json": bytes(2_000_000)}),
    ),
    # JSON
    *(
        Case(f"the manifest {text[:30]!r}", BundleError, words, _text(text))
        for text, words in (
            (b"", "Expecting value: line 1 column 1 (char 0)"),
            (b"{", "Expecting property name enclosed in double quotes"),
            (b'{"a" 1}', "Expecting ':' delimiter: line 1 column 6 (char 5)"),
            (b'{"a": 1 "b": 2}', "Expecting ',' delimiter"),
            (b"[1, 2", "Expecting ',' delimiter: line 1 column 6 (char 5)"),
            (b'{"a":\n  tru}', "Expecting value: line 2 column 3 (char 8)"),
            (b"null", "does not say which format it has"),
            (b"[]", "does not say which format it has"),
            (b"{} x", "Extra data"),
            (b'{"a": "b', "Unterminated string starting at: line 1 column 7 (char 6)"),
            (b'"\x01"', "Invalid control character at"),
            (b'"\\x"', "Invalid \\escape: line 1 column 2 (char 1)"),
            (b'"\\u12g4"', "Invalid \\uXXXX escape"),
            (b'"\\u12', "Invalid \\uXXXX escape"),
            (b"\xff\xfe", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
            (b'"\xe2\x82"', "can't decode bytes in position 1-2: invalid continuation byte"),
            (b'"\xc3\xa9\xed\xa0\x80"', "can't decode byte 0xed in position 3: invalid continuation byte"),
            (b'"\xf0\x9f', "can't decode bytes in position 1-2: unexpected end of data"),
            (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
            (b'{"format": 1, "format": 1}', "a table has the same key twice"),
            (b"[" * 100_000, "it is more than 64 levels deep"),
            (b"[" * 70 + b"]" * 70, "it is more than 64 levels deep"),
            (b'{"a":' * 300 + b"1" + b"}" * 300, "it is more than 64 levels deep"),
            (b'{"format": 18446744073709551616}', "a whole number has more than 64 bits"),
            (b"[-9223372036854775809]", "more than 64 bits"),
            (b"[NaN]", "NaN is not a number that a document may hold"),
            (b"[-Infinity]", "-Infinity is not a number"),
            (b"[1e999]", "1e999 is not a number"),
            (b"[01]", "Expecting ',' delimiter"),
            (b"[-]", "Expecting value"),
            (b"[1.]", "Expecting ',' delimiter"),
            (b"[+1]", "Expecting value"),
            (b'{"format": true}', "does not say which format it has"),
            (b'{"format": 0}', "does not say"),
            (b'{"format": -1}', "does not say"),
            (b'{"format": 1.0}', "does not say"),
            (b'{"format": 2, "x": "\\u001b"}', "has bundle format 2; this edgepack reads up to 1"),
            (b'{"format": 1, "name": "\\u001b[31m"}', "holds text with control characters: '\\x1b[31m'"),
            (b'{"format": 1, "n\\u0085": 1}', "holds text with control characters: 'n\\x85'"),
            (b'{"format": 1, "name": "\\ud800"}', "holds text with control characters: '\\ud800'"),
            (b'{"format": 1}', "the key 'name' is missing"),
            (b'{"format": 1, "nmae": 2}', "unknown key 'nmae'"),
        )
    ),
    # types and what they cannot say
    Case("a number for a name", BundleError, "manifest.json: name: expected text, found 3", _set("name", 3)),
    Case(
        "a list for a name",
        BundleError,
        "expected text, found [1, 'a', None, True, {'k': 1.5}]",
        _set("name", [1, "a", None, True, {"k": 1.5}]),
    ),
    Case("a long value", BundleError, "...", _set("name", ["x" * 40] * 40)),
    Case("a float", BundleError, "found 1e+16", _set("name", 1e16)),
    Case(
        "small floats",
        BundleError,
        "found [1e-05, 0.0001, 123456.789, 1e-308, -0.0]",
        _set("name", [1e-05, 0.0001, 123456.789, 1e-308, -0.0]),
    ),
    Case(
        "another precision",
        BundleError,
        "precision: 'int4' is not one of the allowed values",
        _set("precision", "int4"),
    ),
    Case(
        "a dimension",
        BundleError,
        "inputs[0]: shape[0]: expected a whole number or text, found 1.5",
        _set("inputs", 0, "shape", 0, 1.5),
    ),
    Case(
        "a negative dimension",
        BundleError,
        "inputs: image: a dimension is negative or empty",
        _set("inputs", 0, "shape", 1, -3),
    ),
    Case(
        "an empty dimension",
        BundleError,
        "inputs: image: a dimension is negative or empty",
        _set("inputs", 0, "shape", 1, 0),
    ),
    Case(
        "a huge tensor", BundleError, "outputs: scores: larger than any array", _set("outputs", 0, "shape", 1, 1 << 60)
    ),
    Case("many axes", BundleError, "outputs: scores: larger than any array", _set("outputs", 0, "shape", [1] * 65)),
    Case(
        "a dtype", BundleError, "the dtype 'object' is not one of numpy's numbers", _set("inputs", 0, "dtype", "object")
    ),
    Case("no inputs", BundleError, "manifest.json: inputs is empty", _set("inputs", [])),
    Case("a name", BundleError, "'../x' is not a bundle's name", _set("name", "../x")),
    Case("a quoted name", BundleError, """"it's" is not a bundle's name""", _set("name", "it's")),
    Case("a name in Chinese", BundleError, "'\u6a21\u578b' is not a bundle's name", _set("name", "\u6a21\u578b")),
    Case("an unprintable name", BundleError, "'a\\u200bb' is not a bundle's name", _set("name", "a\u200bb")),
    Case("a version", BundleError, "'' is not a version", _set("version", "")),
    Case("a target", BundleError, "is not a target's id", _set("target", "a/b")),
    Case("a digest", BundleError, "source_sha256 is not a sha256", _set("source_sha256", "AB" * 32)),
    Case("no digest", BundleError, "source_sha256: expected text, found None", _set("source_sha256", None)),
    Case(
        "a long version",
        BundleError,
        "the version of numpy has 201 characters",
        _set("toolchain", {"numpy": "1" * 201}),
    ),
    Case("a file that leads out", BundleError, "files: '../evil' leads out of the bundle", _files(path="../evil")),
    Case("a file's digest", BundleError, "files: model/x: not a sha256", _files(sha256="0")),
    Case("a file's size", BundleError, "files: model/x: the size is negative", _files(size_bytes=-1)),
    Case("a file listed twice", BundleError, "files: 'golden.npz' is listed twice", _files(path=GOLDEN)),
    Case("itself", BundleError, "files: 'manifest.json' cannot list itself", _files(path=MANIFEST)),
    Case(
        "no golden vectors",
        BundleError,
        "files: golden.npz is missing",
        lambda m: with_manifest(m, lambda d: d.update(files=[f for f in d["files"] if f["path"] != GOLDEN])),
    ),
    Case("a file of nobody", BundleError, "files: 'model/x' belongs to no payload", _files()),
    Case("no payloads", BundleError, "payloads is empty", _set("payloads", [])),
    Case(
        "an entry", BundleError, "the entry 'golden.npz' is not one of its files", _set("payloads", 0, "entry", GOLDEN)
    ),
    Case(
        "a payload's file",
        BundleError,
        "'golden.npz' is not one of the files in model/",
        _set("payloads", 0, "files", [MODEL, GOLDEN]),
    ),
    Case(
        "a payload's file twice",
        BundleError,
        f"onnxruntime: '{MODEL}' is listed twice",
        _set("payloads", 0, "files", [MODEL, MODEL]),
    ),
    Case("native code behind data", BundleError, "native code stands behind a payload of data", _native),
    Case(
        "native code for no machine",
        BundleError,
        "tvm is native code, and the requirements name no machine for it",
        _set("payloads", 0, "backend", "tvm"),
    ),
    Case(
        "a payload's precision",
        BundleError,
        "payloads: onnxruntime is fp16, the bundle fp32",
        _set("payloads", 0, "precision", "fp16"),
    ),
    Case(
        "another engine's target",
        BundleError,
        "the target is host-openvino, the payload is for onnxruntime",
        _set("target", "host-openvino"),
    ),
    Case("layers", BundleError, "layers: a count is negative", _set("layers", {"fp32": -1})),
    Case("a task", BundleError, "task: unknown task 'telepathy'", _set("task", {"kind": "telepathy"})),
    Case(
        "two resizes",
        BundleError,
        "preprocessing: both resize and resize_short are given",
        _preprocessing(resize=[2, 2], resize_short=3),
    ),
    Case("a side", BundleError, "preprocessing: a side of 0 pixels", _preprocessing(resize=[0, 2])),
    Case(
        "a crop",
        BundleError,
        "preprocessing: the crop (5, 6) is larger than resize (4, 8)",
        _preprocessing(resize=[4, 8], crop=[5, 6]),
    ),
    Case(
        "a letterbox", BundleError, "preprocessing: letterbox needs resize, and no crop", _preprocessing(letterbox=True)
    ),
    Case("a mean", BundleError, "preprocessing: mean has 2 numbers, RGB has 3 channels", _preprocessing(mean=[1, 2])),
    Case(
        "a deviation", BundleError, "preprocessing: std and scale must be greater than 0", _preprocessing(std=[1, 0, 1])
    ),
    Case(
        "pixels",
        BundleError,
        "preprocessing: dtype uint8 cannot hold scaled or normalised pixels",
        _preprocessing(dtype="uint8", scale=0.5),
    ),
    Case(
        "three sides",
        BundleError,
        "preprocessing: resize: expected 2 values, found 3",
        _preprocessing(resize=[1, 2, 3]),
    ),
    Case("a missing key", BundleError, "the key 'payloads' is missing", _drop("payloads")),
)
