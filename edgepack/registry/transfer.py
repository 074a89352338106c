"""A bundle as an OCI artifact: every member is a layer, so that what two bundles share is stored and moved once.

The zip around the members is a function of them, so that what is pulled is the very file that was pushed, and its
sha256 is compared. Media types are those of CNCF's ModelPack. The signature and the bill of materials are, beside being
members, manifests of their own that refer to the bundle's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.documents import read_json
from edgepack.base.files import crc32_file, scratch_folder
from edgepack.bundle.archive import Bundle, Source, open_bundle, open_checked, write_archive
from edgepack.bundle.layout import MANIFEST, SIGNATURE, name_problem, names_problem
from edgepack.bundle.manifest import MANIFEST_LIMIT_BYTES, MODEL_FOLDER, SBOM
from edgepack.errors import BundleError, ConfigError, IntegrityError, RemoteError
from edgepack.registry.client import INDEX_TYPE, MANIFEST_TYPE, Client, digest_of
from edgepack.registry.layout import Layout
from edgepack.registry.mirrors import Origins, client_of
from edgepack.registry.reference import Folder, Reference, is_repository
from edgepack.runtime.cache import limit_bytes
from edgepack.specs.types import Progress, no_progress

ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
_WEIGHT, _DOC = "application/vnd.cncf.model.weight.v1.raw", "application/vnd.cncf.model.doc.v1.raw"
_FILE_NOTE = "org.cncf.model.filepath"
_SHA_NOTE = "edgepack.bundle.sha256"
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_REFERRING = {SIGNATURE: "application/vnd.dev.sigstore.bundle.v0.3+json", SBOM: "application/vnd.cyclonedx+json"}
_MOST_LAYERS = 4096
_MOST_BYTES = 1 << 40


@dataclass(frozen=True)
class Moved:
    """What was pushed or pulled: the reference, the manifest's digest, and how many bytes had to move."""

    reference: str
    digest: str
    bundle: str
    sha256: str
    moved_bytes: int
    size_bytes: int


