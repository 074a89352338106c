"""The device's command line, for machines with numpy and an engine only: argparse, the words of the full one.

``edgepack inspect | verify | run | benchmark | tune | install | adopt BUNDLE``, ``status``, ``rollback``: people's
output on stderr, ``--json`` on stdout, exit codes of ``errors.py``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgepack import __version__
from edgepack.base import documents
from edgepack.errors import ConfigError, EdgepackError, StorageError
from edgepack.specs import Result, RunOptions, Scenario, Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgepack.runtime.run import Answer

_USAGE = 2
_UNVERIFIED = 5
_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_LIMIT_S = 600.0
_UNITS_NS = {"ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000, "m": 60_000_000_000}
_DAY_NS = 86_400 * 1_000_000_000


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error is one message with what to do."""
    words = [word for word in arguments if word != "--debug"]
    debug = len(words) != len(arguments)
    try:
        parsed = _parser().parse_args(words)
        return _COMMANDS[parsed.command](parsed)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        message, hint, code = _explain(error)
        _say(f"error: {message}\nwhat to do: {hint}")
        return code


def _explain(error: BaseException) -> tuple[str, str, int]:
    """Return what is said of an error, what to do about it, and the exit code."""
    match error:
        case EdgepackError():
            return error.message, error.hint, error.exit_code
        case KeyboardInterrupt():
            return "interrupted", "run the same command again", _INTERRUPTED
        case MemoryError():
            return "not enough memory", "free some memory, or choose a smaller model", 1
        case OSError():
            return f"{error.strerror or error}: {error.filename or 'a file'}", StorageError.default_hint, 1
    text = f"this is a defect of edgepack: {type(error).__name__}: {error}"
    return text, "run again with --debug and report it", 1


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _print_json(value: Any) -> None:
    sys.stdout.write(documents.to_json(value))
    sys.stdout.flush()


class _Parser(argparse.ArgumentParser):
    """Raises ``ConfigError`` where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        builder = "" if " " in self.prog else "; commands that build need Python 3.11 and pip install 'edgepack[build]'"
        raise ConfigError(message, hint=f"see '{self.prog} --help'{builder}")


def _parser() -> _Parser:
    parser = _Parser(
        prog="edgepack",
        description="What a device does with bundles. Building them needs: pip install 'edgepack[build]'",
        epilog="--debug anywhere shows the traceback of an error. Exit codes: 0 done, 1 other, 2 usage or "
        "configuration, 3 an engine is missing, 4 an engine refused the model, 5 verification failed.",
    )
    parser.add_argument("--version", action="version", version=f"edgepack, version {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    _add(commands, "inspect", "Show inputs, payloads, sizes and provenance of a bundle.")
    _add(commands, "verify", "Run the golden vectors on this machine; exit code 5 when an output is too far off.", "t")
    run = _add(commands, "run", "Run a bundle on one input and show what comes out.", "t")
    run.add_argument("--input", dest="source", type=Path, required=True, help="a .npz with the inputs, or a picture")
    run.add_argument("-o", "--out", type=Path, help="write the outputs to this .npz")
    measure = _add(commands, "benchmark", "Measure latency and throughput on this machine.", "t", many=True)
    measure.add_argument(
        "--scenario", choices=("SingleStream", "MultiStream", "Server", "Offline"), default="SingleStream"
    )
    measure.add_argument("--duration", type=duration_ns, default="10s", help="how long to measure (default: 10s)")
    measure.add_argument("--warmup", type=duration_ns, default="1s", help="untimed queries before (default: 1s)")
    measure.add_argument("--batch", type=_positive, default=1, help="samples a query (Offline)")
    measure.add_argument("--latency-bound", type=duration_ns, help="what the p99 of Server must keep")
    measure.add_argument("--launches", type=_positive, default=5, help="fresh processes to measure in (default: 5)")
    measure.add_argument("--seed", type=int, default=0)
    measure.add_argument("-o", "--out", type=Path, help="write the result (JSON); a folder for several bundles")
    measure.add_argument("--untuned", action="store_true", help="do not use what 'edgepack tune' found here")
    tune = _add(commands, "tune", "Find the run options with which a bundle is fastest here, and keep them for it.")
    tune.add_argument("--scenario", choices=("SingleStream", "Offline"), default="SingleStream")
    tune.add_argument("--duration", type=duration_ns, default="60s", help="how long to search (default: 60s)")
    tune.add_argument("--seed", type=int, default=0)
    put = _add(commands, "install", "Check, copy, build, prove and activate a bundle below a folder.", "t")
    put.add_argument("--root", type=Path, required=True, help="where versions, engines and the link 'current' are")
    for name, text in (
        ("status", "Say which version is in use below a folder, and on what it was proved."),
        ("rollback", "Put the version before the present one in use again."),
    ):
        other = commands.add_parser(name, help=text, description=text)
        other.add_argument("--root", type=Path, required=True)
        other.add_argument("--json", dest="as_json", action="store_true", help="print the result as JSON on stdout")
    take = _add(commands, "adopt", "Pack the engine that this device built into the bundle, for its twins.")
    take.add_argument("-o", "--out", type=Path, required=True, help="the bundle to write")
    return parser


def _add(commands: Any, name: str, text: str, options: str = "", many: bool = False) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, nargs="+" if many else None)
    if "t" in options:
        parser.add_argument("--threads", type=_positive, help="threads of the engine; else its own default")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print the result as JSON on stdout")
    return parser


def duration_ns(text: str) -> int:
    """Return ``500ms``, ``10s`` or ``2min`` as nanoseconds; a bare number is seconds."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(ms|s|min|m)?", text.strip())
    ns = int(float(match[1]) * _UNITS_NS[match[2] or "s"]) if match else 0
    if not _UNITS_NS["ms"] <= ns <= _DAY_NS:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration from 1ms to 1 day: write 500ms, 10s or 2min")
    return ns


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 65536")
    return int(text)


