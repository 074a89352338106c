"""What a device keeps of the engines that it built, on TEST DOUBLES of TensorRT and of the CUDA runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jetson_bundles import (
    OPTIONS,
    Use,
    compiled_model,
    run_and_compare,
)

from edgepack.engines.tensorrt import plan_cache
from edgepack.engines.tensorrt.device import find_device
from edgepack.engines.tensorrt.engine import load_model
from edgepack.engines.tensorrt.recipe import read_recipe
from edgepack.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.slow


def test_a_plan_is_bare_with_a_sidecar_that_says_what_it_fits(device: Use, tmp_path: Path) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    load_model(compiled, OPTIONS).close()
    (plan,) = (tmp_path / "plans").glob("*.plan")
    assert plan.read_bytes().startswith(b"PLAN OF A TEST DOUBLE"), "no header of ours: trtexec loads it"
    key = json.loads(plan.with_suffix(".json").read_text())["key"]
    assert set(key) == {"onnx", "recipe", "device"}
    assert set(key["device"]) == {"tensorrt", "cuda", "driver", "sm", "device", "l4t", "dla", "power_mode"}
    assert (key["device"]["sm"], key["device"]["tensorrt"]) == ("8.7", "10.3.0")
    assert len(list((tmp_path / "plans").glob("*.timing"))) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"surface": "10.13"},
        {"DOUBLE_CUDA_SM": "86", "DOUBLE_CUDA_NAME": "another board"},
        {"DOUBLE_CUDA_DRIVER": "12080"},
    ],
)
def test_another_device_driver_or_version_builds_its_own(
    change: dict[str, str], device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    run_and_compare(compiled, "static-int8")
    device(**change)
    run_and_compare(compiled, "static-int8")
    assert builds() == 2
    device()
    run_and_compare(compiled, "static-int8")
    assert builds() == 2, "the first one is still there"


@pytest.mark.parametrize("name", ["power_mode", "l4t_release", "nvidia_driver"])
def test_another_power_mode_release_or_driver_builds_its_own(
    name: str, device: Use, builds: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    run_and_compare(compiled, "static-int8")
    monkeypatch.setattr(f"edgepack.engines.tensorrt.device.{name}", lambda: "2")
    run_and_compare(compiled, "static-int8")
    assert builds() == 2


def test_another_recipe_or_model_builds_its_own(device: Use, tmp_path: Path) -> None:
    here = find_device()
    one = read_recipe(compiled_model("static-int8", tmp_path / "a").folder)
    other = read_recipe(compiled_model("static-int8", tmp_path / "b", "jetson-orin-nano-jp6").folder)
    third = read_recipe(compiled_model("dynamic-fp32", tmp_path / "c").folder)
    assert len({plan_cache.plan_key(recipe, here).name for recipe in (one, other, third)}) == 3
    assert plan_cache.plan_key(one, here) == plan_cache.plan_key(one, find_device())


@pytest.mark.parametrize("damage", ["cut", "flipped", "no-sidecar", "junk-sidecar", "other-sidecar"])
def test_a_damaged_plan_is_built_again_and_not_served(
    damage: str, device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    run_and_compare(compiled, "static-int8")
    (plan,) = (tmp_path / "plans").glob("*.plan")
    data = plan.read_bytes()
    if damage == "cut":
        plan.write_bytes(data[:100])
    elif damage == "flipped":
        plan.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "no-sidecar":
        plan.with_suffix(".json").unlink()
    else:
        text = plan.with_suffix(".json").read_text()
        plan.with_suffix(".json").write_text("{" if damage == "junk-sidecar" else text.replace('"8.7"', '"8.6"'))
    run_and_compare(compiled, "static-int8")
    assert builds() == 2
    run_and_compare(compiled, "static-int8")
    assert builds() == 2


def test_a_whole_plan_that_does_not_deserialize_is_built_again(
    device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    """Its digest is right: the engine itself refuses it, as after an update that changed no version."""
    compiled = compiled_model("static-int8", tmp_path)
    run_and_compare(compiled, "static-int8")
    (plan,) = (tmp_path / "plans").glob("*.plan")
    record = json.loads(plan.with_suffix(".json").read_text())
    plan.write_bytes(b"an engine of another world")
    import hashlib

    record["sha256"] = hashlib.sha256(plan.read_bytes()).hexdigest()
    record["size_bytes"] = plan.stat().st_size
    plan.with_suffix(".json").write_text(json.dumps(record))
    run_and_compare(compiled, "static-int8")
    assert builds() == 2


def test_the_timing_cache_is_kept_and_used_again(device: Use, tmp_path: Path) -> None:
    for name in ("static-int8", "dynamic-fp32"):
        load_model(compiled_model(name, tmp_path / name), OPTIONS).close()
    sidecars = sorted((tmp_path / "plans").glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
    facts = [json.loads(sidecar.read_text())["build"]["timing_reused"] for sidecar in sidecars]
    assert facts == [False, True]


def test_a_timing_cache_that_tensorrt_refuses_counts_as_empty(
    device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    load_model(compiled_model("static-int8", tmp_path / "a"), OPTIONS).close()
    (timing,) = (tmp_path / "plans").glob("*.timing")
    for junk in (b"junk", b"TIMING of another version"):
        timing.write_bytes(junk)
        for plan in (tmp_path / "plans").glob("*.plan"):
            plan.unlink()
        load_model(compiled_model("static-int8", tmp_path / "a"), OPTIONS).close()
    assert builds() == 3
    assert timing.read_bytes().startswith(b"TIMING 10.3")


def test_a_folder_that_others_may_write_is_refused(device: Use, tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans").chmod(0o777)
    with pytest.raises(StorageError, match="other users"):
        load_model(compiled_model("static-int8", tmp_path), OPTIONS)
