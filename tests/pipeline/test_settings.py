from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.errors import ConfigError
from edgepack.pipeline.plan import resolve
from edgepack.pipeline.settings import BuildSettings, check_max_drop, parse_shape, read_settings


def settings(**changes: object) -> BuildSettings:
    return BuildSettings(**{"model": "net.onnx", "data": "pictures", **changes})  # type: ignore[arg-type]


def test_the_name_comes_from_the_model() -> None:
    assert resolve(settings()).name == "net"
    assert resolve(settings(model="folder/my net.py:make")).name == "my-net"
    assert resolve(settings(model="pack.age:make")).name == "pack.age"
    assert resolve(settings()).out == Path("artifacts/net")


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"targets": ()}, "no target", "edgepack targets"),
        ({"targets": ("a", "a")}, "given twice", "once"),
        ({"precisions": ("int8",), "data": None}, "needs samples", "--data"),
        ({"precisions": ("as-is", "fp32")}, "has no fp32", "by itself"),
        ({"precisions": ("as-is",), "requantize": True}, "contradict", "one of the two"),
        ({"max_drop": 1.5}, "out of range", "0.015"),
        ({"samples": 0}, "out of range", "from 1"),
        ({"metric": "top_1"}, "unknown metric", "top1"),
        ({"metric": "sqnr", "max_drop": 0.1}, "does not apply", "agreement"),
        ({"metric": "top1", "data": None}, "needs samples", "--eval"),
        ({"max_drop": 0.1, "data": None}, "needs samples", "--eval"),
        ({"observer": "minmax", "percentile": 99.0}, "cannot be used with", "--observer percentile"),
        ({"name": "../x"}, "not allowed", "letters"),
        ({"version": "a b"}, "not allowed", "letters"),
        ({"duration_s": 0.0}, "out of range", "from 0.05"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(settings(**changes))
    assert hint in caught.value.hint


def test_a_model_that_keeps_its_integers_makes_int8_bundles_and_needs_no_samples() -> None:
    plan = resolve(settings(precisions=("as-is",), data=None))
    assert plan.as_is
    assert [precision for _, precision in plan.rows()] == ["int8"]


def test_a_file_is_read_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    file = tmp_path / "edgepack.toml"
    file.write_text(
        'model = "net.py:make"\ndata = "pictures"\nmetric = "score.py:f"\nrecipe = "imagenet"\n'
        'targets = ["host-onnxruntime", "board.toml"]\nprecisions = ["fp32", "int8"]\n[shapes]\nx = "1x3"\n'
    )
    found = read_settings(file)
    assert found.model == f"{tmp_path}/net.py:make"
    assert found.data == f"{tmp_path}/pictures"
    assert found.metric == f"{tmp_path}/score.py:f"
    assert found.recipe == "imagenet"
    assert found.targets == ("host-onnxruntime", f"{tmp_path}/board.toml")
    assert found.shapes == {"x": "1x3"}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('mdel = "x"', "did you mean 'model'"),
        ('model = "x"\nprecisions = ["int7"]', "did you mean 'int8'"),
        ('model = "x"\nseed = "a"', "a whole number"),
        ("model = [", "correct that line"),
        ("model = 3", "text"),
        ("", "add model"),
        ('model = "x"\nobserver = "min-max"', "did you mean 'minmax'"),
    ],
)
def test_a_wrong_file_says_what_to_write(tmp_path: Path, text: str, hint: str) -> None:
    file = tmp_path / "edgepack.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_settings(file)
    assert hint in caught.value.hint
    assert str(file) in caught.value.message


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(tmp_path / "edgepack.toml")
    assert "edgepack init" in caught.value.hint


def test_shapes() -> None:
    assert parse_shape("x", "Nx3x224x224") == ("N", 3, 224, 224)
    assert parse_shape("x", "1,16") == (1, 16)
    for text in ("", "0x3", "3x", "-1", "3x3.5"):
        with pytest.raises(ConfigError):
            parse_shape("x", text)


def test_a_drop_is_in_the_unit_of_its_metric() -> None:
    check_max_drop(2.0, "mae")
    check_max_drop(0.02, "cer")
    check_max_drop(None, "top1")
    with pytest.raises(ConfigError, match="--max-drop 2 is out of range for cer") as caught:
        check_max_drop(2.0, "cer")
    assert "0.02" in (caught.value.hint or "")