# --- the commands -----------------------------------------------------------------------------------------------------


def _inspect(arguments: argparse.Namespace) -> int:
    from edgepack.bundle.archive import open_bundle

    bundle = open_bundle(arguments.bundle)
    if arguments.as_json:
        _print_json({"manifest": bundle.manifest, "sha256": bundle.sha256, "size_bytes": bundle.size_bytes})
        return 0
    manifest = bundle.manifest
    _say(f"{manifest.name} {manifest.version} for {manifest.target}, {manifest.precision}, {bundle.size_bytes} bytes")
    _say(f"sha256 {bundle.sha256}")
    for kind, tensors in (("input", manifest.inputs), ("output", manifest.outputs)):
        for tensor in tensors:
            _say(f"  {kind:<7} {tensor.name}: {tensor.dtype}[{', '.join(str(size) for size in tensor.shape)}]")
    for payload in manifest.payloads:
        _say(f"  engine  {payload.backend} on {payload.device}, {payload.entry}")
    if (measured := manifest.accuracy) and (found := measured.accuracy):
        _say(
            f"  {found.metric} {found.value:.4f}, fp32 {found.fp32:.4f}, drop {found.drop:.4f} "
            f"({found.ci95[0]:.4f}..{found.ci95[1]:.4f}), n={found.n}, measured with {measured.engine}"
        )
    _say("  built with " + ", ".join(f"{name} {version}" for name, version in sorted(manifest.toolchain.items())))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from edgepack.runtime.verify import verify

    result = verify(arguments.bundle, RunOptions(threads=arguments.threads))
    if arguments.as_json:
        _print_json(result)
    _show_verification(arguments.bundle, result)
    return 0 if result.passed else _UNVERIFIED


def _show_verification(bundle: Path, result: Verification) -> None:
    for output in result.outputs:
        ratio = "" if output.sqnr_db is None else f"SQNR {output.sqnr_db:.1f} dB, "
        least = "" if output.tolerance_sqnr_db is None else f" (at least {output.tolerance_sqnr_db:.1f} dB)"
        _say(
            f"  {output.name}: {'ok' if output.passed else 'too far'}: {ratio}cosine {output.cosine:.6f}, "
            f"largest error {output.max_abs:.3g}{least}{'; ' + output.note if output.note else ''}"
        )
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    verdict = "verified" if result.passed else "not verified"
    _say(f"{verdict}: {bundle} on {result.samples} golden vectors with {versions}")
    if result.note:
        _say(result.note)


def _run(arguments: argparse.Namespace) -> int:
    from edgepack.runtime.run import run

    options = None if arguments.threads is None else RunOptions(threads=arguments.threads)
    answer = run(arguments.bundle, arguments.source, options)
    if arguments.out is not None:
        _write_npz(arguments.out, answer)
    if arguments.as_json:
        _print_json(answer.summary())
        return 0
    for name, value in answer.outputs.items():
        first = " ".join(f"{x:.4g}" for x in value.ravel()[:6].tolist())
        _say(f"  {name}: {value.dtype}{list(value.shape)} {first}{' ...' if value.size > 6 else ''}")
    for label, score in answer.top5 or ():
        _say(f"  {label:<24} {score:.4f}")
    return 0


def _write_npz(out: Path, answer: Answer) -> None:
    import numpy as np

    from edgepack.base.files import atomic_write

    outputs: dict[str, Any] = dict(answer.outputs)
    with atomic_write(out) as file:
        np.savez(file, **outputs)


def _benchmark(arguments: argparse.Namespace) -> int:
    results = _measure(arguments)
    if arguments.out is not None:
        _write_results(results, arguments.out)
    if arguments.as_json:
        _print_json(results[0] if len(results) == 1 else results)
    for result in results:
        _show_result(result)
    return 0


