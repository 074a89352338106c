"""Lays a bundle's model out for Triton, and for KServe: a model repository with its config, and what deploys it.

Sources: Triton, "Model Repository" and model_config.proto; KServe, "Serving models with OCI images" and Triton's page.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from edgepack.base.files import scratch_folder, storage_errors, write_text
from edgepack.bundle.archive import Bundle, copy_member, open_checked
from edgepack.bundle.payloads import is_native
from edgepack.engines import engine_of
from edgepack.errors import ConfigError, EdgepackError, StorageError, ToolchainError
from edgepack.runtime.load import is_installed, load
from edgepack.serve.batching import no_free_batch, why_not_batched
from edgepack.serve.tensors import TEXT, datatype, shape_of
from edgepack.specs.bundle import Manifest, Payload
from edgepack.specs.model import TensorSpec
from edgepack.trust.policy import admit

Layout = Literal["triton", "kserve"]
LAYOUTS: tuple[Layout, ...] = ("triton", "kserve")
_CONFIG, _LABELS, _MODELS, _FIRST = "config.pbtxt", "labels.txt", "models", "1"
_NAME = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True)
class Unpacked:
    """What was laid out. ``batch`` is the most samples of a query, 0 where its batch is fixed.

    ``batched``: Triton may run queries together. ``notes`` say why not, and which engines were passed over.
    """

    folder: str
    model: str
    engine: str
    batch: int
    batched: bool
    notes: tuple[str, ...]


def unpack(bundle: Path, out: Path, layout: Layout, batch: int = 8, image: str | None = None) -> Unpacked:
    """Write ``out``, a new folder, whole or not at all.

    ``batch`` is the most samples that Triton may take at once. ``image`` is where KServe will find the folder as an
    image. Whether queries may be run together is tried here, in the engine, as ``edgepack serve`` does. Raises
    ``ConfigError`` where Triton runs no payload of the bundle, ``StorageError`` for a folder that is there, and what
    ``open_bundle`` and ``admit`` raise.
    """
    if (image is None) == (layout == "kserve"):
        raise ConfigError("--image names the image for KServe", hint="give it with --layout kserve, and only there")
    if out.exists():
        raise StorageError(f"{out} already exists", hint="give a new folder")
    with open_checked(bundle) as (file, checked):
        admit(checked, new=not is_installed(checked))
        manifest = checked.manifest
        payload, notes = _payload(manifest)
        most = 0 if no_free_batch(manifest) else batch
        reason = _why_not_batched(bundle, payload, batch)
        texts = _texts(manifest, payload, most, batched=reason is None, layout=layout, image=image or "")
        with storage_errors(out), scratch_folder(parent=_parent(out)) as scratch:
            place = scratch / out.name
            model = place / (_MODELS if layout == "kserve" else "") / manifest.name
            _copy_payload(checked, payload, file, model / _FIRST)
            for name, text in texts.items():
                write_text(place / name, text)
            shutil.move(place, out)
    why = (f"queries are not run together: {reason}",) if reason is not None else ()
    return Unpacked(str(out), manifest.name, payload.backend, most, reason is None, (*notes, *why))


def config(manifest: Manifest, payload: Payload, batch: int, *, batched: bool) -> str:
    """Return ``config.pbtxt``. Raises ``BundleError`` for types that Triton does not have."""
    engine = engine_of(payload.backend)
    assert engine is not None, "the payload was chosen by it"
    labelled = _is_labelled(manifest)
    lines = [
        f"name: {_quoted(manifest.name)}",
        f"backend: {_quoted(engine.triton)}",
        f"default_model_filename: {_quoted(PurePosixPath(payload.entry).name)}",
        f"max_batch_size: {batch}",
        *(_tensor("input", spec, batch) for spec in manifest.inputs),
        *(_tensor("output", spec, batch, labels=labelled and i == 0) for i, spec in enumerate(manifest.outputs)),
        "version_policy { latest { num_versions: 1 } }",
    ]
    return "\n".join([*lines, *(["dynamic_batching { }"] if batched else [])]) + "\n"


def _parent(out: Path) -> Path:
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def _payload(manifest: Manifest) -> tuple[Payload, tuple[str, ...]]:
    """Return the first payload that Triton runs, and what is to be known of those before it."""
    passed_over: list[str] = []
    for payload in manifest.payloads:
        engine = engine_of(payload.backend)
        if engine is not None and engine.triton and not is_native(payload):
            return payload, tuple(f"not laid out: {each}" for each in passed_over)
        passed_over.append(f"the payload for {payload.backend}, which Triton does not run as it is")
    raise ConfigError(
        f"Triton runs no payload of {manifest.name}",
        hint="build the model for an engine that Triton has, or edgepack serve",
    )


def _why_not_batched(bundle: Path, payload: Payload, batch: int) -> str | None:
    try:
        with load(bundle, only=payload) as model:
            return why_not_batched(model, batch)
    except ToolchainError as error:
        return f"it could not be tried here: {error.message}"
    except EdgepackError as error:
        return f"it could not be tried: {error.message}"


def _copy_payload(bundle: Bundle, payload: Payload, file: IO[bytes], into: Path) -> None:
    """Copy the engine's files, each where it is to the one that the engine opens."""
    start = PurePosixPath(payload.entry).parent
    for name in payload.files:
        if not PurePosixPath(name).is_relative_to(start):
            raise ConfigError(f"{name} is not below {start}, as Triton wants it", hint="build the bundle again")
        path = into / PurePosixPath(name).relative_to(start)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as copy:
            copy_member(bundle, name, file, copy)


