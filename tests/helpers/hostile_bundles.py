"""Mutated and forged bundles made from a good one, and what must not happen with them.

A mutated bundle has other bytes: it is refused. A forged one has right checksums and lies: whatever is accepted and
passes verification computes what the good one does, and runs no machine code.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fuzz_damage import assemble, damage_json, members_of, zipped
from mutations import damage_structure

from edgepack.bundle.archive import open_bundle
from edgepack.errors import EdgepackError
from edgepack.runtime.load import load
from edgepack.runtime.verify import verify
from edgepack.specs.types import Array

GOLDEN = "golden.npz"


def mutated(good: bytes, seed: int) -> bytes:
    """Return other bytes: changed bits and runs, cuts, and pieces that were moved, repeated or added."""
    for attempt in range(100):
        data = _damaged(good, np.random.default_rng([1, seed, attempt]))
        if data != good:
            return data
    raise AssertionError("nothing was changed")


def _damaged(good: bytes, random: np.random.Generator) -> bytes:
    data = bytearray(good)
    for _ in range(int(random.integers(1, 5))):
        start, length = int(random.integers(len(data))), int(random.choice([1, 2, 8, 64, 4096]))
        piece = bytes(data[start : start + length])
        match int(random.integers(7)):
            case 0:
                data[start] ^= 1 << int(random.integers(8))
            case 1:
                data[start : start + length] = random.bytes(len(piece))
            case 2:
                del data[start : start + length]
            case 3:
                place = int(random.integers(len(data)))
                data[place:place] = piece
            case 4:
                place = int(random.integers(len(data)))
                data[place : place + len(piece)] = piece
            case 5:
                del data[int(random.integers(len(data) // 2, len(data))) :]
            case _:
                data += random.bytes(length)
        if not data:
            data = bytearray(b"P")
    return bytes(data)


def forged(good: bytes, seed: int) -> bytes:
    """Return a bundle with one lie in it, whose checksums are right."""
    random = np.random.default_rng([2, seed])
    members = members_of(good)
    kind = int(random.integers(5))
    if kind == 0:
        return assemble({**members, "manifest.json": _manifest(members["manifest.json"], random)})
    if kind == 1:
        name = next(name for name in members if name.endswith(GOLDEN))
        return assemble({**members, name: _golden(members[name], random)}, changed=name)
    if kind == 2:
        name = next(name for name in members if name.endswith(".onnx"))
        return assemble({**members, name: _model(members[name], random)}, changed=name)
    name = str(random.choice(sorted(set(members) - {"manifest.json"})))
    if kind == 3:
        content = bytearray(members[name])
        for _ in range(int(random.integers(1, 9))):
            content[int(random.integers(len(content)))] = int(random.integers(256))
        return assemble({**members, name: bytes(content)}, changed=name)
    other = str(random.choice(sorted(members)))
    return assemble({**members, name: members[other]}, changed=name)


def _manifest(data: bytes, random: np.random.Generator) -> bytes:
    manifest = json.loads(data)
    if random.random() < 0.5:
        payload = manifest["payloads"][0]
        key = str(random.choice(["backend", "entry", "device", "sha256", "folder"]))
        payload[key] = random.choice(["tvm", "tensorrt", "openvino", "library.so", "GPU", "../x", "golden.npz"]).item()
        return json.dumps(manifest).encode()
    return json.dumps(damage_json(manifest, random)).encode()


def _golden(data: bytes, random: np.random.Generator) -> bytes:
    """Return golden vectors with other tolerances, values or types."""
    members = members_of(data)
    name = str(random.choice(sorted(members)))
    if name.startswith("tolerance"):
        limits = random.choice([-1e300, 1e300, 0.0, -1.0, 1.0, 59.9, 60.0])
        text = json.dumps({"outputs": {"scores": {"sqnr_db": limits, "max_abs": abs(limits), "mismatch": 1.0}}})
        return zipped({**members, name: _npy(np.frombuffer(text.encode(), np.uint8))})
    array = np.load(io.BytesIO(members[name]))
    changes: tuple[Any, ...] = (
        array * 0, array * np.nan, array.astype(np.float64), array[..., :0], array + 1, -array, array.ravel(),
    )  # fmt: skip
    return zipped({**members, name: _npy(changes[int(random.integers(len(changes)))])})


def _npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, (1, 0))
    return file.getvalue()


def _model(data: bytes, random: np.random.Generator) -> bytes:
    """Return the model with other weights, operators or attributes."""
    if random.random() < 0.5:
        return damage_structure(data, random)
    proto = onnx.ModelProto.FromString(data)
    tensor = proto.graph.initializer[int(random.integers(len(proto.graph.initializer)))]
    values = onnx.numpy_helper.to_array(tensor) * np.float32(random.choice([1.5, -1.0, 0.0, 1.01]))
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return bytes(proto.SerializeToString())


def judge_mutated(data: bytes, path: Path) -> str:
    """Return "refused"; else what must not be."""
    path.write_bytes(data)
    try:
        open_bundle(path)
    except EdgepackError as error:
        return "refused" if error.message and error.hint else "an error without words"
    return "accepted, though its bytes are other ones"


def judge_forged(data: bytes, path: Path, feeds: dict[str, Array], wanted: dict[str, Array]) -> str:
    """Return "refused", "failed" by verification, or "right" for one that computes as before; else what must not be."""
    path.write_bytes(data)
    try:
        found = verify(path)
    except EdgepackError as error:
        return "refused" if error.message and error.hint else "an error without words"
    if not found.passed:
        return "failed"
    with load(path) as model:
        if model.payload.backend == "tvm":
            return "runs machine code"
        answer = {name: np.array(value) for name, value in model.infer(feeds).items()}
    if answer.keys() != wanted.keys():
        return f"verified, and returns {sorted(answer)}"
    near = all(np.allclose(answer[name], value, rtol=1e-2, atol=1e-2) for name, value in wanted.items())
    return "right" if near else "verified, and computes something else"
