"""What ``from edgepack import ...`` promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_bundles import small_onnx

import edgepack
from edgepack import BuildSettings, api
from edgepack.errors import ConfigError
from edgepack.pipeline.settings import check_settings

pytestmark = pytest.mark.slow


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return a call of ``build`` that gives back the settings which the pipeline was asked for."""
    monkeypatch.setattr("edgepack.pipeline.build.build", lambda settings, store, events: check_settings(settings))
    return lambda *arguments, **words: edgepack.build(*arguments, **{"store": tmp_path / "store", **words})


def test_importing_edgepack_imports_nothing_else() -> None:
    code = "import sys, edgepack; print(*(n for n in sys.modules if n.startswith('edgepack.') or n == 'numpy'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", sorted(edgepack._PUBLIC))
def test_every_promised_name_is_there(name: str) -> None:
    assert name in dir(edgepack)
    code = f"from edgepack import {name}; import edgepack; assert edgepack.{name} is {name}; print(callable({name}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"], done.stderr


def test_a_name_stays_what_it_is_after_its_modules_were_imported() -> None:
    code = "import edgepack, edgepack.api\nedgepack.build('x.onnx', targets=5)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "targets must be a name or a list of names, not an int" in done.stderr


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        edgepack.bild  # noqa: B018


@pytest.mark.parametrize("targets", ["host-onnxruntime", ["host-onnxruntime"], ("host-onnxruntime",)])
def test_one_name_or_several(asked: Any, targets: Any) -> None:
    settings = asked("net.onnx", targets=targets, precisions="int8", data=Path("data.npz"), max_drop=0.01)
    assert settings == BuildSettings(
        "net.onnx", targets=("host-onnxruntime",), precisions=("int8",), data="data.npz", max_drop=0.01, name="net"
    )


def test_what_a_program_has_is_taken(asked: Any) -> None:
    """Commas as on the command line, paths, numbers of numpy, shapes as they are there, settings of one name."""
    found = asked(
        "net.onnx", targets="host-onnxruntime, raspberry-pi-5", data=Path("x.npz"), samples=np.int64(9),
        max_drop=np.float32(0.5), weights=Path("w.pt"), shapes={"x": (1, 3, "H", 8), "y": [2], "z": "Nx4"},
    )  # fmt: skip
    assert (found.targets, found.data, found.weights) == (("host-onnxruntime", "raspberry-pi-5"), "x.npz", "w.pt")
    assert (found.samples, found.max_drop, type(found.samples)) == (9, 0.5, int)
    assert found.shapes == {"x": "1x3xHx8", "y": "2", "z": "Nx4"}
    assert asked("net.onnx", shapes=(1, 3, 8, 8)).shapes == asked("net.onnx", shapes="1x3x8x8").shapes
    one: Any = BuildSettings(Path("net.onnx"), targets="host-onnxruntime", precisions=["fp32"])  # type: ignore[arg-type]
    assert asked(one) == asked(BuildSettings("net.onnx"))


