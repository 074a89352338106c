"""Runs a source framework in a Python of its own, and checks what it says against ONNX Runtime.

The worker (``workers/main.py``) reads the source and writes the model with inputs and the framework's own outputs for
them. It is believed in nothing: the files that it wrote are read as an untrusted user's.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Any, TypeVar

from edgepack.base import documents
from edgepack.base.files import read_regular, scratch_folder, sha256_json, write_text
from edgepack.base.resources import package_folder
from edgepack.errors import ConfigError, EdgepackError, ModelError, ToolchainError
from edgepack.export.environments import Lock, find_lock, make_environment
from edgepack.export.executes import DAMAGED
from edgepack.export.pairs import UNREADABLE, Pair, have_equal_inputs, have_numbers, read_pairs
from edgepack.export.preparation import PICTURES, checked_preparation
from edgepack.graph import passes
from edgepack.graph.check import first_line, is_name
from edgepack.graph.compare import TOLERANCE, differences, relative_distance, run_model
from edgepack.graph.load import load_model, read_proto, save_proto
from edgepack.graph.rounding import unrounded
from edgepack.specs.model import OnnxModel
from edgepack.specs.source import Interpreter, SourceFacts, SourceOptions
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

_Found = TypeVar("_Found")
FACTS, TOKENIZER = "meta.json", "tokenizer.json"
_MARK = b"\x1eedgepack "
_MOST_META_BYTES = 16 << 20
_KEPT_LOG_BYTES = 4 << 20
_MOST_LOG_BYTES = 256 << 20
_MOST_LINE_BYTES = 1 << 16
_LOOK_S, _AFTER_END_S = 0.2, 1.0  # how often it is looked whether the worker lives, and what is waited for after it
_FEWEST_PAIRS = 2
_SHOWN_NAMES = 6
_DIFFERS_HINT = (
    "look for random numbers, and for dropout or a batch norm in training mode; else report the model's layers"
)
_MISSING_HINT = (
    "only where values are missing (NaN): put a SimpleImputer in front of the step that reads them, or leave it out"
)
_SIZES_HINT = "only at another size than it was exported with: give the size that you need, as in --shape {}=Nx..."
# Frameworks round the layers of an integer model differently: ties fall the other way, and that goes on through the
# layers. Two ways that both round right differ at most as if all their roundings were independent: by twice the noise
# that the model's own roundings make, which is measured without them (``graph/rounding.py``), and by two steps of 255
# of an output. A tenth is too much whatever the noise is: a wrong graph is off by more.
_NOISES, _STEPS, _MOST_INTEGER = 2.0, 2 / 255, 0.1
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "PYTHONHASHSEED")
_SWITCHES = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_LIST = (
    "import sys, json, importlib.metadata as m; "
    "print(json.dumps([sys.version, sorted({f'{d.name} {d.version}' for d in m.distributions()})]))"
)


@dataclass(frozen=True)
class Worker:
    """How one source framework is run.

    ``script`` is a file of ``workers/``, without its suffix, or another package's by its path; so is ``lock``. An
    interpreter that has all modules ``needs`` can do without an environment; with none, that is never looked for.
    ``executes`` says what reading a source would run, without running it; ``check`` raises ``ModelError`` for what can
    be seen to be of no use, before an environment is made.
    """

    script: str
    lock: str
    needs: tuple[str, ...] = ()
    executes: Callable[[str], tuple[str, ...]] | None = None
    check: Callable[[str, SourceOptions], None] | None = None

    @property
    def path(self) -> Path:
        """The worker's file."""
        return Path(self.script) if os.sep in self.script else _workers() / f"{self.script}.py"


def refuse_code(worker: Worker, source: str, options: SourceOptions) -> None:
    """Raise ``ConfigError`` when reading ``source`` would run code and the user has not allowed it.

    Raises ``ModelError`` for what can be seen to be of no use.
    """
    if worker.check is not None:
        _asked(worker.check, source, options)
    if options.trust_code or worker.executes is None:
        return
    found = _asked(worker.executes, source)
    if not found:
        return
    more = f" and {len(found) - _SHOWN_NAMES} more" if len(found) > _SHOWN_NAMES else ""
    raise ConfigError(
        f"reading {source} would run code that is in it: {', '.join(found[:_SHOWN_NAMES])}{more}",
        hint="if you trust where it comes from, add --trust-code: it runs in a process without network that may write "
        "into one folder only, as far as this system can do that",
    )


def _asked(look: Callable[..., _Found], source: str, *more: object) -> _Found:
    """Return what looking into a source says. Raises ``ModelError`` for one that is damaged."""
    try:
        return look(source, *more)
    except DAMAGED as error:
        raise ModelError(f"{source} cannot be read: {first_line(error)}", hint="copy or save it again") from None


