"""The bill of materials: CycloneDX 1.6 with a model card."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import TYPE_CHECKING

import pytest
from small_bundles import small_bundle

from edgepack.bundle.archive import open_bundle, read_member
from edgepack.bundle.sbom import sbom_bytes
from edgepack.specs.bundle import MeasuredAccuracy
from edgepack.specs.run import Accuracy

if TYPE_CHECKING:
    from pathlib import Path

MEASURED = MeasuredAccuracy(
    accuracy=Accuracy("top1", 200, 0.91, 0.9, 0.01, (-0.005, 0.025)),
    sqnr_db=22.5,
    cosine=0.996,
    agreement=None,
    n=200,
    engine="onnxruntime 1.31.1",
    isa=("avx2", "fma"),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"accuracy": MEASURED, "calibration_sha256": "cd" * 32, "licence": "Apache-2.0"}
    tools = {"edgepack": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu", "ml_dtypes": "0.6.0"}
    return small_bundle(tmp_path_factory.mktemp("sbom"), toolchain=tools, options={"seed": "0"}, **changes)


@pytest.fixture(scope="module")
def document(bundle):
    return json.loads(read_member(open_bundle(bundle), "sbom.cdx.json"))


def test_it_is_cyclonedx_1_6(document):
    assert document["bomFormat"] == "CycloneDX"
    assert document["specVersion"] == "1.6"
    assert document["version"] == 1
    assert uuid.UUID(document["serialNumber"].removeprefix("urn:uuid:")).version == 5
    assert "timestamp" not in json.dumps(document)


@pytest.mark.slow
def test_it_keeps_the_schema_of_cyclonedx(document):
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    schema = pytest.importorskip("cyclonedx.schema")
    checker = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert checker.validate_str(json.dumps(document)) is None


def test_every_file_of_the_bundle_is_there_with_its_digest(document, bundle):
    manifest = open_bundle(bundle).manifest
    listed = {c["name"]: c["hashes"] for c in document["components"] if c["type"] == "file"}
    wanted = {f.path: [{"alg": "SHA-256", "content": f.sha256}] for f in manifest.files if f.path != "sbom.cdx.json"}
    assert listed == wanted
    assert document["dependencies"] == [{"ref": "model", "dependsOn": [f"file:{path}" for path in sorted(wanted)]}]


def test_the_tools_are_there_with_their_versions(document):
    tools = {c["name"]: (c["version"], c.get("purl")) for c in document["components"] if c["type"] == "library"}
    assert tools["torch"] == ("2.13.0+cpu", "pkg:pypi/torch@2.13.0%2Bcpu")
    assert tools["ml_dtypes"] == ("0.6.0", "pkg:pypi/ml-dtypes@0.6.0")
    assert tools["python"] == ("3.11.7", None)
    assert document["metadata"]["tools"]["components"][0]["name"] == "edgepack"


def test_the_model_card_has_what_was_measured_and_on_what(document):
    model = document["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    parameters = model["modelCard"]["modelParameters"]
    assert parameters["inputs"] == [{"format": "image: float32[N,3,8,8]"}]
    assert parameters["datasets"][0]["contents"]["properties"] == [{"name": "sha256", "value": "cd" * 32}]
    metrics = {m["type"]: m for m in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics["top1"]["value"] == "0.9"
    assert metrics["top1"]["slice"] == "n=200; engine onnxruntime 1.31.1; instruction set avx2 fma"
    assert metrics["top1 drop from fp32"]["confidenceInterval"] == {"lowerBound": "-0.005", "upperBound": "0.025"}
    assert "SQNR in dB to the fp32 model" in metrics
    assert not any("agreement" in name for name in metrics)


def test_references_are_unique(document):
    parts = [document["metadata"]["component"], *document["metadata"]["tools"]["components"], *document["components"]]
    references = [part["bom-ref"] for part in parts]
    assert len(set(references)) == len(references)


def test_what_is_not_known_is_not_claimed(bundle_path):
    model = json.loads(read_member(open_bundle(bundle_path), "sbom.cdx.json"))["metadata"]["component"]
    assert "licenses" not in model
    assert {"name": "edgepack:licence", "value": "unknown"} in model["properties"]
    assert "quantitativeAnalysis" not in model["modelCard"]
    assert "datasets" not in model["modelCard"]["modelParameters"]


def test_the_serial_number_follows_the_contents(bundle_path):
    manifest = open_bundle(bundle_path).manifest
    same = [json.loads(sbom_bytes(manifest, None))["serialNumber"] for _ in range(2)]
    other = json.loads(sbom_bytes(dataclasses.replace(manifest, version="2.0"), None))["serialNumber"]
    assert same[0] == same[1] != other
