"""Which parts an engine takes, by its record and the target's version."""

from __future__ import annotations

import dataclasses

import pytest

from edgepack.embed.embed import check_parts, has, refuse_engine
from edgepack.engines import ENGINES
from edgepack.engines.targets import load_target
from edgepack.errors import ConfigError
from edgepack.specs.data import Preprocessing, Recipe


@pytest.mark.parametrize(
    ("target", "pixels", "suppresses"),
    [
        ("host-onnxruntime", True, True),
        ("host-openvino", True, True),
        ("raspberry-pi-5-tvm", True, False),
        ("jetson-orin-nano-jp5", False, False),
        ("jetson-orin-nano-jp6", True, True),
    ],
)
def test_what_targets_have(target: str, pixels: bool, suppresses: bool) -> None:
    profile = load_target(target)
    engine = ENGINES.get(profile.backend)
    assert (has(engine.pixels, profile), has(engine.suppression, profile)) == (pixels, suppresses)
    if pixels:
        refuse_engine(("preprocessing",), profile)
    else:
        with pytest.raises(ConfigError, match="does not read uint8 pixels"):
            refuse_engine(("preprocessing",), profile)
    refuse_engine(("postprocessing",), profile)


def test_a_recipe_must_make_floats_of_one_size() -> None:
    whole = Preprocessing(resize=(8, 8))

    def check(made: Preprocessing | None) -> None:
        check_parts(("preprocessing",), Recipe("r", "r", made), None)

    check_parts(("preprocessing",), None, None)  # the model's source may state it
    check(whole)
    with pytest.raises(ConfigError, match="models of pictures"):
        check(None)
    with pytest.raises(ConfigError, match="their own size"):
        check(dataclasses.replace(whole, resize=None))
    with pytest.raises(ConfigError, match="pixels as they are already"):
        check(dataclasses.replace(whole, dtype="uint8"))