def find_interpreter(worker: Worker, options: SourceOptions, progress: Progress = no_progress) -> Interpreter:
    """Return the Python for a worker: the user's, else this one where it has all, else that of an environment."""
    if (lock := lock_needed(worker, options)) is not None:
        return make_environment(lock, progress)
    python = options.python or sys.executable
    # absolute: the worker runs in a folder of its own; links stay, as a virtual environment is known by them
    return _users(str(Path(python).absolute()) if os.sep in python else python)


def lock_needed(worker: Worker, options: SourceOptions) -> Lock | None:
    """Return the lock of the environment that a worker runs in; None where an interpreter does that is there."""
    here = bool(worker.needs) and all(importlib.util.find_spec(name) is not None for name in worker.needs)
    return None if options.python is not None or here else find_lock(worker.lock)


@functools.cache
def _users(python: str) -> Interpreter:
    """Return a user's interpreter. Raises ``ConfigError`` when it is none."""
    try:
        done = subprocess.run([python, "-c", _LIST], capture_output=True, check=True, timeout=60)
        listed = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(
            f"--python {python} is not a Python that runs: {first_line(error)}", hint="give the path of one that does"
        ) from None
    return Interpreter(python, sha256_json(listed))


def convert(
    worker: Worker,
    source: str,
    shapes: Mapping[str, tuple[int | str, ...]],
    options: SourceOptions,
    out: Path,
    progress: Progress,
) -> OnnxModel:
    """Return ``source`` as ``out/model.onnx``, with ``out/meta.json``, compared with the framework's own answers.

    Raises ``ModelError`` when the framework cannot read it, the worker fails, or ONNX Runtime does not compute what the
    framework did; ``ToolchainError`` when the framework is not there.
    """
    refuse_code(worker, source, options)
    found = options.interpreter or find_interpreter(worker, options, progress)
    out.mkdir(parents=True, exist_ok=True)
    with scratch_folder(".export.", out) as folder:
        _run(worker, found.python, _request(worker, source, shapes, options), folder, progress)
        facts = _prepared(folder, _facts(folder))
        pairs = _pairs(folder)
        return _checked(_tidy(folder, out), pairs, facts, out)


def read_facts(model: OnnxModel) -> SourceFacts | None:
    """Return what a source framework told of an exported model; None for one that had none."""
    path = model.path.parent / FACTS
    return documents.from_json(SourceFacts, path.read_bytes(), str(path)) if path.is_file() else None


def tokenizer_of(model: OnnxModel) -> Path | None:
    """Return the file with the tokenizer that a source framework told of; None for one that had none."""
    path = model.path.parent / TOKENIZER
    return path if path.is_file() else None


def _workers() -> Path:
    return package_folder() / "export" / "workers"


def _request(
    worker: Worker, source: str, shapes: Mapping[str, tuple[int | str, ...]], options: SourceOptions
) -> dict[str, Any]:
    place = Path(source)
    allowed = {k: v for k, v in documents.encode(options).items() if k != "interpreter"}
    for key in ("module", "weights"):
        if allowed.get(key):
            allowed[key] = _absolute(allowed[key])
    return {
        "worker": str(worker.path),
        "source": str(place.absolute()) if place.exists() else source,
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "options": allowed,
    }


def _absolute(place: str) -> str:
    """Return a path, or the file before a colon, as an absolute one."""
    path, colon, name = place.rpartition(":")
    if colon and path.endswith(".py"):
        return f"{Path(path).absolute()}:{name}"
    return str(Path(place).absolute()) if Path(place).exists() else place


# --- the process ------------------------------------------------------------------------------------------------------


def _run(worker: Worker, python: str, request: Mapping[str, Any], folder: Path, progress: Progress) -> None:
    """Run the worker in ``folder``. Raises what its ``error.json`` says, or how it ended without one."""
    write_text(folder / "request.json", json.dumps(request))
    (folder / "home").mkdir()
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [python, "-X", "faulthandler", str(_workers() / "main.py"), "request.json"],
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        last = _follow(process, progress)
        status = process.wait()
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if (folder / "error.json").is_file():
        raise _told(folder / "error.json", request["source"])
    if status != 0 or not (folder / "model.onnx").is_file():
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise ModelError(
            f"the {worker.path.stem} worker {ended} without an answer; its last words: {last or 'none'}",
            hint="memory may have run out; else load the model in that framework by itself, and see what it says",
        )


def _environment(folder: Path) -> dict[str, str]:
    """Return the worker's environment variables: no secrets of the user's, and all caches in its folder."""
    own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "HF_HOME", "TORCH_HOME", "KERAS_HOME", "MPLCONFIGDIR"), "home")
    places |= dict.fromkeys(("TMPDIR", "NUMBA_CACHE_DIR"), "tmp")
    return {**own, **{name: str(folder / place) for name, place in places.items()}, **_SWITCHES}


