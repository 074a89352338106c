"""The bill of materials of a bundle: CycloneDX 1.6 JSON with a model card, written by hand and deterministic.

cyclonedx-python-lib drops model cards, so the document is made here; field names and enumerations are from
bom-1.6.schema.json of CycloneDX/specification. There is no timestamp: the same bundle gives the same document.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from edgepack.base.files import sha256_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgepack.specs.bundle import FileEntry, Manifest, MeasuredAccuracy
    from edgepack.specs.model import TensorSpec

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:edgepack:bundle")
_MODEL_REF = "model"


def sbom_bytes(manifest: Manifest, licence: str | None) -> bytes:
    """Return ``sbom.cdx.json`` for a bundle whose ``manifest`` lists every file but the bill of materials itself.

    ``licence`` is what the user says of the model; None is written as unknown.
    """
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": _model(manifest, licence),
            "tools": {"components": [_package("application", "edgepack", manifest.toolchain.get("edgepack"))]},
        },
        "components": [*_tools(manifest.toolchain), *(_file(entry) for entry in manifest.files)],
        "dependencies": [{"ref": _MODEL_REF, "dependsOn": sorted(f"file:{entry.path}" for entry in manifest.files)}],
    }
    document["serialNumber"] = uuid.uuid5(_NAMESPACE, sha256_json(document)).urn
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _model(manifest: Manifest, licence: str | None) -> dict[str, Any]:
    properties = {
        "edgepack:target": manifest.target,
        "edgepack:precision": manifest.precision,
        "edgepack:source-model:sha256": manifest.source_sha256,
        "edgepack:licence": licence or "unknown",
        **{f"edgepack:option:{name}": value for name, value in manifest.options.items()},
        **{f"edgepack:layers:{name}": str(count) for name, count in manifest.layers.items()},
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL_REF,
        "name": manifest.name,
        "version": manifest.version,
        "description": f"{manifest.name} for {manifest.target}, {manifest.precision}",
        **({"licenses": [{"license": {"name": licence}}]} if licence else {}),
        "modelCard": _card(manifest),
        "properties": _properties(properties),
    }


def _card(manifest: Manifest) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "inputs": [{"format": _format(tensor)} for tensor in manifest.inputs],
        "outputs": [{"format": _format(tensor)} for tensor in manifest.outputs],
    }
    if manifest.calibration_sha256:
        parameters["datasets"] = [_dataset("calibration samples", manifest.calibration_sha256)]
    card: dict[str, Any] = {"modelParameters": parameters}
    if manifest.accuracy:
        card["quantitativeAnalysis"] = {"performanceMetrics": list(_metrics(manifest.accuracy))}
    return card


def _format(tensor: TensorSpec) -> str:
    return f"{tensor.name}: {tensor.dtype}[{','.join(str(size) for size in tensor.shape)}]"


def _dataset(name: str, digest: str) -> dict[str, Any]:
    return {"type": "dataset", "name": name, "contents": {"properties": _properties({"sha256": digest})}}


def _metrics(measured: MeasuredAccuracy) -> Iterable[dict[str, Any]]:
    """Yield performance metrics; ``slice`` says on how many samples, which engine and instruction set they hold."""
    isa = " ".join(measured.isa) or "not recorded"
    where = f"n={measured.n}; engine {measured.engine}; instruction set {isa}"
    if accuracy := measured.accuracy:
        low, high = accuracy.ci95
        yield {"type": accuracy.metric, "value": repr(accuracy.value), "slice": where}
        yield {"type": f"{accuracy.metric} of the fp32 model", "value": repr(accuracy.fp32), "slice": where}
        yield {
            "type": f"{accuracy.metric} drop from fp32",
            "value": repr(accuracy.drop),
            "slice": where,
            "confidenceInterval": {"lowerBound": repr(low), "upperBound": repr(high)},
        }
    closeness = {"SQNR in dB": measured.sqnr_db, "cosine": measured.cosine, "agreement": measured.agreement}
    for name, value in closeness.items():
        if value is not None:
            yield {"type": f"{name} to the fp32 model", "value": repr(value), "slice": where}


def _tools(toolchain: Mapping[str, str]) -> list[dict[str, Any]]:
    return [_package("library", name, toolchain[name]) for name in sorted(toolchain) if name != "edgepack"]


def _package(kind: str, name: str, version: str | None) -> dict[str, Any]:
    component = {"type": kind, "bom-ref": f"tool:{name}", "name": name}
    if version:
        component["version"] = version
        if name != "python":
            # Package URL specification, type pypi: lower case, underscores as dashes, "+" percent-encoded.
            purl_version = version.replace("%", "%25").replace("+", "%2B")
            component["purl"] = f"pkg:pypi/{name.lower().replace('_', '-')}@{purl_version}"
    return component


def _file(entry: FileEntry) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{entry.path}",
        "name": entry.path,
        "hashes": [{"alg": "SHA-256", "content": entry.sha256}],
        "properties": _properties({"edgepack:size-bytes": str(entry.size_bytes)}),
    }


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": values[name]} for name in sorted(values)]
