"""Keyless signatures with damage: a line of a bundle's signatures, and what somebody may have made of it."""

from __future__ import annotations

import base64
import copy
import json
import random
from typing import Any

import numpy as np
from fuzz_damage import damage_json
from sigstore_double import text64
from sigstore_forged import entry_of

from edgepack.errors import ConfigError
from edgepack.trust.keyless.bundle import from_file


def line_of(document: dict[str, Any]) -> bytes:
    """Return the one form of a signature, or something like it where it has none."""
    try:
        return from_file(json.dumps(document).encode(), "x").line
    except ConfigError:
        return json.dumps(document, separators=(",", ":")).encode()


def damaged(document: dict[str, Any], seed: int) -> dict[str, Any] | bytes:
    """Change a member anywhere, some bytes of the line, or some bytes of what is in it as base64."""
    chance = random.Random(seed)
    if seed % 3 == 0:
        return damage_json(copy.deepcopy(document), np.random.default_rng([5, seed]))  # type: ignore[no-any-return]
    if seed % 3 == 1:
        line = bytearray(line_of(document))
        for _ in range(chance.randint(1, 3)):
            line[chance.randrange(len(line))] = chance.choice(b'{}[]",:\\ 0-9eAz=\xc3')
        return bytes(line)
    made = copy.deepcopy(document)
    material = made["verificationMaterial"]
    stamp = material.get("timestampVerificationData", {}).get("rfc3161Timestamps", [{}])[0]
    holder, key = chance.choice(
        [(material["certificate"], "rawBytes")] * 3 + [(stamp, "signedTimestamp")] * (3 if stamp else 0)
        + [(entry_of(made), "canonicalizedBody"), (made["dsseEnvelope"], "payload")]
    )  # fmt: skip
    data = bytearray(base64.b64decode(holder[key]))
    for _ in range(chance.randint(1, 3)):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 0x30, 0x7F, 0x80, 0x84, 0xFF, chance.randrange(256)))
    holder[key] = text64(bytes(data))
    return made