def _follow(process: subprocess.Popen[bytes], progress: Progress) -> str:
    """Pass on the worker's progress and the first megabytes of what it prints; return its last line."""
    kept, seen, last = 0, 0, ""
    for line in _lines(process):
        seen += len(line)
        if seen > _MOST_LOG_BYTES:
            process.kill()
            raise ModelError(
                f"the worker printed over {_MOST_LOG_BYTES >> 20} MB and was stopped; the last: {last[:200]}",
                hint="look for what prints in the model's own code",
            )
        if line.startswith(_MARK):
            _tell(line, progress)
            continue
        last = line.decode(errors="replace").strip() or last
        if kept < _KEPT_LOG_BYTES:
            kept += len(line)
            print(line.decode(errors="replace"), end="", flush=True)  # noqa: T201  (the log of the stage's child)
    return last[:500]


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield what a process prints, line by line, until it ends: one that it left behind may keep its output open."""
    assert process.stdout is not None
    handle, begun, end = process.stdout.fileno(), b"", math.inf
    while time.monotonic() < end:
        if process.poll() is not None:
            end = min(end, time.monotonic() + _AFTER_END_S)
        if not select([handle], [], [], _LOOK_S)[0]:
            continue
        piece = os.read(handle, _MOST_LINE_BYTES)
        if not piece:
            break
        *whole, begun = (begun + piece).split(b"\n")
        yield from (line + b"\n" for line in whole)
        if len(begun) >= _MOST_LINE_BYTES:
            yield begun
            begun = b""
    if begun:
        yield begun


def _tell(line: bytes, progress: Progress) -> None:
    try:
        what, done, total = json.loads(line[len(_MARK) :])
        progress(str(what)[:80], int(done), int(total))
    except (ValueError, TypeError):
        pass  # not what our own code prints


def _told(path: Path, source: str) -> EdgepackError:
    """Return the error that a worker wrote."""
    kinds = {"ToolchainError": ToolchainError, "ConfigError": ConfigError, "EdgepackError": EdgepackError}
    try:
        answer = json.loads(read_regular(path, _MOST_META_BYTES))
        message, hint = str(answer["message"])[:2000], str(answer["hint"])[:1000]
        kind = kinds.get(answer["kind"], ModelError)
    except (OSError, ValueError, KeyError, TypeError):
        return ModelError(f"{source}: the worker failed and wrote no reason", hint="the stage's log has its output")
    return kind(f"{source}: {message}", hint=hint or "load it in its own framework and see what that says")


# --- its answer -------------------------------------------------------------------------------------------------------


def _facts(folder: Path) -> SourceFacts:
    try:
        data = read_regular(folder / FACTS, _MOST_META_BYTES)
        return documents.from_json(SourceFacts, data, FACTS)
    except (OSError, ConfigError, ValueError, RecursionError) as error:
        raise _wrong(f"its meta.json cannot be read: {first_line(error)}") from error


def _prepared(folder: Path, facts: SourceFacts) -> SourceFacts:
    try:
        return checked_preparation(folder, facts)
    except UNREADABLE as error:
        raise _wrong(f"its {PICTURES} cannot be read: {first_line(error)}") from error


def _wrong(what: str) -> ModelError:
    return ModelError(f"the worker's answer cannot be used: {what}", hint="update the package that reads this source")


def _tidy(folder: Path, out: Path) -> OnnxModel:
    """Return the worker's model with names that do not vary, nothing of its machine, and inference only."""
    try:
        proto = read_proto(load_model(folder / "model.onnx"))
    except ModelError as error:
        if re.search(r"unknown operator \w*Random", error.message):
            raise ModelError(
                f"the model draws random numbers: {error.message}",
                hint="call its dropout and noise layers with training=False, and save it again",
            ) from error
        raise ModelError(
            f"the framework's exporter wrote a file that cannot be used: {error.message}", hint=error.hint
        ) from error
    passes.refuse_training(proto)
    passes.drop_notes(proto)
    proto.ClearField("metadata_props")
    passes.freeze_initializers(proto)
    _name_dims(proto)
    passes.set_versions(proto)
    passes.name_nodes(proto)
    return save_proto(proto, out)


