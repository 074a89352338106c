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

pytestmark = pytest.mark.slow


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return a call of ``build`` that gives back the settings which the pipeline was asked for."""
    monkeypatch.setattr("edgepack.pipeline.build.build", lambda settings, store, events: settings)
    return lambda *arguments, **words: edgepack.build(*arguments, store=tmp_path / "store", **words)


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
    assert "targets must be a name or a list of names, not a int" in done.stderr


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        edgepack.bild  # noqa: B018


@pytest.mark.parametrize("targets", ["host-onnxruntime", ["host-onnxruntime"], ("host-onnxruntime",)])
def test_one_name_or_several(asked: Any, targets: Any) -> None:
    settings = asked("net.onnx", targets=targets, precisions="int8", data=Path("data.npz"), max_drop=0.01)
    assert settings == BuildSettings(
        "net.onnx", targets=("host-onnxruntime",), precisions=("int8",), data="data.npz", max_drop=0.01
    )


def test_settings_are_taken_and_changed(asked: Any) -> None:
    settings = asked(BuildSettings("net.onnx", seed=3), precisions=["fp32", "int8"])
    assert (settings.model, settings.seed, settings.precisions) == ("net.onnx", 3, ("fp32", "int8"))


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        (5, {}, "model must be a path or a torch.nn.Module, not a int"),
        (int, {}, "not the class int"),
        ("net.onnx", {"targets": 5}, "targets must be a name or a list of names, not a int"),
        ("net.onnx", {"targets": [5]}, "targets must be a name or a list of names, not a list"),
        ("net.onnx", {"data": np.zeros(3)}, "data must be a path, not a ndarray"),
        ("net.onnx", {"max_dropp": 0.1}, "build() has no setting 'max_dropp'"),
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
    with pytest.raises(ConfigError, match="bundle must be a path"):
        edgepack.load(5)  # type: ignore[arg-type]


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