def _measure(arguments: argparse.Namespace) -> tuple[Result, ...]:
    """Measure each bundle alone in a fresh process."""
    from edgepack.benchmark import benchmark
    from edgepack.benchmark.tune.options import plan_of, told
    from edgepack.execution import child

    plan = Scenario(
        arguments.scenario,
        arguments.duration,
        arguments.warmup,
        arguments.batch,
        arguments.seed,
        latency_bound_ns=arguments.latency_bound,
        launches=arguments.launches,
    )
    asked = None if arguments.threads is None and not arguments.untuned else RunOptions(threads=arguments.threads)
    limit_s = _LIMIT_S + 3 * (plan.duration_ns + plan.warmup_ns) / 1e9
    results = []
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        log = Path(folder) / "benchmark.log"
        for bundle in arguments.bundle:
            chosen, options, tuning = plan_of(bundle, plan, asked)
            found = child.call(
                benchmark, bundle.absolute(), chosen, options, limit_s=limit_s, log=log, progress=_show_progress
            )
            results.append(told(found, tuning))
    return tuple(results)


def _tune(arguments: argparse.Namespace) -> int:
    from edgepack.benchmark.tune import tune_and_store

    found, path = tune_and_store(
        arguments.bundle, arguments.scenario, arguments.duration, arguments.seed, _show_progress
    )
    if arguments.as_json:
        _print_json(found)
    for trial in found.trials:
        _say(
            f"  {trial.changes}: {trial.ratio:.3f}" if trial.ratio is not None else f"  {trial.changes}: {trial.reason}"
        )
    low, high = found.ci95
    _say(f"{found.verdict}: {found.ratio:.3f} times the engine's default ({low:.3f}..{high:.3f}); kept in {path}")
    for text in (*found.notes, *found.invalid_reasons):
        _say(f"  {text}")
    return 0


def _show_progress(what: str, done: int, total: int, /) -> None:
    if sys.stderr.isatty():
        share = f"{100 * done // total} %" if total else str(done)
        sys.stderr.write(f"\r{what}: {share}\x1b[K" + ("\r\x1b[K" if done == total else ""))
        sys.stderr.flush()


def _write_results(results: tuple[Result, ...], out: Path) -> None:
    from edgepack.base.files import write_text

    if len(results) == 1 and not out.is_dir():
        write_text(out, documents.to_json(results[0]))
        return
    if out.is_file():
        raise ConfigError(f"{out} is a file, and there are {len(results)} results", hint="name a folder")
    for result in results:
        name = f"{result.bundle_name}-{result.target}-{result.precision}.json"
        write_text(out / name, documents.to_json(result))


def _show_result(result: Result) -> None:
    _say(f"{result.bundle_name} {result.target} {result.precision}, {result.scenario.name}: {result.queries} queries")
    for percentile in result.percentiles:
        if percentile.value_ns is None:
            _say(f"  p{percentile.p:g} needs {percentile.queries_needed} queries")
        else:
            low, high = percentile.ci95_ns or (percentile.value_ns, percentile.value_ns)
            _say(f"  p{percentile.p:g} {percentile.value_ns / 1e6:.3f} ms ({low / 1e6:.3f}..{high / 1e6:.3f})")
    _say(f"  {result.samples_per_second:.4g} samples/s{'' if result.valid else ', NOT VALID'}")
    for reason in result.invalid_reasons:
        _say(f"  {reason}")


def _install(arguments: argparse.Namespace) -> int:
    from edgepack.runtime.install import install

    record = install(arguments.bundle, arguments.root, RunOptions(threads=arguments.threads), _show_progress)
    return _show_record(arguments, record)


def _rollback(arguments: argparse.Namespace) -> int:
    from edgepack.runtime.install import rollback

    return _show_record(arguments, rollback(arguments.root))


def _status(arguments: argparse.Namespace) -> int:
    from edgepack.runtime.install import describe_status, status

    found = status(arguments.root)
    if arguments.as_json:
        _print_json(found)
    for line in describe_status(found):
        _say(line)
    return 0 if found.problem is None else _UNVERIFIED


def _show_record(arguments: argparse.Namespace, record: Any) -> int:
    from edgepack.runtime.install import describe_record

    if arguments.as_json:
        _print_json(record)
    for line in describe_record(record):
        _say(line)
    return 0


def _adopt(arguments: argparse.Namespace) -> int:
    from edgepack.runtime.adopt import adopt

    payload = adopt(arguments.bundle, arguments.out, _show_progress)
    if arguments.as_json:
        _print_json(payload)
    _say(f"wrote {arguments.out}: its engine fits " + ", ".join(f"{k} {v}" for k, v in sorted(payload.key.items())))
    return 0


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "inspect": _inspect,
    "verify": _verify,
    "run": _run,
    "benchmark": _benchmark,
    "tune": _tune,
    "install": _install,
    "status": _status,
    "rollback": _rollback,
    "adopt": _adopt,
}
