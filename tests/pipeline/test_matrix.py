"""Many models: which rows a models.toml asks for, by which settings, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.engines.targets import expand_targets
from edgepack.errors import ConfigError
from edgepack.pipeline.matrix import Matrix, is_matrix, read_matrix

DEFAULTS = '[defaults]\ndata = "data"\ntargets = ["host-onnxruntime", "rpi5"]\nprecisions = ["fp32", "int8"]\n'
MODELS = '[[models]]\nmodel = "a.onnx"\n[[models]]\nmodel = "b.onnx"\nprecisions = ["int8"]\n'


def matrix(folder: Path, text: str, **changes: object) -> Matrix:
    (folder / "models.toml").write_text(text)
    return read_matrix([str(folder / "models.toml")], changes)


def rows(found: Matrix) -> list[str]:
    return [f"{plan.name} {target.id} {precision}" for plan in found.plans for target, precision in plan.rows()]


def test_models_times_targets_times_precisions(tmp_path: Path) -> None:
    found = matrix(tmp_path, 'out = "all"\n' + DEFAULTS + MODELS)
    assert rows(found) == [
        "a host-onnxruntime fp32",
        "a host-onnxruntime int8",
        "a raspberry-pi-5 fp32",
        "a raspberry-pi-5 int8",
        "b host-onnxruntime int8",
        "b raspberry-pi-5 int8",
    ]
    assert (found.name, found.out, found.size) == ("models", tmp_path / "all", 6)
    assert [plan.out for plan in found.plans] == [tmp_path / "all" / "a", tmp_path / "all" / "b"]
    assert found.plans[0].settings.data == str(tmp_path / "data")


def test_rows_are_excluded_then_included_then_changed(tmp_path: Path) -> None:
    text = (
        DEFAULTS
        + MODELS
        + '[[exclude]]\ntargets = ["all-aarch64"]\nprecisions = ["fp32"]\n'
        + '[[include]]\nmodels = ["b"]\ntargets = ["n100"]\nprecisions = ["fp16"]\n'
        + '[[override]]\nmin_sqnr = 20.0\nmethod = "plain"\n'
        + '[[override]]\nmodels = ["b"]\ntargets = ["rpi5"]\nmin_sqnr = 30.0\n'
    )
    found = matrix(tmp_path, text)
    assert rows(found) == [
        "a host-onnxruntime fp32",
        "a host-onnxruntime int8",
        "a raspberry-pi-5 int8",
        "b host-onnxruntime int8",
        "b raspberry-pi-5 int8",
        "b intel-n100 fp16",
    ]
    settings = {
        f"{plan.name} {target.id}": plan.of_row(target, precision).settings
        for plan in found.plans
        for target, precision in plan.rows()
    }
    assert {name: (s.min_sqnr, s.method) for name, s in settings.items()} == {
        "a host-onnxruntime": (20.0, "plain"),
        "a raspberry-pi-5": (20.0, "plain"),
        "b host-onnxruntime": (20.0, "plain"),
        "b raspberry-pi-5": (30.0, "plain"),
        "b intel-n100": (20.0, "plain"),
    }


def test_options_hold_for_all_models(tmp_path: Path) -> None:
    found = matrix(tmp_path, DEFAULTS + MODELS, targets=("all-openvino",), precisions=("fp32",), out="elsewhere")
    assert rows(found) == [f"{model} {name} fp32" for model in "ab" for name in expand_targets(["all-openvino"])]
    assert found.plans[1].out == Path("elsewhere/b")
    with pytest.raises(ConfigError, match="--name cannot be given"):
        matrix(tmp_path, DEFAULTS + MODELS, name="x")


def test_several_files_of_settings_are_many_models(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('model = "a.onnx"\nout = "own"\n')
    (tmp_path / "b.toml").write_text('model = "b.onnx"\n')
    paths = [str(tmp_path / "a.toml"), str(tmp_path / "b.toml")]
    assert is_matrix(paths)
    assert not is_matrix(paths[:1])
    assert not is_matrix(["net.onnx"])
    found = read_matrix(paths, {"out": "all"})
    assert rows(found) == ["a host-onnxruntime fp32", "b host-onnxruntime fp32"]
    assert [plan.out for plan in found.plans] == [tmp_path / "own", Path("all/b")]
    (tmp_path / "c.toml").write_text("model = 'other/b.onnx'\n")
    with pytest.raises(ConfigError, match=r"b\.toml and .*c\.toml: two models are called 'b'"):
        read_matrix([*paths, str(tmp_path / "c.toml")])
    with pytest.raises(ConfigError, match=r"net\.onnx is not an edgepack\.toml"):
        read_matrix([paths[0], "net.onnx"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = []\n", "models is empty"),
        (DEFAULTS + MODELS + "[[models]]\nmodel = 'other/a.onnx'\n", "0 and .*models: 2: two models are called 'a'"),
        (DEFAULTS + MODELS + "[[models]]\nmodell = 'c.onnx'\n", r"models: 2: unknown key 'modell'"),
        (DEFAULTS + MODELS + "[[models]]\nmodel = 'c.onnx'\nout = 'x'\n", r"models: 2: out cannot be set"),
        (DEFAULTS + "name = 'x'\n" + MODELS, "defaults: name cannot be set"),
        (DEFAULTS + MODELS + "[[models]]\nmodel = 'c.onnx'\nmax_drop = 2.0\n", r"models: 2: --max-drop 2 is out"),
        (
            DEFAULTS + MODELS + "[[models]]\nmodel = 'c.onnx'\ntargets = ['all-mars']\n",
            "no group of targets 'all-mars'",
        ),
        (DEFAULTS + MODELS + "[[models]]\nmodel = 'c.onnx'\ntargets = ['mars']\n", "c: unknown target 'mars'"),
        (DEFAULTS + MODELS + "[[exclude]]\nmodels = ['aa']\n", "there is no model 'aa'"),
        (DEFAULTS + MODELS + "[[exclude]]\nprecisions = ['fp16']\n", "no row matches the exclude of fp16"),
        (DEFAULTS + MODELS + "[[exclude]]\nmodels = ['b']\n", "no row is left of b"),
        (DEFAULTS + MODELS + "[[override]]\ntargets = ['rpi5']\n", "an override sets nothing"),
        (DEFAULTS + MODELS + "[[override]]\nseed = 3\n", "unknown key 'seed'"),
        (DEFAULTS + MODELS + "[[override]]\npercentile = 3.0\n", "a: --percentile 3 is out of range"),
        ("models = 3\n", "expected a list"),
        ("[[models]]\nmodel = 'a.onnx'\n[[nodels]]\n", "unknown key 'nodels'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        matrix(tmp_path, text)
    assert caught.value.hint


def test_many_words_and_long_ones_are_not_looked_for_as_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    many = [f"{number}.onnx" for number in range(3000)]  # a shell's *.onnx
    for words in (many, ["net.onnx", "x" * 300]):
        with pytest.raises(ConfigError, match=r"is not an edgepack\.toml") as caught:
            read_matrix(words)
        assert "models.toml" in str(caught.value.hint)
    Path("last of all.onnx").touch()
    with pytest.raises(ConfigError, match="last and of are taken for two models"):
        read_matrix([*many, "last", "of", "all.onnx"])
