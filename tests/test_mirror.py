"""Tests mirror the source: each module has a test file of its name, or its tests stand where a reason says."""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

import edgepack

PACKAGE = Path(edgepack.__file__).resolve().parent
TESTS = Path(__file__).resolve().parent

# Modules without a test file of their name: where their tests are, and why there.
ELSEWHERE: dict[str, tuple[str, str]] = {
    "__init__.py": ("test_api.py", "the promised names"),
    "__main__.py": ("cli/test_main.py", "it calls the command line"),
    # one table, one set of inputs for all its rows
    "calibrate/observers/*.py": ("calibrate/test_observers.py", "all observers on the same distributions"),
    "lint/*.py": ("lint/test_lint.py", "all checks on the same samples, good and bad ones"),
    "tasks/decoders/*.py": ("tasks/decoders/test_decoders.py", "all decoders on the same boxes"),
    "embed/decoders/*.py": ("embed/test_decoding.py", "all decoders against those in numpy, on the same outputs"),
    "pipeline/open_cluster.py": ("pipeline/test_cluster.py", "the workers that stages are handed to are opened by it"),
    "embed/boxes.py": ("embed/test_answers.py", "all answers in the graph against those of the task"),
    "embed/masks.py": ("embed/test_answers.py", "all answers in the graph against those of the task"),
    "execution/forks.py": ("execution/test_fork_server.py", "the two ends of one socket"),
    # declarations of commands, which call one function each
    "cli/cpp.py": ("cpp/test_library.py", "the command beside the function that it calls"),
    "cli/build.py": ("cli/test_main.py", "options; pipeline/test_build.py tests what they ask for"),
    "cli/device.py": ("cli/test_device_only.py", "run where nothing but numpy, Click and an engine can be imported"),
    "cli/lint.py": ("pipeline/stages/test_lint.py", "the command and the stage of a build on the same samples"),
    "cli/measure.py": ("cli/test_device_only.py", "run where nothing but numpy, Click and an engine can be imported"),
    "cli/stages.py": ("cli/test_main.py", "options; pipeline/test_single_stage.py tests what they ask for"),
    "cli/show/built.py": ("cli/show/test_tables.py", "all tables on both consoles"),
    "cli/show/inspected.py": ("cli/show/test_tables.py", "all tables on both consoles"),
    "cli/show/measured.py": ("cli/show/test_tables.py", "all tables on both consoles"),
    "cli/show/tuned.py": ("cli/test_tune.py", "it prints what tuning found, which takes a real search"),
    "pipeline/tune_kernels.py": ("cli/test_tune.py", "a search takes seconds: once for the command and its parts"),
    "cli/deploy.py": ("remote/test_deploy.py", "the commands on a real server"),
    "cli/show/fleet.py": ("remote/test_fleet.py", "the table of a real roll-out"),
    "cli/environments.py": ("export/test_environments.py", "they are made once; the commands print what is there"),
    # frameworks: a record each; the workers run in Pythons that 'make sources' makes
    "export/keras_file.py": ("export/test_sources.py", "recorded answers of all frameworks through one seam"),
    "export/keras2_file.py": ("export/test_sources.py", "recorded answers of all frameworks through one seam"),
    "export/flax_model.py": ("export/test_sources.py", "recorded answers of all frameworks through one seam"),
    "export/tflite.py": ("export/test_sources.py", "recorded answers of all frameworks through one seam"),
    "export/saved_model.py": ("export/test_sources.py", "recorded answers of all frameworks through one seam"),
    "export/hugging_face.py": ("export/test_sources.py", "recorded answers of all frameworks through one seam"),
    "export/timm_model.py": ("export/test_sources.py", "recorded answers of all frameworks through one seam"),
    "export/fastai_learner.py": ("export/test_sources.py", "recorded answers of all frameworks through one seam"),
    "export/workers/*.py": ("export/test_worker.py", "run as programs, by what they answer"),
    "graph/clean/*.py": ("graph/clean/test_clean.py", "all passes on the same random graphs"),
    # one long job of several modules
    "cli/registry.py": ("registry/test_transfer.py", "the commands with a real registry"),
    "registry/client.py": ("registry/test_faults.py", "what it must survive, through the whole of a pull"),
    "registry/reference.py": ("registry/test_transfer.py", "where a bundle is pulled from"),
    "remote/commands.py": ("remote/test_deploy.py", "every call on a real server"),
    "trust/envelope.py": ("trust/test_sign.py", "what is in it and its one form are looked at where it is made"),
    "trust/keyless/certificate.py": ("trust/keyless/test_check.py", "each part of a signature, forged in turn"),
    "trust/keyless/timestamp.py": ("trust/keyless/test_check.py", "each part of a signature, forged in turn"),
    "trust/statement.py": ("trust/test_sign.py", "what is stated is looked at where it is signed"),
    "export/torch_archive.py": ("export/test_torch_program.py", "archives that torch itself would run code of"),
    "embed/operators.py": ("embed/test_decoding.py", "they are seen by what the graph computes"),
    "export/torch_onnx.py": ("export/test_torch_module.py", "an export takes seconds: each is looked at once"),
    "engines/tensorrt/adopt.py": ("engines/tensorrt/test_install.py", "it needs an engine that was built"),
    "engines/tensorrt/cuda.py": ("engines/tensorrt/test_device.py", "on doubles of TensorRT and CUDA"),
    "engines/tensorrt/engine.py": ("engines/tensorrt/test_device.py", "on doubles of TensorRT and CUDA"),
    "engines/tensorrt/load.py": ("engines/tensorrt/test_device.py", "on doubles of TensorRT and CUDA"),
    "engines/tvm/compile.py": ("engines/tvm/test_engine.py", "a compiled folder is looked at once"),
    "engines/tvm/probe.py": ("engines/test_doctor.py", "every engine is probed"),
    "engines/tvm/runtime_abi.py": ("engines/tvm/test_runner.py", "it is seen by what a runner computes"),
    "engines/tvm/codegen/clip_pass.py": ("engines/tvm/codegen/test_integer_pass.py", "bounds before rounding"),
    "engines/tvm/codegen/intrinsics.py": ("engines/tvm/codegen/test_integer_pass.py", "the machine code has them"),
    "engines/tvm/codegen/legalize.py": ("engines/tvm/codegen/test_lower.py", "which rule took what"),
    "engines/tvm/codegen/schedules.py": ("engines/tvm/codegen/test_lower.py", "every rule gives the right values"),
    "engines/tvm/tuning/tune.py": ("cli/test_tune.py", "a search takes seconds: once for the command and its parts"),
    "engines/tvm/tuning/whole_model.py": ("cli/test_tune.py", "it compares what a search found"),
    "quantize/correct/channel_groups.py": ("quantize/correct/test_equalize.py", "seen by what is scaled, and what not"),
    "tasks/audio_classification.py": ("tasks/test_text_classification.py", "classes are answered alike for all things"),
    "tasks/tabular_classification.py": (
        "tasks/test_text_classification.py",
        "classes are answered alike for all things",
    ),
    "cli/serve.py": ("serve/test_server.py", "the command is what is asked over both protocols"),
    "serve/grpc.py": ("serve/test_server.py", "every call on a real server"),
    "serve/http.py": ("serve/test_server.py", "every request to a real server"),
    "serve/metrics.py": ("serve/test_server.py", "what a real server counted"),
    "serve/models.py": ("serve/test_server.py", "several bundles and their versions in a real server"),
    "serve/queries.py": ("serve/test_batcher.py", "values, and the errors that a queue ends with"),
    "cli/updaters.py": ("updaters/test_export.py", "the command writes what its function does"),
    "updaters/script.py": ("updaters/test_export.py", "what all kinds share, in a shell"),
    "runtime/adopt.py": ("engines/tensorrt/test_install.py", "it packs an engine that a device built"),
    "runtime/root.py": ("runtime/test_install.py", "what is read there is what an installation wrote"),
    "runtime/describe.py": ("runtime/test_install.py", "what the commands print of a real installation"),
    "runtime/prove.py": (
        "runtime/test_install.py",
        "a proof is one of an installed bundle, or of one that is not put in use",
    ),
}


