"""What a target will refuse of an ONNX file."""

from __future__ import annotations

from pathlib import Path

import pytest
from graph_models import small_conv, write
from small_bundles import small_onnx

from edgepack.engines.common.proxy import ProxyReport
from edgepack.engines.targets import load_target
from edgepack.errors import ConfigError, ModelError
from edgepack.pipeline.check import CheckReport, check_file, check_loaded
from edgepack.specs.model import Diagnostic

ERROR, WARNING = Diagnostic("error", "no"), Diagnostic("warning", "slow")


@pytest.mark.parametrize(
    ("diagnostics", "proxy", "passed"),
    [
        ((), None, True),
        ((WARNING,), None, True),
        ((WARNING, ERROR), None, False),
        ((), ProxyReport("1", (), (WARNING,), "p"), True),
        ((), ProxyReport("1", (), (ERROR,), "p"), False),
    ],
)
def test_an_error_of_either_fails(diagnostics: tuple[Diagnostic, ...], proxy: ProxyReport | None, passed: bool) -> None:
    assert CheckReport("m.onnx", "board", diagnostics, proxy).passed == passed


def test_a_good_file_passes_in_a_child_process(tmp_path: Path) -> None:
    found = check_file(small_onnx(tmp_path / "m.onnx"), "host-onnxruntime")
    assert (found.model, found.target, found.diagnostics, found.proxy) == ("m.onnx", "host-onnxruntime", (), None)


def test_what_the_engine_refuses_is_found(tmp_path: Path) -> None:
    proto = small_conv()
    proto.opset_import[0].version = 17
    path = write(proto, tmp_path)
    (tmp_path / "old.toml").write_text(
        'id = "old"\ntitle = "Old"\nbackend = "onnxruntime"\narch = "aarch64"\n[engine]\nmax_opset = 13\n'
    )
    found = check_loaded(path, load_target(str(tmp_path / "old.toml")))
    assert [d.severity for d in found.diagnostics] == ["error"]
    assert "knows opsets up to 13" in found.diagnostics[0].message
    assert found.model.opset == 17


@pytest.mark.parametrize("name", ["raspberry-pi-5", "host-onnxruntime"])
def test_a_proxy_is_of_engines_that_have_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"but {name} uses onnxruntime") as caught:
        check_file(small_onnx(tmp_path / "m.onnx"), name, proxy=True)
    assert caught.value.hint == "leave --proxy out"


def test_what_is_no_onnx_file_is_refused_here(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"text")
    with pytest.raises(ModelError):
        check_file(tmp_path / "m.onnx", "host-onnxruntime")
    with pytest.raises(ModelError):
        check_file(tmp_path / "nothing.onnx", "host-onnxruntime")


def test_an_unknown_target_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown target 'raspberry-pi-6'"):
        check_file(tmp_path / "nothing.onnx", "raspberry-pi-6")