def cache_layout() -> Layout:
    """Return the layout folder in the user's cache in which blobs are kept."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return Layout(((Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "oci").absolute())


def push(
    bundle: Path,
    to: Reference | Folder,
    client: Client | None = None,
    progress: Progress = no_progress,
    repositories: Sequence[str] = (),
) -> Moved:
    """Store a bundle under a tag and return what moved; layers that are there already do not.

    Nor do those that one of the registry's other ``repositories`` has, from which they are mounted. Raises
    ``ConfigError`` for a reference with a digest, ``RemoteError`` and what ``open_bundle`` raises.
    """
    if isinstance(to, Reference) and to.digest is not None:
        raise ConfigError(f"{to} has a digest, which a push does not choose", hint="give a tag")
    wrong = next((name for name in repositories if isinstance(to, Folder) or not is_repository(name)), None)
    if wrong is not None:
        raise ConfigError(
            f"{wrong[:120]!r} cannot be mounted from for {to}: it is not another repository of a registry",
            hint="give a name without host and tag, as models/my_model",
        )
    with scratch_folder() as scratch:
        layout = Layout(scratch) if isinstance(to, Reference) else Layout(to.path)
        checked, manifest, sizes = _into(layout, bundle)
        digest = layout.add_bytes(manifest)
        if isinstance(to, Folder):
            layout.sweep()
            layout.tag(to.tag, digest, len(manifest), ARTIFACT)
            return Moved(str(to), digest, str(bundle), checked.sha256, sum(sizes.values()), checked.size_bytes)
        registry = client or Client(to)
        moved = 0
        for i, (blob, size) in enumerate(sizes.items()):
            progress("push", i, len(sizes))
            moved += size if registry.push(blob, layout.blob(blob), repositories=repositories) else 0
        registry.put_manifest(digest, manifest)
        for made, kind in _referring(layout, manifest, digest):
            _push_referring(registry, layout, made, digest, kind)
        registry.put_manifest(to.version, manifest)  # last: who asks for the tag finds all of it
        progress("push", len(sizes), len(sizes))
    return Moved(str(to), digest, str(bundle), checked.sha256, moved, checked.size_bytes)


def pull(
    source: Reference | Folder,
    out: Path | None = None,
    to: Folder | None = None,
    client: Client | None = None,
    progress: Progress = no_progress,
    mirrors: Sequence[str] = (),
) -> Moved:
    """Bring a bundle to the file ``out``, or its blobs to the layout folder ``to``, and return what moved.

    ``mirrors``, each ``HOST`` or ``HOST/PREFIX``, are asked for blobs before the registry is.
    Every blob is compared with its digest, the file with the sha256 that was pushed, and then opened as any bundle.
    Raises ``RemoteError``, ``IntegrityError``, ``BundleError`` for an artifact that is not one, and ``ConfigError``
    for a folder with mirrors or with ``to``.
    """
    if isinstance(source, Folder) and (to is not None or mirrors):
        what = "and is not pulled into another one" if to is not None else "and nothing of it comes from mirrors"
        raise ConfigError(
            f"{source} is a folder, {what}",
            hint="copy it, or give --out" if to is not None else "leave out --mirror",
        )
    layout = Layout(source.path) if isinstance(source, Folder) else (Layout(to.path) if to else cache_layout())
    moved = 0
    if isinstance(source, Folder):
        digest = layout.find(source.tag)
        text = layout.read(digest)
        layers = _layers(text, str(source))
    else:
        layout.sweep()
        limit = limit_bytes()
        registry = client or Client(source)
        origins = Origins(registry, [client_of(source, place) for place in mirrors])
        text, digest = origins.manifest(source)
        layers = _layers(text, str(source))
        for i, layer in enumerate((*layers, _config(text))):
            progress("pull", i, len(layers))
            with layout.alone(layer.digest):
                if not layout.has(layer.digest, layer.size):
                    origins.fetch(layer.digest, layer.size, layout.half(layer.digest))
                    layout.take(layer.digest)
                    moved += layer.size
        layout.add_bytes(text)
        progress("pull", len(layers), len(layers))
    if to is not None:
        layout.tag(to.tag, digest, len(text), ARTIFACT)
        return Moved(str(source), digest, str(to), "", moved, sum(layer.size for layer in layers))
    if out is None:
        raise ConfigError("no destination is given", hint="give --out or --to")
    sha256, size = _assemble(layout, layers, text, out)
    if isinstance(source, Reference):
        layout.trim(limit)
    return Moved(str(source), digest, str(out), sha256, moved, size)


# --- bundles and manifests --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    name: str
    digest: str
    size: int


def _into(layout: Layout, bundle: Path) -> tuple[Bundle, bytes, dict[str, int]]:
    """Store a bundle's members as blobs; return it, its manifest and the blobs with their sizes."""
    layers, sizes = [], {}
    with open_checked(bundle) as (file, checked):
        for name, member in checked.members.items():
            file.seek(member.offset)
            digest, size = layout.add(file, member.size_bytes)
            sizes[digest] = size
            kind = _WEIGHT if name.startswith(MODEL_FOLDER) else _DOC
            notes = {"org.opencontainers.image.title": name, _FILE_NOTE: name}
            layers.append({"mediaType": kind, "digest": digest, "size": size, "annotations": notes})
    config = json.dumps(_model_config(checked, [layer["digest"] for layer in layers]), sort_keys=True).encode()
    name = layout.add_bytes(config)
    sizes[name] = len(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT,
        "config": {"mediaType": CONFIG, "digest": name, "size": len(config)},
        "layers": layers,
        "annotations": {
            "org.opencontainers.image.title": f"{checked.manifest.name}.edgepack",
            "org.opencontainers.image.version": checked.manifest.version,
            "edgepack.target": checked.manifest.target,
            "edgepack.precision": checked.manifest.precision,
            _SHA_NOTE: checked.sha256,
        },
    }
    return checked, json.dumps(manifest, separators=(",", ":")).encode(), sizes


def _model_config(bundle: Bundle, layers: list[Any]) -> dict[str, Any]:
    """Return ModelPack's description of a model."""
    manifest = bundle.manifest
    return {
        "descriptor": {"name": manifest.name, "version": manifest.version, "title": manifest.target},
        "config": {"format": manifest.payloads[0].backend, "precision": manifest.precision},
        "modelfs": {"type": "layers", "diffIds": layers},
    }


