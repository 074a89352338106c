"""A bundle laid out for Triton and KServe: the files, and the config as Triton's own parser reads it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from program import main
from serving import FEEDS, mixing_bundle
from small_bundles import CLASSES, onnx_outputs, small_bundle, small_openvino_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError, EdgepackError, StorageError
from edgepack.serve.repository import _quoted, config, unpack
from edgepack.specs.model import TensorSpec

TESTS = Path(__file__).resolve().parents[1]
CLIENTS = TESTS.parent / ".venv-serving" / "bin" / "python"
SMALL = """\
name: "small"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: 8
input { name: "image" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] }
output { name: "scores" data_type: TYPE_FP32 dims: [ 5 ] label_filename: "labels.txt" }
version_policy { latest { num_versions: 1 } }
dynamic_batching { }
"""


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_repository_for_triton(tmp_path: Path) -> None:
    found = unpack(small_bundle(tmp_path), tmp_path / "models", "triton")
    assert (found.model, found.engine, found.batch, found.batched, found.notes) == ("small", "onnxruntime", 8, True, ())
    assert files(tmp_path / "models") == {"small/1/model.onnx", "small/config.pbtxt", "small/labels.txt"}
    assert (tmp_path / "models" / "small" / "config.pbtxt").read_text() == SMALL
    assert (tmp_path / "models" / "small" / "labels.txt").read_text().split() == list(CLASSES)
    model = tmp_path / "models" / "small" / "1" / "model.onnx"
    right = onnx_outputs(tmp_path / "compiled" / "model.onnx", FEEDS)
    np.testing.assert_array_equal(onnx_outputs(model, FEEDS)["scores"], right["scores"])


def test_another_engine_has_its_files_beside_each_other(tmp_path: Path) -> None:
    found = unpack(small_openvino_bundle(tmp_path), tmp_path / "models", "triton", batch=4)
    assert files(tmp_path / "models" / "small" / "1") == {"model.xml", "model.bin"}
    text = (tmp_path / "models" / "small" / "config.pbtxt").read_text()
    assert 'backend: "openvino"' in text
    assert 'default_model_filename: "model.xml"' in text
    assert "max_batch_size: 4" in text
    assert found.batched


def test_queries_that_touch_each_other_are_not_run_together(tmp_path: Path) -> None:
    found = unpack(mixing_bundle(tmp_path), tmp_path / "models", "triton")
    assert "dynamic_batching" not in (tmp_path / "models" / "mixing" / "config.pbtxt").read_text()
    assert not found.batched
    assert "depends on the others" in found.notes[-1]


def test_a_fixed_batch_is_part_of_the_shape(tmp_path: Path) -> None:
    manifest = open_bundle(small_bundle(tmp_path)).manifest
    fixed = dataclasses.replace(manifest, inputs=(TensorSpec("image", "uint8", (2, 3, 8, 8)),))
    text = config(fixed, fixed.payloads[0], 0, batched=False)
    assert "max_batch_size: 0" in text
    assert "data_type: TYPE_UINT8 dims: [ 2, 3, 8, 8 ]" in text
    assert "dims: [ -1, 5 ]" in text


def test_a_folder_for_kserve(tmp_path: Path) -> None:
    unpack(small_bundle(tmp_path), tmp_path / "out", "kserve", image="registry.example.com/small:1.0")
    assert files(tmp_path / "out") == {
        "models/small/1/model.onnx", "models/small/config.pbtxt", "models/small/labels.txt", "Dockerfile",
        "inference-service.yaml",
    }  # fmt: skip
    service: Any = yaml.safe_load((tmp_path / "out" / "inference-service.yaml").read_text())
    assert service["kind"] == "InferenceService"
    assert service["spec"]["predictor"]["model"]["storageUri"] == "oci://registry.example.com/small:1.0"
    assert service["metadata"]["name"] == "small"


def test_what_cannot_be_laid_out_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(StorageError, match="already exists"):
        unpack(bundle, tmp_path / "there", "triton")
    with pytest.raises(ConfigError, match="--image"):
        unpack(bundle, tmp_path / "new", "kserve")
    with pytest.raises(ConfigError, match="--image"):
        unpack(bundle, tmp_path / "new", "triton", image="x")
    damaged = tmp_path / "damaged.edgepack"
    damaged.write_bytes(bundle.read_bytes()[:-1])
    with pytest.raises(EdgepackError):
        unpack(damaged, tmp_path / "new", "triton")
    manifest = open_bundle(bundle).manifest
    unranked = dataclasses.replace(manifest, inputs=(TensorSpec("image", "float32", ("...",)),))
    with pytest.raises(ConfigError, match="no fixed number of dimensions"):
        config(unranked, unranked.payloads[0], 0, batched=False)
    assert not (tmp_path / "new").exists()


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = small_bundle(tmp_path)
    assert main(["unpack", str(bundle), "-o", str(tmp_path / "models"), "--json"]) == 0
    ran = capfd.readouterr()
    assert json.loads(ran.out)["engine"] == "onnxruntime"
    assert "small for onnxruntime" in ran.err
    assert main(["unpack", str(bundle), "-o", str(tmp_path / "models")]) == 1


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_quoted_text_is_the_text_of_protobuf(text: str) -> None:
    from google.protobuf import struct_pb2, text_format

    read = text_format.Parse(f"string_value: {_quoted(text)}", struct_pb2.Value())
    assert read.string_value == text


PARSE = """
import json, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
print(json_format.MessageToJson(text_format.Parse(open(sys.argv[1]).read(), model_config_pb2.ModelConfig())))
"""


@pytest.mark.skipif(not CLIENTS.is_file(), reason="tritonclient is not installed: make test-serving")
def test_triton_s_own_parser_reads_the_config(tmp_path: Path) -> None:
    unpack(small_bundle(tmp_path), tmp_path / "models", "triton")
    words = [CLIENTS, "-c", PARSE, tmp_path / "models" / "small" / "config.pbtxt"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert read["backend"] == "onnxruntime"
    assert (read["maxBatchSize"], read["dynamicBatching"]) == (8, {})
    assert read["input"] == [{"name": "image", "dataType": "TYPE_FP32", "dims": ["3", "8", "8"]}]
    assert read["output"] == [{"name": "scores", "dataType": "TYPE_FP32", "dims": ["5"], "labelFilename": "labels.txt"}]
