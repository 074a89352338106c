import dataclasses

from click.testing import CliRunner

from edgepack.cli.main import cli
from edgepack.errors import ConfigError
from edgepack.pipeline.command_line import build_command
from edgepack.pipeline.settings import BuildSettings

FULL = BuildSettings(
    model="my model.py:make",
    targets=("host-onnxruntime", "board.toml"),
    precisions=("fp32", "int8"),
    name="net",
    version="7",
    data="pictures",
    eval="more pictures",
    recipe="digits.toml",
    samples=32,
    eval_samples=64,
    task="image-classification",
    skip_bad=3,
    observer="percentile",
    percentile=99.9,
    method="plain",
    effort="high",
    metric="top5",
    max_drop=0.02,
    min_sqnr=12.0,
    max_change=0.02,
    allow_poor=True,
    strict=True,
    seed=3,
    out="there",
    shapes={"input": "Nx3x8x8"},
    constants={"rate": "16000"},
    compile_limit_s=30.0,
    tune_minutes=2.5,
    duration_s=0.5,
    benchmark=False,
    measure_on=("pi@camera",),
    embed=("preprocessing",),
    gallery=True,
    python="venv/bin/python",
    trust_code=True,
    download=True,
    module="net.py:Net",
    weights="net.pth",
    signature="serve",
    requantize=True,
)


def parsed(words, monkeypatch):
    """The settings that the command line makes of the words of a command."""
    found = []

    def capture(settings, *_):
        found.append(settings)
        raise ConfigError("not built in this test")

    monkeypatch.setattr("edgepack.pipeline.build.build", capture)
    done = CliRunner().invoke(cli, [*words[1:], "--store", "store"])
    assert found, done.output
    return found[0]


def test_every_setting_differs_in_the_full_one():
    default = BuildSettings(model="")
    assert [f.name for f in dataclasses.fields(FULL) if getattr(FULL, f.name) == getattr(default, f.name)] == []


def test_the_command_line_makes_the_same_settings_of_the_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert parsed(build_command(FULL), monkeypatch) == FULL


def test_what_is_the_default_is_left_out(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plain = BuildSettings(model="m.onnx")
    assert build_command(plain) == (
        *("edgepack", "build", "m.onnx", "--target", "host-onnxruntime", "--precision", "fp32"),
    )
    assert parsed(build_command(plain), monkeypatch) == plain


def test_the_words_of_a_row_build_it_alone(tmp_path):
    from edgepack.base.resources import targets_folder
    from edgepack.pipeline.build import _commands
    from edgepack.pipeline.plan import resolve

    board = tmp_path / "board.toml"
    board.write_text((targets_folder() / "raspberry-pi-5.toml").read_text().replace('"raspberry-pi-5"', '"board"'))
    targets = ("host-onnxruntime", str(board))
    settings = BuildSettings(
        "net.onnx", targets, ("fp32", "int8"), data="pictures", recipe="imagenet", out=str(tmp_path)
    )
    commands = tuple(_commands(resolve(settings)))
    assert len(commands) == 4
    assert commands[3][3:7] == ("--target", str(board), "--precision", "int8")
    assert "--out" not in commands[3]


def test_a_shape_without_a_name_is_written_so(monkeypatch):
    settings = BuildSettings(model="net.onnx", shapes={"": "Nx3x8x8"})
    assert "--shape Nx3x8x8" in " ".join(build_command(settings))
    assert parsed(build_command(settings), monkeypatch).shapes == settings.shapes
