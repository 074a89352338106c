"""Wrong profiles of every kind: each is refused with its file and what to write."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import GOOD, SHIPPED

from edgepack.base import resources
from edgepack.device.host import FLAGS
from edgepack.engines import targets
from edgepack.errors import ConfigError


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        pytest.param("arch =", "arhc =", "unknown key 'arhc'", "did you mean 'arch'?", id="key"),
        pytest.param("[compute]", "[compte]", "unknown key 'compte'", "did you mean 'compute'?", id="section"),
        pytest.param("cores =", "core =", "unknown key 'core'", "did you mean 'cores'?", id="inner-key"),
        pytest.param('title = "My board"', "", "'title' is missing", "title", id="no-title"),
        pytest.param('"onnxruntime"', '"onnxrt"', "backend: 'onnxrt' is not known", "'onnxruntime'", id="backend"),
        pytest.param('"x86_64"', '"x86-64"', "arch: 'x86-64' is not known", "'x86_64'", id="arch"),
        pytest.param('"int8"', '"int4"', "'int4' is not one of the allowed", "'int8'", id="precision"),
        pytest.param('"avx_vnni"', '"avx-vnni"', "isa: 'avx-vnni' is not known", "'avx_vnni'", id="flag"),
        pytest.param('"avx2", ', '"avx_vnni", ', "isa has a duplicate", "once", id="flag-twice"),
        pytest.param('["fp32", "int8"]', "[]", "precisions is empty", "fp32", id="no-precisions"),
        pytest.param("cores = 4", "cores = 0", "cores = 0", "greater than 0", id="no-cores"),
        pytest.param("cores = 4", "cores = 4.5", "expected a whole number", "whole number", id="half-a-core"),
        pytest.param("cores = 4", "cores = true", "expected a whole number", "whole number", id="cores-bool"),
        pytest.param("cores = 4", f"cores = {1 << 70}", "more than 64 bits", "edgepack targets show", id="cores-huge"),
        pytest.param("8_000_000_000", "-1", "memory_bytes = -1", "greater than 0", id="memory"),
        pytest.param("8_000_000_000", "nan", "expected a whole number", "whole number", id="memory-nan"),
        pytest.param("max_opset = 21", "max_opset = 2026-11-21", "max_opset", "whole number", id="a-date"),
        pytest.param("my-board", "../../etc/passwd", "is not a valid id", "lower-case", id="id-path"),
        pytest.param("my-board", "My Board", "is not a valid id", "lower-case", id="id-space"),
        pytest.param("my-board", "host-mine", "are reserved", "another id", id="id-host"),
        pytest.param('"My board"', '""', "title is not one line", "characters", id="title-empty"),
        pytest.param('"My board"', '"a\\u001b[31mred"', "title is not one line", "characters", id="title-escape"),
        pytest.param("'My CPU \\d+'", "'('", "not a regular expression", "model name", id="pattern"),
        pytest.param("'My CPU \\d+'", "'(a+)+$'", "too complicated", "repeated groups", id="pattern-slow"),
        pytest.param("'My CPU \\d+'", "'.*.*.*.*x'", "too complicated", "repeated groups", id="pattern-slow-2"),
        pytest.param('"compute.isa"', '"compute.isaa"', "no fact 'compute.isaa'", "'compute.isa'", id="source"),
        pytest.param(', "avx_vnni"', "", "no VNNI, so int8 sums saturate", "saturates = true", id="must-saturate"),
        pytest.param("[limits]", "[quantization]\nsaturates = true\n[limits]", "saturates = true, but",
                     "without avx512_vnni", id="cannot-saturate"),
        pytest.param("[limits]", '[quantization]\nengine = "tvm"\n[limits]', "engine = 'tvm', but backend", "follows",
                     id="rules-of-another-engine"),
        pytest.param("[engine]", '[engine]\ndevice = "$(reboot)"', "device = '$(reboot)'", "CPU", id="device"),
        pytest.param("memory_bytes = 8_000_000_000", "peak_ops_per_s = { fp64 = 1 }", "'fp64' is not known", "known",
                     id="peak-of-unknown-precision"),
    ],
)  # fmt: skip
def test_a_wrong_profile_is_refused_with_what_to_write(
    board: Path, old: str, new: str, message: str, hint: str
) -> None:
    assert old in GOOD
    board.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        targets.load_target(str(board))
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2
    assert str(board) in caught.value.message


def test_openvino_devices_are_checked(board: Path) -> None:
    text = GOOD.replace('"onnxruntime"', '"openvino"')
    board.write_text(text.replace("[engine]", '[engine]\ndevice = "GPU.1"'))
    assert targets.load_target(str(board)).engine.device == "GPU.1"
    board.write_text(text.replace("[engine]", '[engine]\ndevice = "VPU"'))
    with pytest.raises(ConfigError, match="'VPU' is not known"):
        targets.load_target(str(board))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('id = "x"\ntitle = \n', "line 2", id="no-value"),
        pytest.param('id = "x"\nid = "y"\n', "line 2", id="twice"),
        pytest.param("a = " + "[" * 5000, "not valid TOML", id="deep"),
        pytest.param("a = " + "9" * 5000, "not valid TOML", id="many-digits"),
        pytest.param("", "'id' is missing", id="empty"),
        pytest.param("[id]\n", "id: expected text", id="table-for-text"),
        pytest.param("quantization = 3\n", "expected", id="number-for-table"),
        pytest.param('backend = ["onnxruntime"]\n[quantization]\n', "backend: expected text", id="list-for-text"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(board: Path, text: str, message: str) -> None:
    board.write_text(text)
    with pytest.raises(ConfigError, match=message):
        targets.load_target(str(board))


def test_bytes_that_are_not_text_are_refused(board: Path) -> None:
    board.write_bytes(b"\xff\xfe\x00\x01" * 20)
    with pytest.raises(ConfigError, match="not valid TOML"):
        targets.load_target(str(board))


def test_a_huge_file_is_not_read(board: Path) -> None:
    with board.open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="bytes"):
        targets.load_target(str(board))


@pytest.mark.parametrize("name", ["nowhere.toml", "no/such/place.toml", "a\0b.toml", "x" * 300 + ".toml"])
def test_a_path_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no target|cannot read the target"):
        targets.load_target(str(tmp_path / name) if "\0" not in name else name)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    for path in (folder, pipe, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="not a file"):
            targets.load_target(str(path))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_mutated_profile_loads_or_is_refused(board: Path, data: st.DataObject) -> None:
    text = bytearray((resources.targets_folder() / f"{data.draw(st.sampled_from(SHIPPED))}.toml").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=6))
    board.write_bytes(bytes(text))
    try:
        target = targets.load_target(str(board))
    except ConfigError:
        return
    assert set(target.compute.isa) <= FLAGS
