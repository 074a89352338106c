"""Profiles that anyone may have written: each fact by itself, and facts that contradict each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.device import profiles
from edgepack.device.profiles import check_choice, check_target, fact_paths, read_profile
from edgepack.errors import ConfigError
from edgepack.specs.target import Compute, EngineFacts, Limits, PowerFacts, PriceFacts, QuantizationRules, Target

BOARD = Target(
    "my-board",
    "My board",
    "onnxruntime",
    "aarch64",
    compute=Compute(isa=("asimddp",)),
    sources={"compute.isa": "a page"},
)
X86 = dataclasses.replace(BOARD, arch="x86_64", sources={})


def refused(**changes: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check_target(dataclasses.replace(BOARD, **changes), "board.toml")
    assert caught.value.message.startswith("board.toml: ")
    assert caught.value.hint
    return caught.value


def test_a_good_profile_passes() -> None:
    check_target(BOARD, "board.toml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "My Board"}, "is not a valid id"),
        ({"id": ""}, "is not a valid id"),
        ({"id": "a" * 65}, "is not a valid id"),
        ({"id": "host-me"}, "ids that begin with host- are reserved"),
        ({"title": ""}, "title is not one line of text"),
        ({"title": "two\nlines"}, "title is not one line of text"),
        ({"title": "x" * 501}, "title is not one line of text"),
        ({"arch": "arm"}, "arch: 'arm' is not known"),
        ({"os": "android"}, "os: 'android' is not known"),
        ({"engine": EngineFacts(device="CPU; rm")}, "device = 'CPU; rm'"),
        ({"compute": Compute(isa=("asimdp",))}, "isa: 'asimdp' is not known"),
        ({"compute": Compute(isa=("asimddp", "asimddp"))}, "isa has a duplicate"),
        ({"compute": Compute(precisions=())}, "precisions is empty"),
        ({"compute": Compute(cpu_model="(")}, "not a regular expression"),
        ({"compute": Compute(cpu_model="(a+)+b")}, "too complicated"),
        ({"compute": Compute(cpu_model="x" * 201)}, "too complicated"),
        ({"quantization": QuantizationRules(engine="openvino")}, "quantization: engine = 'openvino'"),
        ({"quantization": QuantizationRules(saturates=True)}, "saturates = true, but aarch64"),
        ({"engine": EngineFacts(device="GPU"), "quantization": QuantizationRules(saturates=True)}, "x86 CPUs only"),
        ({"compute": Compute(cores=0)}, "compute: cores = 0"),
        ({"compute": Compute(l2_bytes=-1)}, "compute: l2_bytes = -1"),
        ({"limits": Limits(memory_bytes=1 << 63)}, "limits: memory_bytes"),
        ({"power": PowerFacts(tdp_w=float("nan"))}, "power: tdp_w"),
        ({"price": PriceFacts(usd=-1.0, date="2023-09")}, "price: usd = -1"),
        ({"price": PriceFacts(usd=60.0)}, "price: usd and date go together"),
        ({"price": PriceFacts(date="2023-09")}, "price: usd and date go together"),
        ({"price": PriceFacts(usd=60.0, date="2023-13")}, "price: date = '2023-13'"),
        ({"price": PriceFacts(usd=60.0, date="2023-09", what="a\nb")}, "price: what is not one line"),
        ({"limits": Limits(peak_ops_per_s={"int4": 1})}, "peak_ops_per_s: 'int4' is not known"),
        ({"sources": {"compute.core": "x"}}, "there is no fact 'compute.core'"),
        ({"sources": {"compute.isa": "a\x07b"}}, "sources: compute.isa is not one line"),
    ],
)  # fmt: skip
def test_what_no_device_has_is_refused_with_its_place(changes: dict[str, Any], words: str) -> None:
    assert words in refused(**changes).message


@pytest.mark.parametrize(
    ("isa", "saturates", "words"),
    [
        (("avx2",), True, None),
        (("avx2",), False, "no VNNI"),
        (("avx2", "avx_vnni"), True, "adds int8 products in 32 bits"),
        (("avx2", "avx_vnni"), False, None),
        ((), False, None),
        ((), True, None),
    ],
)
def test_saturation_follows_the_instruction_set_of_an_x86(
    isa: tuple[str, ...], saturates: bool, words: str | None
) -> None:
    target = dataclasses.replace(X86, compute=Compute(isa=isa), quantization=QuantizationRules(saturates=saturates))
    if words is None:
        check_target(target, "board.toml")
    else:
        with pytest.raises(ConfigError, match=words):
            check_target(target, "board.toml")


def test_a_board_without_accelerators_says_zero() -> None:
    check_target(dataclasses.replace(BOARD, compute=Compute(isa=("asimddp",), dla_cores=0)), "board.toml")


def test_facts_are_named_as_in_the_file() -> None:
    found = fact_paths()
    assert found["arch"] == ()
    assert "compute.isa" in found["compute"]
    assert "sources" not in found


@given(st.text(max_size=200))
def test_a_choice_that_is_none_is_never_taken(value: str) -> None:
    if value in ("CPU", "GPU"):
        check_choice(value, ("CPU", "GPU"), "x")
        return
    with pytest.raises(ConfigError, match="is not known"):
        check_choice(value, iter(("CPU", "GPU")), "x")


def test_the_near_choice_is_offered() -> None:
    with pytest.raises(ConfigError) as caught:
        check_choice("aarch46", ("x86_64", "aarch64"), "x")
    assert "did you mean 'aarch64'" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"a = ", "is not valid TOML"), (b"\xff", "is not valid TOML"), (b"a = 1\na = 2", "is not valid TOML"),
     (b"a = " + b"[" * 5000, "is not valid TOML")],
)  # fmt: skip
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "board.toml").write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        read_profile(tmp_path / "board.toml")


def test_a_file_is_read_into_tables(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text('id = "b"\n[compute]\ncores = 4\n')
    assert read_profile(tmp_path / "board.toml") == {"id": "b", "compute": {"cores": 4}}


def test_what_is_no_short_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        read_profile(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no target .*nothing\.toml"):
        read_profile(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match="cannot read the target"):
        read_profile(Path("a\0b.toml"))
    monkeypatch.setattr(profiles, "_MOST_BYTES", 5)
    (tmp_path / "large.toml").write_text('id = "b"')
    with pytest.raises(ConfigError, match="has 8 bytes"):
        read_profile(tmp_path / "large.toml")
