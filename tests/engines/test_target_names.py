"""Other names of targets, and the beginning of several."""

from __future__ import annotations

import pytest

from edgepack.engines.target_names import ALIASES, expanded, target_id
from edgepack.engines.targets import expand_targets, known_names, load_target, refusal, target_ids
from edgepack.errors import ConfigError

IDS = ("board-a", "board-a-jp5", "board-a-jp6", "raspberry-pi-5", "other")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("other", ("other",)),
        ("rpi5", ("raspberry-pi-5",)),
        ("board-a", ("board-a",)),  # an id stands for itself
        ("board", ("board-a", "board-a-jp5", "board-a-jp6")),
        ("boar", ("boar",)),  # the beginning of a word is a mistake
        ("", ("",)),
        ("mine/board.toml", ("mine/board.toml",)),
        ("board.toml", ("board.toml",)),
    ],
)
def test_what_a_name_stands_for(name: str, found: tuple[str, ...]) -> None:
    assert expanded(name, IDS) == found


def test_every_other_name_is_of_a_profile_and_hides_none() -> None:
    assert set(ALIASES.values()) <= set(target_ids())
    assert not set(ALIASES) & set(target_ids())
    assert set(known_names()) == {*ALIASES, *target_ids()}
    assert target_id("rpi5", target_ids()) == load_target("rpi5").id == "raspberry-pi-5"


def test_a_group_is_all_of_its_targets_where_several_may_be_given() -> None:
    found = expand_targets(["jetson-orin-nano", "pi5", "jetson-xavier-nx"])
    assert found[:3] == ("jetson-orin-nano-jp5", "jetson-orin-nano-jp6", "jetson-orin-nano-jp7")
    assert found[-2:] == ("raspberry-pi-5", "jetson-xavier-nx-jp5")
    assert expand_targets(["host"]) == tuple(name for name in target_ids() if name.startswith("host-"))
    with pytest.raises(ConfigError, match="stands for several targets"):
        load_target("jetson-orin-nano")
    with pytest.raises(ConfigError, match="unknown target 'jetsn'"):
        load_target("jetsn")


def test_all_is_of_a_beginning_a_processor_or_an_engine() -> None:
    jetsons = tuple(name for name in target_ids() if name.startswith("jetson-") and name != "jetson-nano-jp4")
    assert expand_targets(["all-jetson"]) == jetsons
    arm = expand_targets(["all-aarch64"])
    assert set(arm) == {name for name in target_ids() if load_target(name).arch == "aarch64"} - {
        *expand_targets(["host"]), "jetson-nano-jp4"
    }  # fmt: skip
    assert {"raspberry-pi-5", "jetson-agx-thor-jp7"} < set(arm)
    assert all(load_target(name).backend == "openvino" for name in expand_targets(["all-openvino"]))
    with pytest.raises(ConfigError, match="no group of targets 'all-jetsn'") as caught:
        expand_targets(["all-jetsn"])
    assert "all-jetson" in caught.value.hint
    with pytest.raises(ConfigError, match="stands for several targets"):
        load_target("all-jetson")


def test_a_target_for_which_nothing_can_be_built_is_in_no_group_but_may_be_named() -> None:
    assert refusal(load_target("jetson-nano-jp4")) is not None
    assert "jetson-nano-jp4" not in expand_targets(["jetson"])
    assert expand_targets(["jetson-nano-jp4"]) == expand_targets(["jetson-nano"]) == ("jetson-nano-jp4",)
    assert expand_targets(["jetson", "jetson-nano-jp4"])[-1] == "jetson-nano-jp4"


@pytest.mark.parametrize(("name", "hint"), [
    ("openvino", "did you mean 'host-openvino'? 'all-openvino' stands for all of openvino."),
    ("tensorrt", "'edgepack targets' lists all. 'all-tensorrt' stands for all of tensorrt."),
    ("Raspberry-Pi-5", "did you mean 'raspberry-pi-5'?"),
    ("android", "'edgepack targets' lists all."),
])  # fmt: skip
def test_what_an_unknown_target_was_to_be(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_target(name)
    assert caught.value.hint == f"{hint} A board of your own is the path of a .toml file"


def test_groups_that_overlap_hold_each_target_once_where_it_was_named() -> None:
    found = expand_targets(["all-jetson", "all-aarch64", "raspberry-pi-5", "jetson-orin-nano-jp6"])
    assert len(found) == len(set(found))
    assert found[-2:] == ("raspberry-pi-5", "jetson-orin-nano-jp6")
    assert set(found) == set(expand_targets(["all-aarch64"]))
    # what was written twice itself is still seen to be: check_settings refuses it
    assert expand_targets(["rpi5", "raspberry-pi-5"]) == ("raspberry-pi-5", "raspberry-pi-5")