def _texts(
    manifest: Manifest, payload: Payload, batch: int, *, batched: bool, layout: Layout, image: str
) -> dict[str, str]:  # fmt: skip
    model = f"{_MODELS}/{manifest.name}" if layout == "kserve" else manifest.name
    found = {f"{model}/{_CONFIG}": config(manifest, payload, batch, batched=batched)}
    if _is_labelled(manifest):
        found[f"{model}/{_LABELS}"] = "".join(f"{' '.join(name.split())}\n" for name in manifest.classes)
    if layout == "kserve":
        found["Dockerfile"] = f"FROM scratch\nCOPY {_MODELS} /{_MODELS}\n"
        found["inference-service.yaml"] = _service(manifest, image)
    return found


def _service(manifest: Manifest, image: str) -> str:
    """Return an InferenceService that runs Triton on the image; JSON is YAML, and quotes what needs it."""
    model = {
        "modelFormat": {"name": "triton"},
        "protocolVersion": "v2",
        "storageUri": f"oci://{image}",
    }
    name = _NAME.sub("-", manifest.name.lower()).strip("-")[:50] or "model"
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {"edgepack/version": manifest.version}},
        "spec": {"predictor": {"model": model}},
    }
    return json.dumps(document, indent=2) + "\n"


def _is_labelled(manifest: Manifest) -> bool:
    shape = manifest.outputs[0].shape
    return bool(manifest.classes) and len(shape) == 2 and shape[1] == len(manifest.classes)


def _tensor(kind: str, spec: TensorSpec, batch: int, *, labels: bool = False) -> str:
    if "..." in spec.shape:
        raise ConfigError(f"{spec.name!r} has no fixed number of dimensions, which Triton wants")
    sizes = shape_of(spec)[1:] if batch else shape_of(spec)
    name = datatype(spec)
    fields = [
        f"name: {_quoted(spec.name)}",
        f"data_type: TYPE_{'STRING' if name == TEXT else name}",
        f"dims: [ {', '.join(map(str, sizes))} ]",
        *([f"label_filename: {_quoted(_LABELS)}"] if labels else []),
    ]
    return f"{kind} {{ {' '.join(fields)} }}"


def _quoted(text: str) -> str:
    """Return text as protobuf's text format has it: its escapes of bytes are octal."""
    plain = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in text.encode())
    return f'"{plain}"'
