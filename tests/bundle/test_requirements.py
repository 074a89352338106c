"""What a device must have, found from the compiled files."""

from __future__ import annotations

import dataclasses

import pytest
from small_bundles import TARGET, small_compiled

from edgepack.base.versions import is_older, parse_version, release
from edgepack.bundle.requirements import requirements
from edgepack.specs.target import Compute, EngineFacts


def stamp(path, opset, ir):
    import onnx

    proto = onnx.load(path)
    proto.opset_import[0].version, proto.ir_version = opset, ir
    onnx.save(proto, path)


@pytest.mark.parametrize(
    ("opset", "ir", "oldest"),
    [
        (17, 8, "1.20.0"),
        (21, 10, "1.20.0"),
        (22, 10, "1.21.0"),
        (23, 10, "1.23.0"),
        (17, 11, "1.23.0"),
        (24, 8, "1.24.1"),
        (26, 13, "1.25.0"),
    ],
)
def test_onnx_files_need_the_runtime_that_knows_their_operators(tmp_path, opset, ir, oldest):
    compiled = small_compiled(tmp_path)
    stamp(tmp_path / "model.onnx", opset, ir)
    assert requirements(compiled, TARGET).engine == {"onnxruntime": oldest}


def test_unknown_opsets_need_the_runtime_that_compiled_them(tmp_path):
    compiled = dataclasses.replace(small_compiled(tmp_path), versions={"onnxruntime": "1.40.2"})
    stamp(tmp_path / "model.onnx", 40, 8)
    assert requirements(compiled, TARGET).engine == {"onnxruntime": "1.40"}


def test_graphs_run_everywhere_and_code_does_not(tmp_path):
    target = dataclasses.replace(TARGET, compute=Compute(isa=("avx2",)))
    compiled = small_compiled(tmp_path)
    graph = requirements(compiled, target)
    assert (graph.arch, graph.isa) == (None, ())
    library = requirements(
        dataclasses.replace(compiled, backend="tvm", entry="model.so", versions={"tvm": "0.27"}), target
    )
    assert (library.arch, library.isa, library.engine) == ("x86_64", ("avx2",), {"tvm": "0.27"})


def test_other_engines_need_the_release_that_compiled_or_the_older_one_that_the_profile_states(tmp_path):
    versions = {"tvm": "10.13.2-abcdef"}
    compiled = dataclasses.replace(small_compiled(tmp_path), backend="tvm", entry="model.so", versions=versions)
    assert requirements(compiled, TARGET).engine == {"tvm": "10.13"}
    older = dataclasses.replace(TARGET, engine=EngineFacts(version="10.3"))
    assert requirements(compiled, older).engine == {"tvm": "10.3"}
    newer = dataclasses.replace(TARGET, engine=EngineFacts(version="11.0"))
    assert requirements(compiled, newer).engine == {"tvm": "10.13"}


@pytest.mark.parametrize(
    ("ir", "opsets", "oldest"),
    [
        (11, ("opset1", "opset13"), "2025.0"),
        (11, ("opset16",), "2025.0"),
        (11, ("opset1", "opset17"), "2026.2"),
        (11, ("opset99",), "2026.4"),
        (12, ("opset1",), "2026.4"),
        (11, ("opset1", "extension"), "2026.4"),
    ],
)
def test_openvino_graphs_need_the_release_that_knows_their_operators(tmp_path, ir, opsets, oldest):
    layers = "".join(f'<layer id="{i}" type="Relu" version="{name}"/>' for i, name in enumerate(opsets))
    (tmp_path / "model.xml").write_text(
        f'<?xml version="1.0"?><net name="g" version="{ir}"><layers>{layers}</layers></net>'
    )
    compiled = dataclasses.replace(
        small_compiled(tmp_path), backend="openvino", entry="model.xml", versions={"openvino": "2026.4.1-22-ab"}
    )
    assert requirements(compiled, TARGET).engine == {"openvino": oldest}


def test_what_openvino_writes_is_understood(tmp_path):
    pytest.importorskip("openvino")
    from edgepack.engines.openvino.engine import compile_model
    from edgepack.graph.load import load_model

    model = load_model(small_compiled(tmp_path / "onnx").folder / "model.onnx")
    compiled = compile_model(model, dataclasses.replace(TARGET, backend="openvino"), "fp32", tmp_path / "out")
    assert requirements(compiled, TARGET).engine == {"openvino": "2025.0"}


def test_comparing_versions():
    assert parse_version("1.31.1+cpu") == (1, 31, 1)
    assert parse_version("nightly") == ()
    assert release("2026.4.1-1") == "2026.4"
    assert is_older("1.9", "1.20")
    assert not is_older("1.20", "1.20.0")
    assert not is_older("1.20.1", "1.20")
    assert is_older("1.19.9", "1.20.0")
