"""Mutated, forged and spliced bundles made from signed ones: a device that trusts the signer must take none of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_damage import assemble, damage_json, members_of
from hostile_bundles import forged, mutated

from edgepack.bundle.archive import open_bundle
from edgepack.bundle.layout import MANIFEST, SIGNATURE
from edgepack.errors import EdgepackError
from edgepack.trust.policy import admit


def mutation(good: bytes, seed: int) -> bytes:
    """Return other bytes: damage anywhere, behind all checksums, or in the signature."""
    for attempt in range(100):
        data = _mutation(good, seed, np.random.default_rng([3, seed, attempt]))
        if data != good:
            return data
    raise AssertionError("nothing was changed")


def _mutation(good: bytes, seed: int, random: Any) -> bytes:
    members = members_of(good)
    match seed % 4:
        case 0:
            return mutated(good, int(random.integers(1 << 30)))
        case 1:
            return forged(good, int(random.integers(1 << 30)))
        case 2:
            text = bytearray(members[SIGNATURE])
            for _ in range(int(random.integers(1, 4))):
                text[int(random.integers(len(text)))] = int(random.integers(256))
            return assemble({**members, SIGNATURE: bytes(text)})
        case _:
            return assemble({**members, SIGNATURE: _envelope(members[SIGNATURE], random)})


def _envelope(text: bytes, random: Any) -> bytes:
    """Return signatures one of which, or its statement, says something else, in the form that they must have."""
    lines = text.splitlines(keepends=True)
    place = int(random.integers(len(lines)))
    found = json.loads(lines[place])
    envelope = found["dsseEnvelope"]
    if random.random() < 0.5:
        statement = damage_json(json.loads(base64.b64decode(envelope["payload"])), random)
        envelope["payload"] = base64.b64encode(json.dumps(statement, indent=1).encode() + b"\n").decode()
    else:
        found = damage_json(found, random)
    lines[place] = json.dumps(found, separators=(",", ":")).encode() + b"\n"
    return b"".join(lines)


def splice(good: Sequence[bytes], seed: int) -> bytes:
    """Return members of several signed bundles in one, which is none of them; half of the manifests fit their files."""
    random = np.random.default_rng([4, seed])
    whole = [members_of(data) for data in good]
    for _ in range(1000):
        first = whole[int(random.integers(len(whole)))]
        made = dict(first)
        for name in first:
            other = whole[int(random.integers(len(whole)))]
            if name in other and random.random() < 0.4:
                made[name] = other[name]
        changed = str(random.choice(sorted(set(made) - {MANIFEST, SIGNATURE}))) if random.random() < 0.5 else None
        data = assemble(made, changed)
        if data not in good:
            return data
    raise AssertionError("nothing was mixed")


def judge(data: bytes, path: Path) -> str:
    """Return "refused", else what must not be."""
    path.write_bytes(data)
    try:
        admit(open_bundle(path))
    except EdgepackError as error:
        return "refused" if error.message and error.hint else "an error without words"
    return "activated"