def _layers(text: bytes, where: str) -> list[_Layer]:
    """Return the members that a manifest lists, each under a name that a bundle may have. Raises ``BundleError``."""
    try:
        data = read_json(text)
        if data.get("artifactType") != ARTIFACT:
            raise BundleError(
                f"{where} is not a bundle but {str(data.get('artifactType') or data.get('mediaType'))[:80]}"
            )
        found = [
            _Layer(str(each["annotations"][_FILE_NOTE]), str(each["digest"]), int(each["size"]))
            for each in data["layers"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{where} is not a bundle: {str(error)[:200]}", hint="push it with 'edgepack push'") from None
    names = [layer.name for layer in found]
    problem = next(filter(None, map(name_problem, names)), None) or names_problem(names)
    if problem or MANIFEST not in names or len(found) > _MOST_LAYERS:
        raise BundleError(f"{where} is not a bundle: {problem or 'it has no manifest.json'}", hint="push it again")
    for layer in found:
        if not 0 <= layer.size < _MOST_BYTES or (layer.name == MANIFEST and layer.size > MANIFEST_LIMIT_BYTES):
            raise BundleError(f"{where} is not a bundle: {layer.name} has {layer.size} bytes", hint="push it again")
    return found


def _config(text: bytes) -> _Layer:
    try:
        config = read_json(text)["config"]
        return _Layer("", str(config["digest"]), int(config["size"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"the manifest has no config: {str(error)[:100]}", hint="push it again") from None


def _assemble(layout: Layout, layers: list[_Layer], text: bytes, out: Path) -> tuple[str, int]:
    """Write the bundle of some blobs, check it, and return its sha256 and size.

    A blob is compared with its digest as it is copied. Raises ``IntegrityError`` when one is damaged, which is removed
    then, so that it comes again; and when the whole is not the bundle that was pushed.
    """
    sources = {layer.name: _source(layout, layer) for layer in layers}
    sources.pop(MANIFEST)
    manifest = next(layer for layer in layers if layer.name == MANIFEST)
    with scratch_folder(".pull-", _made(out.absolute().parent)) as scratch:
        made = scratch / out.name
        try:
            write_archive(made, layout.read(manifest.digest), sources)
        except IntegrityError:
            damaged = next(layer for layer in layers if not layout.has(layer.digest, layer.size))
            raise _damaged(layout, damaged) from None
        found = open_bundle(made)
        notes = read_json(text).get("annotations")
        wanted = notes.get(_SHA_NOTE) if isinstance(notes, dict) else None
        if wanted is not None and wanted != found.sha256:
            raise IntegrityError(f"{out} is not the file that was pushed", hint="push it again")
        made.replace(out)
        return found.sha256, found.size_bytes


def _source(layout: Layout, layer: _Layer) -> Source:
    """Return a blob as a member to be: with the digest that it must have, and the checksum that it has."""
    path = layout.blob(layer.digest)
    if not path.is_file() or path.stat().st_size != layer.size:
        layout.drop(layer.digest)
        raise _damaged(layout, layer)
    return Source(path, layer.size, layer.digest.removeprefix("sha256:"), crc32_file(path))


def _damaged(layout: Layout, layer: _Layer) -> IntegrityError:
    return IntegrityError(f"{layout.folder} lacks {layer.name!r}, or it is damaged", hint="copy it again")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- referrers --------------------------------------------------------------------------------------------------------


def _referring(layout: Layout, manifest: bytes, digest: str) -> Iterator[tuple[bytes, str]]:
    """Yield manifests that refer to a bundle's: one for its signature, one for its bill of materials."""
    subject = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(manifest)}
    empty = {"mediaType": _EMPTY_TYPE, "digest": layout.add_bytes(_EMPTY), "size": len(_EMPTY)}
    for layer in read_json(manifest)["layers"]:
        kind = _REFERRING.get(layer["annotations"][_FILE_NOTE])
        if kind is not None:
            made = {
                "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "artifactType": kind, "config": empty,
                "layers": [{**layer, "mediaType": kind}], "subject": subject,
            }  # fmt: skip
            yield json.dumps(made, separators=(",", ":")).encode(), kind


def _push_referring(registry: Client, layout: Layout, made: bytes, subject: str, kind: str) -> None:
    """Store a referring manifest, and list it under the fallback tag for registries without the referrers API."""
    registry.push(digest_of(_EMPTY), layout.blob(digest_of(_EMPTY)))
    if registry.put_manifest(digest_of(made), made) or registry.lists_referrers(subject):
        return
    listed = _listed(registry.referrers_tag(subject), registry.host)
    if any(each.get("digest") == digest_of(made) for each in listed):
        return
    entry = {"mediaType": MANIFEST_TYPE, "digest": digest_of(made), "size": len(made), "artifactType": kind}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*listed, entry]}
    registry.put_manifest(subject.replace(":", "-"), json.dumps(index).encode(), INDEX_TYPE)


def _listed(index: bytes | None, host: str) -> list[dict[str, Any]]:
    """Return what an index of manifests lists. Raises ``RemoteError`` for what is none: it would be written over."""
    if index is None:
        return []
    try:
        found = read_json(index)["manifests"]
        if isinstance(found, list) and all(isinstance(each, dict) for each in found):
            return found
        problem = "it lists no manifests"
    except (ValueError, KeyError, TypeError) as error:
        problem = str(error)[:200]
    raise RemoteError(
        f"{host}: the list of what refers to the bundle cannot be read: {problem}",
        hint="remove it (the tag sha256-... of the bundle's manifest), or push to another repository",
    )
