"""The commands on this installation: recipes and plans."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgepack.benchmark.machine import advice
from edgepack.cli.tools import doctor
from edgepack.data.recipes import load_recipe
from edgepack.specs.model import Diagnostic

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py


def test_a_recipe_is_shown_with_its_sources(edgepack: Run) -> None:
    ran = edgepack("recipes", "show", "imagenet")
    assert (ran.code, ran.err) == (0, "")
    for words in ("preprocessing.crop", "224 224", "0.485 0.456 0.406", "torchvision.transforms"):
        assert words in ran.out
    assert json.loads(edgepack("recipes", "show", "imagenet", "--json").out)["preprocessing"]["crop"] == [224, 224]
    for words in (("recipes",), ("recipes", "list")):
        assert [recipe["name"] for recipe in json.loads(edgepack(*words, "--json").out)] == [
            *sorted(path.stem for path in (Path(__file__).parents[2] / "calibration").glob("*.toml"))
        ]


def test_a_recipe_of_ones_own_begins_as_another(edgepack: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    assert edgepack("recipes", "new", mine, "--from", "cifar10").code == 0
    found, origin = load_recipe(str(mine)), load_recipe("cifar10")
    assert (found.name, found.preprocessing) == ("mine", origin.preprocessing)
    mine.write_text(mine.read_text().replace('title = "', 'title = "my '))
    again = edgepack("recipes", "new", mine)
    assert again.code == 2
    assert "already exists" in again.err
    assert load_recipe(str(mine)).title.startswith("my ")
    other = tmp_path / "other.toml"
    assert edgepack("recipes", "new", other, "--from", mine).code == 0
    assert load_recipe(str(other)).title.startswith("my ")
    assert edgepack("recipes", "new", mine, "--force").code == 0
    assert load_recipe(str(mine)).title == load_recipe("imagenet").title


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("recipes", "show", "imagnet"), "did you mean 'imagenet'"),
        (("recipes", "shwo"), "did you mean 'show'"),
        (("recipes", "new", "mine"), "write mine.toml"),
        (("recipes", "new", "mine.toml", "--from", "imagnet"), "did you mean 'imagenet'"),
    ],
)
def test_what_cannot_be_meant_is_refused(refusal: Callable[..., str], words: tuple[str, ...], said: str) -> None:
    assert said in refusal(words)


def test_a_plan_takes_what_a_build_takes_and_writes_nothing(
    edgepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").touch()
    (tmp_path / "pictures").mkdir()
    before = sorted(tmp_path.iterdir())
    words = (
        "plan",
        "net.onnx",
        "-t",
        "host-onnxruntime,rpi5",
        "-p",
        "fp32,bf16",
        "--max-drop",
        "1pt",
        "-d",
        "pictures",
    )
    ran = edgepack(*words)
    assert (ran.code, sorted(tmp_path.iterdir())) == (0, before)
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["raspberry-pi-5", "fp32", "build", "onnxruntime", "not", "measured"] in [line[:6] for line in lines]
    assert ["raspberry-pi-5", "bf16", "skipped"] in [line[:3] for line in lines]
    assert "raspberry-pi-5 does not offer bf16" in ran.out
    assert "edgepack build net.onnx --target host-onnxruntime --target raspberry-pi-5" in ran.err
    assert "--max-drop 0.01" in ran.err
    found = json.loads(edgepack(*words, "--json").out)
    assert [row["status"] for row in found["rows"]] == ["build", "skipped", "build", "skipped"]
    assert edgepack(*words, "--strict").code == 2


@pytest.mark.parametrize(("severity", "code"), [("error", 1), ("warning", 0)])
@pytest.mark.parametrize("words", [["--benchmark"], ["--benchmark", "--json"]])
def test_a_machine_on_which_a_measurement_would_not_count_is_told_by_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, severity: str, code: int, words: list[str]
) -> None:
    found = (Diagnostic("note", "no sensor"), Diagnostic(severity, "others took the CPU"))  # type: ignore[arg-type]
    monkeypatch.setattr(advice, "doctor_benchmark", lambda: found)
    ran = CliRunner().invoke(doctor, words)
    assert ran.exit_code == code
    assert "others took the CPU" in ran.output
