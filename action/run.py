"""What ``action.yml`` runs: installs edgepack, builds, puts the report into the job's summary, fails where it must.

Standard library only. Inputs come as environment variables ``INPUT_NAME``, and each reaches edgepack as one argument:
no shell sees them. What edgepack prints cannot give commands to the runner. The exit code is edgepack's.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_USAGE = 2
_GATE = 5
_SUMMARY_LIMIT_BYTES = 1_000_000  # GitHub takes 1 MiB a step and drops the whole summary above it
_LAST_LINES = 200
_EXTRAS = re.compile(r"[A-Za-z0-9_-]+(,[A-Za-z0-9_-]+)*")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Files by which a step tells the runner something: for this script alone, not for the models and code that are built.
_RUNNER_FILES = ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY")
_VALUES = ("data", "eval", "recipe", "metric", "max-drop", "out")


class InputError(Exception):
    """An input of the action is wrong."""


@dataclass(frozen=True)
class Done:
    """How a command ended: ``stdout`` whole, and the last lines of what it said to people."""

    code: int
    stdout: str
    said: tuple[str, ...]


def main(words: list[str]) -> int:
    """Run ``install`` or ``build`` and return the exit code."""
    try:
        if words == ["install"]:
            return install()
        if words == ["build"]:
            return build()
    except InputError as error:
        _annotate("error", "edgepack: wrong input", str(error))
        _write_outputs({"status": "error"})
        return _USAGE
    raise SystemExit("usage: run.py install | build")


def install() -> int:
    """Install the edgepack that this action is a part of, of the pinned versions, into the Python that runs this."""
    extras = _input("extras").replace(" ", "")
    if not _EXTRAS.fullmatch(extras):
        raise InputError(f"extras is {extras!r}: write names separated by commas, such as build,openvino")
    here = Path(__file__).resolve().parent.parent
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    done = _run([*pip, "-c", str(here / "constraints.txt"), f"{here}[{extras}]"], here)
    if done.code:
        _annotate("error", f"edgepack[{extras}] was not installed", _last_error(done))
    return done.code


def build() -> int:
    """Build, report, and tell the job what came of it."""
    folder = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()) / (_input("working-directory") or ".")
    if not folder.is_dir():
        raise InputError(f"working-directory is {_input('working-directory')!r}: there is no such folder")
    done = _run([sys.executable, "-m", "edgepack", "build", *_build_words()], folder)
    result = _result(done.stdout)
    if result is None:
        message = _last_error(done)
        _annotate("error", "edgepack built nothing", message)
        _append_summary(f"# edgepack\n\nNothing was built:\n\n{_as_code(message)}\n")
        _write_outputs({"status": "error"})
        return done.code or 1
    for warning in result["warnings"]:
        _annotate("warning", "edgepack", warning)
    for row in result["rows"]:
        if row["status"] != "ok":
            kind = "warning" if row["status"] == "skipped" else "error"
            _annotate(kind, f"{row['target']} {row['precision']}: {row['status']}", row.get("reason") or "")
    out = folder / result["out"]
    reported = _report(out, folder)
    failed = any(row["status"] == "failed" for row in result["rows"])
    code = max(done.code, reported)
    _write_outputs(
        {
            "status": "failed" if failed else {0: "ok", _GATE: "gate_missed"}.get(code, "error"),
            "bundles": "\n".join(str(folder / row["bundle"]) for row in result["rows"] if row.get("bundle")),
            "report": str(out / "report.html"),
            "build-json": str(out / "build.json"),
        }
    )
    return code


def _build_words() -> list[str]:
    """Return the arguments of ``edgepack build``. Raises ``InputError``."""
    model, config = _input("model"), _input("config")
    if model and config:
        raise InputError("model and config are both given: write the model into the config, or leave one of them out")
    if config and not config.endswith(".toml"):
        raise InputError(f"config is {config!r}: name a .toml file")
    try:
        more = shlex.split(_input("arguments"))
    except ValueError as error:
        raise InputError(f"arguments cannot be split into words: {error}") from None
    # One word an option, so that a value is never taken for an option; the model stands behind the end of options.
    words = [f"--target={value}" for value in _several("targets")]
    words += [f"--precision={value}" for value in _several("precisions")]
    words += [f"--{name}={value}" for name in _VALUES if (value := _input(name))]
    if not _truth("benchmark", default=True):
        words.append("--no-benchmark")
    words += [*more, "--json"]
    return [*words, "--", model or config] if model or config else words


def _report(out: Path, folder: Path) -> int:
    """Write the report of ``out`` as a page and into the summary, and return the exit code of its conditions."""
    page, text = out / "report.html", out / "report.md"
    words = [f"--out={page}", f"--out={text}"]
    if baseline := _input("baseline"):
        words.append(f"--baseline={baseline}")
    words += [f"--fail-if={line.strip()}" for line in _input("fail-if").splitlines() if line.strip()]
    text.unlink(missing_ok=True)
    done = _run([sys.executable, "-m", "edgepack", "report", *words, "--", str(out)], folder)
    if done.code:
        held = [line for line in (*done.stdout.splitlines(), *done.said) if line.startswith("failed:")]
        title = "a condition of fail-if holds" if held else "the report was not written"
        _annotate("error", f"edgepack: {title}", "\n".join(held) or _last_error(done))
    if text.is_file():
        _append_summary(text.read_text(encoding="utf-8"))
    else:
        _append_summary(f"# edgepack\n\nThe report was not written:\n\n{_as_code(_last_error(done))}\n")
    return done.code


# --- inputs -----------------------------------------------------------------------------------------------------------


def _input(name: str) -> str:
    """Return an input; one that was not given is empty."""
    return os.environ.get("INPUT_" + name.upper().replace("-", "_"), "").strip()


def _several(name: str) -> list[str]:
    return [value.strip() for value in re.split(r"[\n,]", _input(name)) if value.strip()]


def _truth(name: str, *, default: bool) -> bool:
    text = _input(name).lower()
    if text not in ("", "true", "false"):
        raise InputError(f"{name} is {text!r}: write true or false")
    return text == "true" if text else default


# --- running ----------------------------------------------------------------------------------------------------------


def _run(words: list[str], folder: Path) -> Done:
    """Run a command and pass on what it says, in which nothing counts as a command to the runner."""
    environment = {name: value for name, value in os.environ.items() if name not in _RUNNER_FILES}
    said: deque[str] = deque(maxlen=_LAST_LINES)
    token = secrets.token_hex(16)
    _say(f"::stop-commands::{token}")
    try:
        with (
            tempfile.TemporaryFile() as out,
            subprocess.Popen(words, cwd=folder, env=environment, stdout=out, stderr=subprocess.PIPE) as process,
        ):
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line.decode("utf-8", "replace").rstrip("\r\n"))
                _say(said[-1])
            code = process.wait()
            out.seek(0)
            stdout = out.read().decode("utf-8", "replace")
        if "--json" not in words:  # then it is for people, too
            for words_said in stdout.splitlines():
                _say(words_said)
    finally:
        _say(f"::{token}::")
    return Done(code if code >= 0 else 128 - code, stdout, tuple(said))


def _result(stdout: str) -> Mapping[str, Any] | None:
    """Return what ``edgepack build --json`` printed, or None when it built nothing."""
    try:
        found = json.loads(stdout)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("rows"), list) else None


def _last_error(done: Done) -> str:
    """Return the last error that a command printed, with what to do about it, else its last lines."""
    lines = [_COLOUR.sub("", line) for line in done.said]
    starts = [number for number, line in enumerate(lines) if line.lower().startswith("error:")]
    found = lines[starts[-1] :] if starts else lines[-5:]
    return "\n".join(line for line in found if line.strip()) or f"the command ended with exit code {done.code}"


# --- telling the runner -----------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _annotate(kind: str, title: str, text: str) -> None:
    """Print a workflow command; the escapes are those of GitHub's toolkit (packages/core/src/command.ts)."""
    heading = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    _say(f"::{kind} title={heading}::{_escaped(text)}")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _write_outputs(values: Mapping[str, str]) -> None:
    """Set the step's outputs, each between random delimiters, so that no value can end itself and set another."""
    _append("GITHUB_OUTPUT", (_output(name, value) for name, value in values.items()))


def _output(name: str, value: str) -> str:
    mark = f"edgepack_{secrets.token_hex(16)}"
    return f"{name}<<{mark}\n{value}\n{mark}\n"


def _append_summary(text: str) -> None:
    data = text.encode("utf-8")
    if len(data) > _SUMMARY_LIMIT_BYTES:
        kept = data[:_SUMMARY_LIMIT_BYTES].rpartition(b"\n")[0].decode("utf-8", "ignore")
        text = f"{kept}\n\nThe report is longer than a summary may be; the rest is in report.md.\n"
    _append("GITHUB_STEP_SUMMARY", [text])


def _append(variable: str, texts: Iterable[str]) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(texts)


def _as_code(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
