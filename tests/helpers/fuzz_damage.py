"""Damage to the contents of files, behind checksums that are made again."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 10**30, 1e308, -0.0, "", "x", "../x", "/etc/passwd", "\x1b[31m", "\u202e", [], {}, [[]],
    {"a": 1}, "N" * 1000, 2**31, 2**63, "1" * 400,
)  # fmt: skip


def members_of(data: bytes) -> dict[str, bytes]:
    """Return the members of a zip by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def damage_inside(form: str, data: bytes, random: np.random.Generator, damage: Callable[[bytes], bytes]) -> bytes:
    """Return a file that is damaged in its contents, with all checksums made again; as it was where that cannot be."""
    try:
        if form == "json":
            return json.dumps(damage_json(json.loads(data), random)).encode()
        members = members_of(data)
        name = str(random.choice(sorted(members)))
        content = members[name]
        members[name] = damage_inside("json", content, random, damage) if _is_json(name) else damage(content)
        return assemble(members, changed=name) if form == "bundle" else zipped(members)
    except Exception:  # what is damaged already is not always taken apart again
        return data


def _is_json(name: str) -> bool:
    return name.endswith(".json")


def damage_json(document: Any, random: np.random.Generator) -> Any:
    """Put another value in one place of a document, or take a place out."""
    place = document
    while isinstance(place, dict | list) and place:
        keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[int(random.integers(len(keys)))]
        if isinstance(place[key], dict | list) and place[key] and random.random() < 0.8:
            place = place[key]
            continue
        match int(random.integers(8)):
            case 0:
                del place[key]
            case 1 if isinstance(place, dict):
                place[f"{key}x"] = place[key]
            case 2 if isinstance(place, list):
                place.append(place[key])
            case 3 if isinstance(place[key], int | float):
                place[key] = place[key] * float(random.choice([-1.0, 0.5, 2.0, 1e300]))
            case _:
                place[key] = NASTY[int(random.integers(len(NASTY)))]
        break
    return document


def zipped(members: dict[str, bytes]) -> bytes:
    """Return members as a zip that stores them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def assemble(members: dict[str, bytes], changed: str | None = None) -> bytes:
    """Return members in the layout of a bundle or job; size and digest of the one that was changed are made right."""
    import hashlib

    from edgepack.bundle.layout import JOB, MANIFEST, Member, in_order, lay_out

    first = JOB if JOB in members else MANIFEST
    if changed not in (None, first):
        manifest = json.loads(members[first])
        for entry in manifest["files"]:
            if entry["path"] == changed:
                content = members[entry["path"]]
                entry.update({"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)})
        members = {**members, first: json.dumps(manifest).encode()}
    layout = lay_out(Member(name, len(members[name]), zlib.crc32(members[name])) for name in in_order(members, first))
    pieces = [header + members[member.name] for member, header in zip(layout.members, layout.headers, strict=True)]
    return b"".join(pieces) + layout.tail
