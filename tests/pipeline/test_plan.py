"""What the settings of a build come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgepack.data.split import DEFAULT_SAMPLES
from edgepack.errors import ConfigError
from edgepack.pipeline.plan import BuildPlan, resolve
from edgepack.pipeline.settings import BuildSettings
from edgepack.specs.data import Recipe


def plan(**changes: Any) -> BuildPlan:
    return resolve(BuildSettings(**{"model": "net.onnx", "data": "pictures", **changes}))


def test_rows_are_every_target_in_every_precision() -> None:
    found = plan(targets=("host-onnxruntime", "raspberry-pi-5"), precisions=("fp32", "int8"))
    assert [(target.id, precision) for target, precision in found.rows()] == [
        ("host-onnxruntime", "fp32"),
        ("host-onnxruntime", "int8"),
        ("raspberry-pi-5", "fp32"),
        ("raspberry-pi-5", "int8"),
    ]
    target = found.targets[1]
    assert found.bundle(target, "int8") == Path("artifacts/net/net-raspberry-pi-5-int8.edgepack")


def test_two_profiles_of_one_id_are_refused(tmp_path: Path) -> None:
    text = 'id = "board"\ntitle = "B"\nbackend = "onnxruntime"\narch = "aarch64"\n'
    paths = []
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(text)
        paths.append(str(tmp_path / name))
    with pytest.raises(ConfigError, match="two targets have the id 'board'"):
        plan(targets=tuple(paths))


def test_without_a_recipe_the_usual_holds() -> None:
    found = plan()
    assert (found.recipe, found.preprocessing) == (None, None)
    usual = Recipe("any", "Any")
    assert (found.observer, found.percentile) == (usual.observer, usual.percentile)
    assert found.request.default == DEFAULT_SAMPLES


def test_a_recipe_says_how_pictures_are_prepared_and_how_many(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ntitle = "Mine"\nsamples = 17\nobserver = "percentile"\npercentile = 99.5\n'
        "[preprocessing]\nresize = [8, 8]\n"
    )
    found = plan(recipe=str(tmp_path / "mine.toml"))
    assert (found.observer, found.percentile) == ("percentile", 99.5)
    assert found.preprocessing is not None
    assert found.preprocessing.resize == (8, 8)
    assert (found.request.default, found.request.preprocessing) == (17, found.preprocessing)
    assert plan(recipe=str(tmp_path / "mine.toml"), observer="mse").observer == "mse"


def test_a_request_asks_for_what_was_set() -> None:
    request = plan(eval="others", samples=5, eval_samples=6, seed=7, shapes={"x": "1x3xHx8"}).request
    assert (request.data, request.eval_data, request.samples, request.eval_samples, request.seed) == (
        "pictures", "others", 5, 6, 7,
    )  # fmt: skip
    assert request.shapes == {"x": (1, 3, "H", 8)}


def test_the_settings_of_a_plan_have_their_name() -> None:
    assert plan().settings.name == "net"
    assert plan(name="other", out="there").out == Path("there")
