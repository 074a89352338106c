from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from edgepack.cli import tools
from edgepack.cli.main import _SECTIONS, cli
from edgepack.errors import EdgepackError

COMMANDS = cli.list_commands(click.Context(cli))
Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py


def test_help_lists_every_command_once(edgepack: Run) -> None:
    ran = edgepack("--help")
    assert ran.code == 0
    for title in _SECTIONS:
        assert f"{title}:" in ran.out
    for name in COMMANDS:
        assert ran.out.count(f"\n  {name} ") == 1


def test_no_command_of_a_module_is_forgotten() -> None:
    for module in {entry.partition(".")[0] for section in _SECTIONS.values() for entry in section}:
        listed = [entry for section in _SECTIONS.values() for entry in section if entry.startswith(f"{module}.")]
        commands = importlib.import_module(f"edgepack.cli.{module}").COMMANDS
        assert sorted(listed) == sorted(f"{module}.{command.name}" for command in commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(edgepack: Run, name: str) -> None:
    ran = edgepack(name, "--help")
    assert ran.code == 0
    assert "Usage: edgepack" in ran.out


def test_help_imports_no_engine_and_no_numpy() -> None:
    code = (
        "import sys; sys.argv = ['edgepack', '--help']\n"
        "from edgepack.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'openvino', 'torch', 'scipy', 'rich', 'msgspec', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["biuld"], 2, "no such command"),
        (["verify"], 2, "missing argument 'BUNDLE'"),
        (["verify", "/"], 2, "is a folder"),
        (["verify", "x", "--threads", "0"], 2, "--threads"),
        (["verify", "x", "--what"], 2, "no such option"),
        (["run", "x"], 2, "--input"),
        (["benchmark", "x", "--scenario", "Server"], 2, "--latency-bound"),
        (["build", "--precision", "int9", "x.onnx"], 2, "did you mean 'int8'"),
        (["build", "missing.onnx"], 2, "missing.onnx"),
        (["build", "missing.toml"], 2, "edgepack init"),
        (["build"], 2, "edgepack init"),
        (["build", "x.onnx", "--target", "host-onnxruntme"], 2, "did you mean 'host-onnxruntime'"),
        (["build", "x.onnx", "--precision", "int8"], 2, "--data"),
        (["build", "x.onnx", "--metric", "topp1", "--data", "d"], 2, "did you mean 'top1'"),
        (["build", "x.onnx", "--shape", "x"], 2, "input=Nx3x224x224"),
        (["build", "x.onnx", "--samples", "many"], 2, "not a whole number"),
        (["targets", "show", "raspberry-pi5"], 2, "did you mean 'raspberry-pi-5'"),
        (["inspect", "missing.onnx"], 2, "no file"),
        (["verify", "missing.edgepack"], 2, "missing.edgepack"),
        (["run", "missing.edgepack", "--input", "x.npz"], 2, "missing.edgepack"),
        (["benchmark", "missing.edgepack"], 2, "missing.edgepack"),
        (["benchmark", "x.edgepack", "--scenario", "SingleSteam"], 2, "did you mean 'SingleStream'"),
        (["benchmark", "x.edgepack", "--duration", "fast"], 2, "500ms"),
        (["report", "missing"], 2, "missing"),
        (["quantize", "no.onnx", "--ranges", "r.json", "--target", "host-onnxruntime", "-o", "x.onnx"], 2, "r.json"),
        (["calibrate", "missing.onnx", "-o", "r.json"], 2, "--data"),
        (["schema", "bundel"], 2, "known"),
    ],
)
def test_wrong_words_end_with_one_error(
    edgepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "store"))
    ran = edgepack(*words)
    assert ran.code == code
    assert said in ran.err
    assert "error: " in ran.err
    assert "hint: " in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (EdgepackError("broken", hint="mend it"), 1, "hint: mend it"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device", "/x"), 1, "No space left on device: /x"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (EOFError("marshal data too short"), 1, "a compiled Python module is truncated"),
        (EOFError("No data left in file"), 1, "internal error: EOFError: No data left in file"),
        (ModuleNotFoundError("No module named 'jinja2'", name="jinja2"), 3, "hint: pip install 'edgepack[builder]'"),
        (ZeroDivisionError("oh"), 1, "internal error: ZeroDivisionError: oh"),
    ],
)
def test_errors_are_one_message_unless_debugged(
    edgepack: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(tools.doctor, "callback", fail)
    ran = edgepack("doctor")
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in edgepack("doctor", "--debug").err


def test_debug_shows_the_traceback(edgepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Traceback" in edgepack("build", "--debug").err


def test_targets_as_json(edgepack: Run) -> None:
    ran = edgepack("targets", "list", "--json")
    ids = {target["id"] for target in json.loads(ran.out)}
    assert {"host-onnxruntime", "host-openvino", "raspberry-pi-5", "generic-aarch64"} <= ids


def test_a_profile_is_shown_with_its_sources(edgepack: Run) -> None:
    ran = edgepack("targets", "show", "raspberry-pi-5")
    assert ran.code == 0
    assert "Cortex-A76" in ran.out


def test_the_store_is_shown_and_cleared(edgepack: Run, tmp_path: Path) -> None:
    entry = tmp_path / "export" / ("0" * 32)
    entry.mkdir(parents=True)
    (entry / "file").write_bytes(b"x" * 2000)
    assert json.loads(edgepack("store", "--store", tmp_path, "--json").out)["size_bytes"] == 2000
    assert edgepack("store", "--store", tmp_path, "--clear").code == 0
    assert not (tmp_path / "export").exists()


def test_a_condition_that_holds_fails_the_report(edgepack: Run, tmp_path: Path) -> None:
    row = {"target": "board", "precision": "int8", "status": "ok", "size_bytes": 5_000_000, "model": "net"}
    document = {
        "name": "net", "rows": [row], "warnings": [], "out": "out", "report": None, "versions": {}, "stages_run": 0,
        "stages_reused": 0,
    }  # fmt: skip
    (tmp_path / "build.json").write_text(json.dumps(document))
    passed = edgepack("report", tmp_path, "--out", tmp_path / "r.xml", "--fail-if", "size > 10MB")
    assert passed.code == 0, passed.err
    failed = edgepack("report", tmp_path, "--out", tmp_path / "r.xml", "--fail-if", "size > 1MB")
    assert failed.code == 5
    assert "size" in failed.out
    assert "<failure" in (tmp_path / "r.xml").read_text()
    wrong = edgepack("report", tmp_path, "--out", tmp_path / "x.xml", "--fail-if", "sise > 1MB")
    assert wrong.code == 2
    assert "did you mean 'size'" in wrong.err
    assert not (tmp_path / "x.xml").exists()


def test_doctor_says_what_disturbs_measurements(edgepack: Run) -> None:
    ran = edgepack("doctor", "--benchmark", "--json")
    severities = {item["severity"] for item in json.loads(ran.out)}
    assert severities <= {"error", "warning", "note"}
    assert ran.code == (1 if "error" in severities else 0)


def test_names_do_not_act_on_the_terminal(edgepack: Run, tmp_path: Path) -> None:
    done = edgepack("inspect", tmp_path / "\x1b]0;owned\x07\u202etxt.onnx")
    assert done.code == 2
    assert r"\x1b]0;owned\x07\u202etxt.onnx" in done.err
    assert "\x1b]" not in done.err
    traced = edgepack("inspect", tmp_path / "\x1b]0;owned\x07.onnx", "--debug")
    assert "Traceback" in traced.err
    assert "\x1b]" not in traced.err


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stdout_is_no_traceback(tmp_path: Path, closed: str) -> None:
    """Nor does a file that is opened later get its number, into which an engine would print."""
    command = f"{sys.executable} -m edgepack schema result {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    code = "import edgepack.__main__ as m, os; m._open_standard_files(); os._exit(os.open(os.devnull, 0))"
    assert subprocess.run(["sh", "-c", f'{sys.executable} -c "{code}" {closed}'], check=False).returncode >= 3


def test_a_reader_that_leaves_is_no_traceback() -> None:
    command = f"{sys.executable} -m edgepack schema result | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_pipe_that_nobody_reads_ends_with_its_own_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgepack", "targets"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (141, b"")
