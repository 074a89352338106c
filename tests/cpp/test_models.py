"""The C++ loader runs and verifies bundles as Python's does: the same numbers, the same payload, the same words."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest
from backend_models import make
from cpp_library import NAMES, Library, Refused
from hostile_bundles import forged
from installed_engines import skip_without
from onnx import TensorProto, helper
from packed_models import packed_model, random_samples
from small_bundles import small_bundle, small_bundle_of_two, small_compiled, small_facts, small_golden

from edgepack.bundle.pack import pack
from edgepack.errors import DataError, EdgepackError
from edgepack.runtime.load import load
from edgepack.runtime.verify import verify
from edgepack.verify.golden import read_golden, write_golden

ENGINES = ("onnxruntime", "openvino", "tvm")
FREE, FIXED = ("image", (1, 3, 8, 8)), ("x", (2, 4))
pytestmark = [pytest.mark.long, pytest.mark.usefixtures("engines")]


def convolution() -> onnx.ModelProto:
    """Return a network whose batch is free."""
    weights = {"w": np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["out"]),
    ]
    return make(
        nodes,
        [("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [("out", TensorProto.FLOAT, ["N", 4, 8, 8])],
        weights,
    )


@pytest.fixture(scope="module", params=ENGINES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    skip_without(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, packed_model(convolution(), request.param, folder, random_samples([FREE]))


@pytest.mark.slow
def test_the_same_numbers_for_every_batch(bundle: tuple[str, Path], library: Library) -> None:
    engine, path = bundle
    with load(path, allow_native=True) as python, library.load(path, allow_native=1) as model:
        assert library.c.edgepack_engine(model).decode() == engine == python.backend
        for batch in (1, 3, 1, 2, 16):
            feeds = {"image": random_samples([("image", (batch, 3, 8, 8))], 1)[0]["image"]}
            wanted = {name: np.array(value) for name, value in python.infer(feeds).items()}
            found = library.infer(model, feeds)
            assert found.keys() == wanted.keys()
            np.testing.assert_array_equal(found["out"], wanted["out"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "operator", "values"),
    [
        ("INT64", "Add", [2**31, 3]),
        ("INT64", "Add", [-(2**31) - 1, 3]),
        ("UINT64", "Add", [2**64 - 1, 3]),
        ("INT32", "Div", [2**24 + 1, 3]),
        ("UINT32", "Max", [3, 2**32 - 1]),
        ("INT64", "Div", [5, -(2**24) - 1]),
        ("INT64", "Div", [2**24, -(2**24)]),
        ("INT32", "Add", [2**31 - 2, -(2**31)]),
    ],
)
def test_openvino_refuses_the_same_integers(
    kind: str, operator: str, values: list[int], library: Library, tmp_path: Path
) -> None:
    skip_without("openvino")
    number = TensorProto.DataType.Value(kind)
    dtype = helper.tensor_dtype_to_np_dtype(number)
    node = helper.make_node(operator, ["x", "one"], ["out"])
    proto = make([node], [("x", number, ["N", 2])], [("out", number, ["N", 2])], {"one": np.ones(1, dtype)})
    path = packed_model(
        proto, "openvino", tmp_path, [{"x": np.array([[1, 2]], dtype)}, {"x": np.array([[3, 2]], dtype)}]
    )

    def outcome(infer: Callable[[Any], Any]) -> Any:
        told: list[Any] = []
        for repeats in (1, 3):
            try:
                told.append(np.array(infer({"x": np.array([values] * repeats, dtype)})["out"]).tolist())
            except DataError as error:
                told.append((error.message, error.hint))
            except Refused as refused:
                told.append((refused.message, refused.hint))
        return told

    with load(path) as python, library.load(path) as model:
        assert outcome(lambda feeds: library.infer(model, feeds)) == outcome(python.infer)


@pytest.mark.slow
def test_the_same_verification(bundle: tuple[str, Path], library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_ALLOW_NATIVE", "1")
    _, path = bundle
    compare(library.verify(path), verify(path))


def compare(found: dict[str, Any], wanted: Any) -> None:
    assert found["passed"] == wanted.passed
    assert (found["engine"], found["samples"]) == (wanted.engine, wanted.samples)
    rows = [
        (row["name"], row["batch"], row["way"], bool(row["passed"]), row["nonfinite"], row["note"] or None)
        for row in found["outputs"]
    ]
    assert rows == [(o.name, o.batch, o.way, o.passed, o.nonfinite, o.note) for o in wanted.outputs]
    for row, output in zip(found["outputs"], wanted.outputs, strict=True):
        assert row["sqnr_db"] == (output.sqnr_db if output.sqnr_db is None else pytest.approx(output.sqnr_db, abs=1e-6))
        assert row["cosine"] == pytest.approx(output.cosine, abs=1e-12)
        assert row["max_abs"] == pytest.approx(output.max_abs, rel=1e-12)
        assert row["mismatch"] == output.mismatch


@pytest.mark.slow
def test_threads_share_a_loaded_model(bundle: tuple[str, Path], library: Library) -> None:
    import ctypes

    _, path = bundle
    samples = random_samples([FREE], 20)
    with library.load(path, allow_native=1) as model:
        wanted = [library.infer(model, sample)["out"] for sample in samples]
        wrong: list[object] = []

        def work() -> None:
            handle = ctypes.c_void_p()
            library.check(library.c.edgepack_another(model, ctypes.byref(handle)))
            for _ in range(5):
                for sample, expected in zip(samples, wanted, strict=True):
                    if not np.array_equal(library.infer(handle, sample)["out"], expected):
                        wrong.append(sample)
            library.c.edgepack_unload(handle)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


FEEDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("missing", {}),
    ("unknown", {"image": np.zeros((1, 3, 8, 8), np.float32), "more": np.zeros(1)}),
    ("type", {"image": np.zeros((1, 3, 8, 8))}),
    ("axes", {"image": np.zeros((3, 8, 8), np.float32)}),
    ("shape", {"image": np.zeros((1, 3, 9, 8), np.float32)}),
)


@pytest.mark.slow
@pytest.mark.parametrize("feeds", [feeds for _, feeds in FEEDS], ids=[name for name, _ in FEEDS])
def test_wrong_inputs_are_refused_with_the_same_words(
    bundle: tuple[str, Path], library: Library, feeds: dict[str, Any]
) -> None:
    with load(bundle[1], allow_native=True) as python, pytest.raises(DataError) as caught:
        python.infer(feeds)
    with library.load(bundle[1], allow_native=1) as model, pytest.raises(Refused) as refused:
        library.infer(model, feeds)
    assert refused.value == Refused("DataError", caught.value.message, caught.value.hint)


@pytest.mark.slow
def test_every_type_that_a_manifest_can_hold(library: Library, tmp_path: Path) -> None:
    kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in NAMES}
    nodes = [helper.make_node("Identity", [f"{name}_in"], [f"{name}_out"]) for name in kinds]
    proto = make(
        nodes,
        [(f"{name}_in", kind, [2, 3]) for name, kind in kinds.items()],
        [(f"{name}_out", kind, [2, 3]) for name, kind in kinds.items()],
    )
    random = np.random.default_rng(1)
    sample = {f"{name}_in": random.integers(0, 2 if name == "bool" else 100, (2, 3)).astype(name) for name in kinds}
    path = packed_model(proto, "onnxruntime", tmp_path, [sample])
    with library.load(path) as model:
        found = library.infer(model, sample)
    assert {name: value.dtype.name for name, value in found.items()} == {f"{name}_out": name for name in kinds}
    for name in kinds:
        np.testing.assert_array_equal(found[f"{name}_out"], sample[f"{name}_in"])
    compare(library.verify(path), verify(path))


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0001, 1.01, 0.0, float("nan")])
def test_outputs_that_are_not_the_models(library: Library, tmp_path: Path, factor: float) -> None:
    compiled = small_compiled(tmp_path / "compiled")
    vectors = read_golden(small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz"))
    outputs = tuple({"scores": sample["scores"] * np.float32(factor)} for sample in vectors.outputs)
    if np.isnan(factor):
        outputs = tuple(
            {"scores": np.where(np.arange(5) == 2, np.nan, s["scores"]).astype("f4")} for s in vectors.outputs
        )
    golden = write_golden(dataclasses.replace(vectors, outputs=outputs), tmp_path / "golden.npz")
    path = pack(compiled, golden, small_facts(), tmp_path)
    compare(library.verify(path), verify(path))
    assert library.verify(path)["passed"] == (factor == 1.0001)


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
def test_the_payloads_that_stand_in_are_verified_too(library: Library, tmp_path: Path, same: bool) -> None:
    path = small_bundle_of_two(tmp_path, same=same)
    compare(library.verify(path), verify(path))


@pytest.mark.slow
def test_a_tensorrt_bundle_is_run_by_the_engine_that_stands_in(library: Library, tmp_path: Path) -> None:
    from jetson_bundles import jetson_bundle

    path = jetson_bundle("dynamic-fp32", tmp_path, "nvidia-gpu")
    with library.load(path) as model:
        assert library.c.edgepack_engine(model) == b"onnxruntime"
        notes = library.c.edgepack_notes(model).decode()
    assert "libedgepack does not run TensorRT, which has no C interface" in notes
    assert "run by onnxruntime instead" in notes


@pytest.mark.slow
def test_weights_beside_the_graph(library: Library, tmp_path: Path) -> None:
    with patch("edgepack.engines.common.weights.SEPARATE_ABOVE_BYTES", 1000):
        proto = convolution()
        extra = np.random.default_rng(5).standard_normal((4, 4, 17, 17)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(extra, "large"))
        proto.graph.node[1].output[0] = "relu"
        proto.graph.node.append(helper.make_node("Conv", ["relu", "large"], ["out"], pads=[8, 8, 8, 8]))
        path = packed_model(proto, "onnxruntime", tmp_path, random_samples([FREE]))
    with load(path) as python, library.load(path) as model:
        assert len(python.payload.files) == 2
        sample = random_samples([FREE], 1)[0]
        np.testing.assert_array_equal(library.infer(model, sample)["out"], np.array(python.infer(sample)["out"]))


@pytest.mark.slow
def test_a_missing_engine_is_named(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    path = small_bundle(tmp_path)
    monkeypatch.delenv("EDGEPACK_ONNXRUNTIME_LIBRARY")
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\nfrom pathlib import Path\nfrom cpp_library import Library, Refused\n"
        f"try:\n    with Library(Path({library.c._name!r})).load(Path({str(path)!r})): pass\n"
        "except Refused as refused: print(refused.kind, refused.message, refused.hint, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "ToolchainError",
        "ONNX Runtime is not installed",
        "put libonnxruntime.so.1 where the system's loader finds it, or set EDGEPACK_ONNXRUNTIME_LIBRARY to its path",
    ]


@pytest.mark.slow
def test_native_code_runs_by_permission_only(
    library: Library, tmp_path: Path, bundle: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepack.errors import ConfigError

    engine, path = bundle
    if engine != "tvm":
        pytest.skip("data, not code")
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "another"))  # in which nothing is noted as built here
    with pytest.raises(ConfigError) as caught, load(path):
        pass
    with pytest.raises(Refused) as refused, library.load(path):
        pass
    assert (refused.value.kind, refused.value.message) == ("ConfigError", caught.value.message)
    monkeypatch.setenv("EDGEPACK_ALLOW_NATIVE", "1")
    with library.load(path) as model:
        assert library.c.edgepack_engine(model) == b"tvm"
    with pytest.raises(Refused, match="ConfigError"), library.load(path, allow_native=-1):
        pass


@pytest.mark.slow
def test_forged_bundles_end_as_in_python(library: Library, tmp_path: Path) -> None:
    """What is refused, and what fails or passes verification, is so in both: damaged golden vectors and models too."""
    good = small_bundle(tmp_path / "good", channels=2).read_bytes()
    ends: Counter[str] = Counter()
    for seed in range(150):
        path = tmp_path / "x.edgepack"
        path.write_bytes(forged(good, seed))
        python = outcome(lambda path=path: verify(path).passed)
        found = outcome(lambda path=path: library.verify(path)["passed"])
        assert found == python, f"seed {seed}"
        ends[found] += 1
    assert {"passed", "failed", "BundleError"} <= ends.keys()


def outcome(work: Callable[[], bool]) -> str:
    """Return how a verification ended, or the kind of its error."""
    try:
        return "passed" if work() else "failed"
    except EdgepackError as error:
        return type(error).__name__
    except Refused as refused:
        return refused.kind
