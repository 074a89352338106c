"""An engine of another package, known by its entry point alone, does the whole job; a broken one is a warning.

The engine is a test double, ``tests/helpers/toy_engine``; its package is laid on the path as an installer would.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from small_bundles import small_onnx
from toy_engine.engine import VERSION

from edgepack.benchmark.tune.candidates import changes
from edgepack.bundle.archive import open_bundle
from edgepack.cli.main import cli
from edgepack.engines import ENGINES, doctor, get_backend
from edgepack.engines.targets import list_targets, load_target
from edgepack.errors import CompileError, ConfigError, ToolchainError
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.settings import BuildSettings
from edgepack.runtime.load import load
from edgepack.runtime.verify import verify
from edgepack.specs.build import BuildResult
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.slow


def install(folder: Path, name: str, entry: str) -> None:
    """Lay a package with an engine into a folder, as an installer does; its modules are elsewhere on the path."""
    info = folder / f"{name}-{VERSION}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n")
    (info / "entry_points.txt").write_text(f"[edgepack.engines]\n{entry}\n")


@pytest.fixture(scope="module", autouse=True)
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Both packages, and a cache of the tests' own."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "toy_engine", "toy = toy_engine.facts:ENGINE")
    install(folder, "broken_engine", "broken = broken_engine:ENGINE")
    (folder / "broken_engine.py").write_text("import no_such_module_here\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        # Measuring processes begin with the environment's path alone, where an installed package would be.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("EDGEPACK_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_onnx(tmp_path_factory.mktemp("model") / "small.onnx", opset=21)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, image=np.random.default_rng(1).standard_normal((24, 3, 8, 8)).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def built(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    folder = tmp_path_factory.mktemp("built")
    settings = BuildSettings(
        str(model), targets=("host-toy",), precisions=("fp32", "int8"), data=str(data), out=str(folder / "out"),
        method="plain", duration_s=0.3,
    )  # fmt: skip
    return build(settings, Store(folder / "store"))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Run the command line in this process and return its standard output."""

    def invoke(*words: object) -> str:
        done = CliRunner().invoke(cli, [str(word) for word in words])
        assert done.exit_code == 0, done.stderr
        return done.stdout

    return invoke


def bundle_of(result: BuildResult, precision: str) -> Path:
    return Path(next(row.bundle or "" for row in result.rows if row.precision == precision))


# --- the whole job ----------------------------------------------------------------------------------------------------


def test_it_is_built_and_measured_in_both_precisions(built: BuildResult) -> None:
    assert [(row.target, row.precision, row.status) for row in built.rows] == [
        ("host-toy", "fp32", "ok"),
        ("host-toy", "int8", "ok"),
    ], [row.reason for row in built.rows]
    for row in built.rows:
        assert row.latency_ns is not None, row.notes
        assert row.latency_ns.p50 > 5_000_000  # it waits 5 ms
        assert row.sqnr_db is not None


def test_its_bundle_says_what_a_device_needs(built: BuildResult) -> None:
    manifest = open_bundle(bundle_of(built, "fp32")).manifest
    (payload,) = manifest.payloads
    assert (payload.backend, payload.entry, payload.device) == ("toy", "model/toy/model.toy", "CPU")
    assert manifest.requirements.engine == {"toy": "1.1"}
    assert (manifest.requirements.arch, manifest.requirements.isa) == (None, ())  # .toy is portable
    assert manifest.toolchain["toy"] == VERSION


def test_its_own_table_says_what_is_int8(built: BuildResult, run: Callable[..., str]) -> None:
    found = json.loads(run("inspect", bundle_of(built, "int8"), "--layers", "--json"))
    layers = {layer["operator"]: layer for layer in found["layers"]}
    assert (layers["Conv"]["asked"], layers["MatMul"]["asked"]) == ("int8", "fp32")
    assert layers["Conv"]["executed"] == "fp32"
    assert layers["Conv"]["kernel"] == "toy Conv"
    assert layers["Conv"]["time_ns"] > 0
    assert "Toy runs toy Conv in float32" in layers["Conv"]["reason"]
    assert found["versions"] == {"toy": VERSION}