def _name_dims(proto: onnx.ModelProto) -> None:
    """Call a free first axis N; others keep a name that is one, else that of their input and axis, in every run."""
    names: dict[str, str] = {}
    for value in proto.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value"):
                continue
            made = "N" if axis == 0 else f"{value.name}_{axis}"
            old = dim.dim_param
            generated = not is_name(old) or re.fullmatch(r"unk__\d+|s\d+|unknown\w*", old) is not None
            name = names.setdefault(old, made if axis == 0 or generated else old) if old else made
            dim.dim_param = re.sub(r"\W", "_", name)
    for value in (*proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
            elif dim.HasField("dim_param"):
                dim.ClearField("dim_param")


def _pairs(folder: Path) -> list[Pair]:
    try:
        return read_pairs(folder / "pairs.npz")
    except UNREADABLE as error:
        raise _wrong(f"its pairs.npz cannot be read: {first_line(error)}") from error


def _checked(model: OnnxModel, pairs: list[Pair], facts: SourceFacts, out: Path) -> OnnxModel:
    """Compare the model in ONNX Runtime with the framework's own outputs, and write the facts beside it."""
    import dataclasses

    try:
        if len(pairs) < _FEWEST_PAIRS:
            raise _wrong(f"it has {len(pairs)} pairs of inputs and outputs to compare, not {_FEWEST_PAIRS} or more")
        _refuse_empty(pairs)
        usual = pairs[0][0]
        largest = max(_compared(model, inputs, outputs, facts, _hint(inputs, usual)) for inputs, outputs in pairs)
    except BaseException:
        model.path.unlink(missing_ok=True)  # a model that is known to be wrong must not be found later
        raise
    write_text(out / FACTS, documents.to_json(dataclasses.replace(facts, pairs=len(pairs), largest_difference=largest)))
    if facts.tokenizer:
        write_text(out / TOKENIZER, facts.tokenizer)
    return model


def _refuse_empty(pairs: list[Pair]) -> None:
    """Refuse pairs that say nothing: a model that ignores its input, or computes no number, would pass."""
    if have_equal_inputs(pairs):
        raise _wrong("its pairs all have the same inputs")
    if not have_numbers(pairs):
        raise ModelError(
            "the framework itself computes no number, only NaN and infinity, for every input that was tried",
            hint="its weights may be damaged, or not those of this network: try it on real data in the framework",
        )


def _compared(
    model: OnnxModel, inputs: dict[str, Array], outputs: dict[str, Array], facts: SourceFacts, hint: str
) -> float:
    """Return the largest difference for one pair. Raises ``ModelError`` with ``hint`` for more than rounding."""
    for kind, specs, given in (("inputs", model.inputs, inputs), ("outputs", model.outputs, outputs)):
        names = {spec.name for spec in specs}
        if names != set(given):
            raise _wrong(f"its pairs have the {kind} {sorted(given)}, its model {sorted(names)}")
    try:
        found = run_model(model, inputs, optimize=False)
    except Exception as error:  # ONNX Runtime's own exceptions
        raise ModelError(f"ONNX Runtime cannot run the exported model: {first_line(error)}", hint=hint) from error
    numbers = {name: array for name, array in outputs.items() if array.dtype.kind != "O"}
    distance = max((relative_distance(array, found[name]) for name, array in numbers.items()), default=0.0)
    allowed = _allowed(model, inputs, found) if facts.quantized else {}
    lines = _far(outputs, found, allowed) if facts.quantized else differences(outputs, found)
    if lines:
        sizes = ", ".join(f"{name}{list(array.shape)}" for name, array in inputs.items())
        raise ModelError(
            f"the exported ONNX model does not compute what {facts.framework} does: the output {lines[0]} "
            f"(allowed {min(allowed.values(), default=TOLERANCE):.1e}) for {sizes}",
            hint=hint,
        )
    return distance


def _hint(inputs: Mapping[str, Array], usual: Mapping[str, Array]) -> str:
    """Return what to do where a pair differs though those before it did not: by what it has that they have not."""
    import numpy as np

    if any(array.dtype.kind == "f" and bool(np.isnan(array).any()) for array in inputs.values()):
        return _MISSING_HINT
    other = next((n for n, array in inputs.items() if n in usual and array.shape[1:] != usual[n].shape[1:]), None)
    return _DIFFERS_HINT if other is None else _SIZES_HINT.format(other)


def _allowed(model: OnnxModel, inputs: dict[str, Array], found: Mapping[str, Array]) -> dict[str, float]:
    """Return by how much of its largest value each output of an integer model may differ: by its own rounding noise."""
    with scratch_folder() as folder:
        plain = run_model(unrounded(model, folder), inputs, optimize=False)
    noises = {name: relative_distance(array, plain[name]) for name, array in found.items()}
    return {name: min(_MOST_INTEGER, max(_STEPS, _NOISES * noise)) for name, noise in noises.items()}


def _far(outputs: Mapping[str, Array], found: Mapping[str, Array], allowed: Mapping[str, float]) -> tuple[str, ...]:
    """Return one line for every output of an integer model that differs by more than its layers' rounding."""
    distances = {name: relative_distance(array, found[name]) for name, array in outputs.items()}
    return tuple(f"{n!r} differs by {d:.1e} of its largest value" for n, d in distances.items() if not d <= allowed[n])