@cache
def modules() -> tuple[Path, ...]:
    """Every module in which something can go wrong: that defines a function or a method."""
    return tuple(path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if _does_something(path))


def _does_something(path: Path) -> bool:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, kinds) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def places(module: Path) -> tuple[Path, ...]:
    """Return where the test file of a module may be; a package's own is in its folder or beside it."""
    if module.name != "__init__.py":
        return (module.parent / f"test_{module.stem}.py",)
    name = f"test_{module.parent.name}.py"
    return module.parent / name, module.parent.parent / name


def without_a_file(found: tuple[Path, ...]) -> list[str]:
    return [str(module) for module in found if not any((TESTS / place).is_file() for place in places(module))]


def test_the_package_is_looked_at() -> None:
    assert len(modules()) > 300
    assert Path("specs/task.py") not in modules()  # values alone


def test_every_module_has_a_test_file_of_its_name_or_a_reason() -> None:
    unknown = [name for name in without_a_file(modules()) if not any(fnmatch(name, key) for key in ELSEWHERE)]
    assert unknown == []


@pytest.mark.parametrize("pattern", list(ELSEWHERE))
def test_every_reason_is_needed_and_its_tests_are_there(pattern: str) -> None:
    assert any(fnmatch(name, pattern) for name in without_a_file(modules()))
    place, reason = ELSEWHERE[pattern]
    assert "def test_" in (TESTS / place).read_text(encoding="utf-8")
    assert reason


def test_a_module_without_a_file_would_be_found() -> None:
    assert without_a_file((Path("verify/nowhere.py"), Path("verify/golden.py"))) == ["verify/nowhere.py"]
    assert places(Path("engines/__init__.py"))[0] == Path("engines/test_engines.py")