def test_a_payload_without_records_is_asked_itself(built: BuildResult, run: Callable[..., str]) -> None:
    found = json.loads(run("inspect", bundle_of(built, "fp32"), "--layers", "--json"))
    assert [layer["operator"] for layer in found["layers"]] == [
        "Conv",
        "Relu",
        "GlobalAveragePool",
        "Flatten",
        "MatMul",
    ]
    assert all(layer["executed"] == "fp32" for layer in found["layers"])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_it_loads_and_proves_itself(built: BuildResult, precision: str) -> None:
    bundle = bundle_of(built, precision)
    result = verify(bundle, RunOptions())
    assert (result.passed, result.engine, dict(result.versions)) == (True, "toy", {"toy": VERSION})
    with load(bundle) as model:
        assert model.infer({"image": np.zeros((3, 3, 8, 8), np.float32)})["scores"].shape == (3, 5)
        with pytest.raises(Exception, match="image"):
            model.infer({"image": np.zeros((3, 8, 8), np.float32)})


def test_it_is_compiled_and_packed_stage_by_stage(model: Path, tmp_path: Path, run: Callable[..., str]) -> None:
    store = ("--store", tmp_path / "store")
    run("export", model, "-o", tmp_path / "m.onnx", *store)
    run("compile", tmp_path / "m.onnx", "--target", "host-toy", "-o", tmp_path / "compiled", *store)
    run(
        "pack", tmp_path / "compiled", "--model", tmp_path / "m.onnx", "--target", "host-toy",
        "-o", tmp_path / "m.edgepack", *store,
    )  # fmt: skip
    assert verify(tmp_path / "m.edgepack", RunOptions()).passed
    assert json.loads(run("check", tmp_path / "m.onnx", "--target", "host-toy", "--json"))["diagnostics"] == []


def test_it_is_benchmarked(built: BuildResult, run: Callable[..., str]) -> None:
    words = ["--duration", "300ms", "--warmup", "20ms", "--launches", "2", "--json"]
    found = json.loads(run("benchmark", bundle_of(built, "fp32"), *words))
    assert found["engine"] == "toy"
    assert found["queries"] >= 10


def test_its_options_are_tuned(built: BuildResult, run: Callable[..., str]) -> None:
    assert changes("toy", 2, "SingleStream", free_batch=True)[-1] == ("optimization", "off")
    found = json.loads(run("tune", bundle_of(built, "fp32"), "--duration", "5s", "--json"))
    assert found["trials"]
    assert all(trial["reason"] is None for trial in found["trials"])
    assert found["device"]["version toy"] == VERSION


def test_its_kernels_are_tuned_by_itself(model: Path, data: Path, tmp_path: Path, run: Callable[..., str]) -> None:
    """All that edgepack knows of them is what its records say: specs/kernels.py."""
    store = ("--store", tmp_path / "store")
    words = ("--target", "host-toy", "--minutes", "0.01", "--seed", "3", *store)
    found = json.loads(run("tune", model, *words, "--json"))
    assert next(kernel["kernel"] for kernel in found["search"]["kernels"]) == "toy Conv"
    assert {(kernel["state"], kernel["trials"]) for kernel in found["search"]["kernels"]} == {("new", 3)}
    assert (found["whole"]["ratio"], found["versions"]) == (0.5, {"toy": VERSION})
    again = run("tune", model, *words)
    assert "5 kernels known from records, 0 similar to a known one, 0 new" in again
    assert "the whole model takes 0.500 times as long as by default" in again
    run("tune", "--target", "host-toy", "--export", tmp_path / "toy.json")
    merged = json.loads(run("tune", "--target", "host-toy", "--merge", tmp_path / "toy.json", "--json"))
    assert (merged["kernels"], merged["merged"]) == (5, 0)
    # a build is made again when the records change
    settings = BuildSettings(
        str(model), targets=("host-toy",), precisions=("fp32",), data=str(data), out=str(tmp_path / "out"),
        benchmark=False,
    )  # fmt: skip
    kept = Store(tmp_path / "store")
    build(settings, kept)
    assert build_again(settings, kept) == []
    (tmp_path / "more.json").write_text('{"Other": 0.9}')
    run("tune", "--target", "host-toy", "--merge", tmp_path / "more.json")
    assert build_again(settings, kept) == ["compile"]


