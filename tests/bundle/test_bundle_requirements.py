"""What a device must have, found from the compiled files."""

from __future__ import annotations

import dataclasses

import pytest
from small_bundles import TARGET, small_compiled

from edgepack.bundle.requirements import is_older, parse_version, release, requirements
from edgepack.specs import Compute, EngineFacts


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
    versions = {"openvino": "2026.4.1-22000-abcdef"}
    compiled = dataclasses.replace(small_compiled(tmp_path), backend="openvino", entry="model.xml", versions=versions)
    assert requirements(compiled, TARGET).engine == {"openvino": "2026.4"}
    older = dataclasses.replace(TARGET, engine=EngineFacts(version="2025.2"))
    assert requirements(compiled, older).engine == {"openvino": "2025.2"}
    newer = dataclasses.replace(TARGET, engine=EngineFacts(version="2027.0"))
    assert requirements(compiled, newer).engine == {"openvino": "2026.4"}


def test_comparing_versions():
    assert parse_version("1.31.1+cpu") == (1, 31, 1)
    assert parse_version("nightly") == ()
    assert release("2026.4.1-1") == "2026.4"
    assert is_older("1.9", "1.20")
    assert not is_older("1.20", "1.20.0")
    assert not is_older("1.20.1", "1.20")
    assert is_older("1.19.9", "1.20.0")