def test_settings_are_taken_and_changed(asked: Any) -> None:
    settings = asked(BuildSettings("net.onnx", seed=3), precisions=["fp32", "bf16"])
    assert (settings.model, settings.seed, settings.precisions) == ("net.onnx", 3, ("fp32", "bf16"))


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        (5, {}, "model must be a path or a torch.nn.Module, not an int"),
        (int, {}, "not the class int"),
        ("net.onnx", {"targets": 5}, "targets must be a name or a list of names, not an int"),
        ("net.onnx", {"targets": [5]}, "targets must be a name or a list of names, not a list"),
        ("net.onnx", {"data": np.zeros(3)}, "data must be a path, not an ndarray"),
        ("net.onnx", {"max_dropp": 0.1}, "build() has no setting 'max_dropp'"),
        (None, {}, "model must be a path or a torch.nn.Module, not None"),
        ("net.onnx", {"targets": {"host-tvm"}}, "targets must be a name or a list of names, not a set"),
        ("net.onnx", {"precisions": "INT8"}, "build(): precisions[0]: 'INT8' is not one of the allowed values"),
        ("net.onnx", {"metric": len}, "build(): metric: expected text, found <built-in function len>"),
        ("net.onnx", {"max_drop": "1pt"}, "build(): max_drop: expected a number, found '1pt'"),
        ("net.onnx", {"max_drop": 5}, "--max-drop 5 is out of range"),
        ("net.onnx", {"samples": 1.5}, "build(): samples: expected a whole number, found 1.5"),
        ("net.onnx", {"samples": "100"}, "build(): samples: expected a whole number, found '100'"),
        ("net.onnx", {"benchmark": "no"}, "build(): benchmark: expected true or false, found 'no'"),
        ("net.onnx", {"method": "fast"}, "build(): method: 'fast' is not one of the allowed values"),
        ("net.onnx", {"shapes": {"x": 5}}, "build(): shapes: x: expected text, found 5"),
        ("net.onnx", {"shapes": {8, 3}}, "build(): shapes: expected a table"),
        ("net.onnx", {"task": 5}, "build(): task: expected text, found 5"),
        ("net.onnx", {"store": 5}, "store must be a path, not an int"),
        ("net.onnx", {"events": print}, "events must have the methods of Events, not a builtin_function_or_method"),
        (BuildSettings("net.onnx", duration_s="2s"), {}, "build(): duration_s: expected a number, found '2s'"),
        (BuildSettings("net.onnx", samples=[1]), {}, "build(): samples: expected a whole number, found [1]"),
    ],
)
def test_what_cannot_be_meant_is_said(asked: Any, model: Any, words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(model, **words)
    assert message in caught.value.message
    assert caught.value.hint


def test_load_takes_text_and_paths(bundle_path: Path) -> None:
    for place in (bundle_path, str(bundle_path)):
        with edgepack.load(place) as model:
            feeds = {s.name: np.zeros([d if isinstance(d, int) else 1 for d in s.shape], s.dtype) for s in model.inputs}
            assert set(model.infer(feeds)) == {spec.name for spec in model.outputs}
            assert repr(model) == (
                "<LoadedModel small 1.0 fp32 on onnxruntime; image float32 [N, 3, 8, 8] -> scores float32 [N, 5]>"
            )
    for arguments, words, said in (
        ((5,), {}, "bundle must be a path, not an int"),
        ((bundle_path, {"threads": 1}), {}, "options must be RunOptions, not a dict"),
        ((bundle_path, edgepack.RunOptions(threads="2")), {}, "RunOptions: threads: expected a whole number"),  # type: ignore[arg-type]
        ((bundle_path, edgepack.RunOptions(threads=0)), {}, "threads"),
        ((bundle_path,), {"batch": 0}, "batch must be a whole number from 1, not 0"),
        ((bundle_path,), {"batch": "2"}, "batch must be a whole number from 1, not '2'"),
    ):
        with pytest.raises(ConfigError) as caught:
            edgepack.load(*arguments, **words)  # type: ignore[call-overload]
        assert said in caught.value.message


def test_a_build_shows_itself_shortly(tmp_path: Path) -> None:
    result = edgepack.build(
        small_onnx(tmp_path / "net.onnx"), targets="host-onnxruntime", out=tmp_path / "out", benchmark=False
    )
    assert [row.status for row in result.rows] == ["ok"]
    assert repr(result).startswith("<BuildResult net: 1 rows in ")
    assert "<BuildRow host-onnxruntime fp32 ok; MB " in repr(result)
    assert len(repr(result.rows[0])) < 150
    page = result._repr_html_()
    assert page.count("<tr>") == 2
    assert "<td>host-onnxruntime</td>" in page


def test_names_of_strangers_are_text_in_a_notebook(tmp_path: Path) -> None:
    result = edgepack.BuildResult("<script>", (edgepack.BuildRow("<b>", "fp32", "ok"),), (), "out", None, {}, 0, 0)
    assert "<script>" not in result._repr_html_()
    assert "<b>" not in result._repr_html_()


def test_progress_is_shown_where_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    with api._shown(None) as events:
        assert events is None
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    with api._shown(None) as events:
        assert events is not None
    own: Any = object()
    with api._shown(own) as events:
        assert events is own


@pytest.mark.slow
def test_a_torch_module_in_memory_is_built(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    np.savez(tmp_path / "data.npz", input=np.random.default_rng(0).random((20, 3, 4), dtype=np.float32))
    result = edgepack.build(
        module,
        precisions=["fp32", "int8"],
        data=tmp_path / "data.npz",
        out=tmp_path / "out",
        benchmark=False,
        name="net",
    )
    assert [row.status for row in result.rows] == ["ok", "ok"]
    assert module.training, "the user's module is left as it was"
    x = np.random.default_rng(1).random((1, 3, 4), dtype=np.float32)
    with edgepack.load(result.rows[0].bundle or "") as model:
        found = model.infer({"input": x})["output"]
    np.testing.assert_allclose(found, module.eval()(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