def build_again(settings: BuildSettings, store: Store) -> list[str]:
    again = Store(store.folder)
    build(settings, again)
    return list(again.ran)


def test_the_doctor_tries_it(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one of edgepack's own: test_doctor.py tries all of those, for seconds."""
    tools, asked = doctor.tools, ("onnxruntime", "toy", "broken")
    monkeypatch.setattr(doctor, "tools", lambda: tuple(tool for tool in tools() if tool.name in asked))
    found = {report["name"]: report for report in json.loads(run("doctor", "--json"))["engines"]}
    toy = found["toy"]
    assert (toy["works"], toy["version"], toy["devices"], toy["precisions"]) == (
        True,
        VERSION,
        ["CPU"],
        ["fp32", "int8"],
    )
    assert toy["summary"].startswith("builds and runs on CPU in fp32, int8")
    assert "broken" not in found
    assert found["onnxruntime"]["works"]


# --- profiles ---------------------------------------------------------------------------------------------------------


def test_this_host_is_a_target_of_it_and_so_is_a_file(tmp_path: Path) -> None:
    assert load_target("host-toy").title.endswith(", Toy")
    path = tmp_path / "board.toml"
    path.write_text('id = "board"\ntitle = "B"\nbackend = "toy"\narch = "aarch64"\n[engine]\nmax_opset = 17\n')
    target = load_target(str(path))
    assert (target.backend, target.quantization.engine) == ("toy", "toy")
    path.write_text('id = "board"\ntitle = "B"\nbackend = "toi"\narch = "aarch64"\n')
    with pytest.raises(ConfigError, match="backend: 'toi' is not known") as caught:
        load_target(str(path))
    assert caught.value.hint == "did you mean 'toy'?"


def test_an_opset_that_is_too_high_is_said_in_the_same_words(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text('id = "board"\ntitle = "B"\nbackend = "toy"\narch = "aarch64"\n[engine]\nmax_opset = 17\n')
    done = CliRunner().invoke(cli, ["check", str(model), "--target", str(path)])
    assert done.exit_code == 4
    assert "the model uses opset 21; Toy on board knows opsets up to 17" in " ".join(done.stdout.split())


# --- one that is broken -----------------------------------------------------------------------------------------------


def test_a_broken_one_is_a_warning_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "edgepack"):
        names = [target.id for target in list_targets()]
    assert "host-toy" in names
    assert "host-broken" not in names
    assert "'broken'" in caplog.text
    assert "no_such_module_here" in caplog.text


def test_who_asks_for_a_broken_one_is_told_why() -> None:
    assert "broken" in ENGINES
    for ask in (lambda: get_backend("broken"), lambda: load_target("host-broken")):
        with pytest.raises(ToolchainError, match=r"broken.*broken_engine.*no_such_module_here"):
            ask()


def test_a_damaged_payload_is_refused_as_with_other_engines(tmp_path: Path, model: Path) -> None:
    from edgepack.graph.load import load_model

    compiled = get_backend("toy").compile_model(load_model(model), load_target("host-toy"), "fp32", tmp_path / "out")
    (tmp_path / "out" / compiled.entry).unlink()
    with pytest.raises(CompileError, match=r"model\.toy is missing from the compiled model"):
        get_backend("toy").load_model(compiled, RunOptions())
