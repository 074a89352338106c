"""The exported library: built for several processors, used by programs in C and C++, and by its own program."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cpp_library import engine_paths
from hostile_archives import CASES
from packed_models import random_samples
from small_bundles import small_bundle

from edgepack.base.resources import package_folder
from edgepack.bundle.layout import SIGNATURE
from edgepack.cpp.library import export_library, write_source
from edgepack.device.host import host_facts
from edgepack.engines.common.linking import build_cpp, cache_folder, zig
from edgepack.engines.tvm.elf import machine_of
from edgepack.errors import ConfigError
from edgepack.runtime.load import load
from edgepack.runtime.verify import verify

DOCS = package_folder().parent / "docs" / "cpp.md"
SAMPLE = ("image", (1, 3, 8, 8))
pytestmark = pytest.mark.long


def run(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **engine_paths(), **variables}
    return subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, check=False, env=environment, timeout=250
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle"))


def test_what_is_written(exported: Path) -> None:
    found = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if not path.is_dir()}
    assert {
        "include/edgepack.h", "include/edgepack.hpp", "lib/libedgepack.so", "lib/libedgepack.so.0", "bin/edgepack-run",
        "lib/pkgconfig/edgepack.pc", "src/source/facts.h", "src/source/engines/edgepack_tvm.h",
    } <= found  # fmt: skip
    assert (exported / "lib" / "libedgepack.so").resolve().name == "libedgepack.so.0"


def test_it_needs_the_c_library_alone_and_shows_its_own_functions_only(exported: Path) -> None:
    library = exported / "lib" / "libedgepack.so.0"
    data = library.read_bytes()
    assert b"libstdc++" not in data
    wanted = {tuple(int(n) for n in v.split(b".")) for v in re.findall(rb"GLIBC_(2\.[0-9]+)", data)}
    assert max(wanted) <= (2, 28)
    if not shutil.which("nm"):
        pytest.skip("nm is not installed")
    shown = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in shown.splitlines()}
    header = (exported / "include" / "edgepack.h").read_text()
    promised = set(re.findall(r"EDGEPACK_API [^;(]*?\b(edgepack_\w+)\(", header))
    assert len(promised) > 30
    assert names == promised


def example() -> str:
    """Return the program that the documentation shows."""
    (code,) = re.findall(r"```cpp\n(.*?)```", DOCS.read_text(), re.DOTALL)[:1]
    return str(code)


def test_the_program_of_the_documentation(exported: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text(example())
    use = [f"-I{exported}/include", f"-L{exported}/lib", "-ledgepack", f"-Wl,-rpath,{exported}/lib"]
    build_cpp(tmp_path, ["main.cpp"], use, tmp_path / "main", host_facts().arch, None)
    (tmp_path / "main").chmod(0o755)
    done = run(tmp_path / "main", bundle)
    assert done.returncode == 0, done.stderr
    with load(bundle) as model:
        wanted = model.infer({"image": np.zeros((1, 3, 8, 8), np.float32)})["scores"]
    assert f"scores: {wanted.size} values" in done.stdout
    assert f"best: {model.manifest.classes[int(wanted.argmax())]}" in done.stdout
    refused = run(tmp_path / "main", tmp_path / "main.cpp")
    assert refused.returncode == 2
    assert "is not a zip archive" in refused.stderr


C_PROGRAM = """
#include <edgepack.h>
#include <stdio.h>
int main(int count, char** words) {
  edgepack_bundle* bundle;
  edgepack_status status = edgepack_open(words[count - 1], &bundle);
  if (status) return printf("%s\\n", edgepack_message()), edgepack_exit_code(status);
  const edgepack_tensor_info* input = edgepack_input(bundle, 0);
  printf("%s %s %d %lld %s\\n", input->name, edgepack_dtype_name(input->dtype), input->ndim,
         (long long)input->shape[0], input->dimensions[0]);
  edgepack_close(bundle);
  return 0;
}
"""


def test_a_program_in_c(exported: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(C_PROGRAM)
    strict = ["-std=c99", "-Wall", "-Werror", "-pedantic"]
    as_library = ["-O2", "-s"]  # otherwise Zig compiles its own runtime once more, for 25 CPU s
    use = [f"-I{exported}/include", f"-L{exported}/lib", "-ledgepack", f"-Wl,-rpath,{exported}/lib"]
    cache = {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder() / "zig")}
    target = ["-target", f"{host_facts().arch}-linux-gnu.2.28"]
    made = run(zig(), "cc", *target, *as_library, *strict, tmp_path / "main.c", *use, "-o", tmp_path / "main", **cache)
    assert made.returncode == 0, made.stderr
    assert run(tmp_path / "main", bundle).stdout == "image float32 4 -1 N\n"


# --- edgepack-run -----------------------------------------------------------------------------------------------------


def test_run_computes_what_python_computes(exported: Path, bundle: Path, tmp_path: Path) -> None:
    sample = random_samples([SAMPLE], 1)[0]
    np.savez(tmp_path / "in.npz", **sample)
    done = run(
        exported / "bin" / "edgepack-run", "run", bundle, "--input", tmp_path / "in.npz", "--out", tmp_path / "out.npz"
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "run by onnxruntime" in done.stderr
    with load(bundle) as model, np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["scores"], model.infer(sample)["scores"])


def test_verify_prints_what_python_prints(exported: Path, bundle: Path) -> None:
    done = run(exported / "bin" / "edgepack-run", "verify", bundle, "--json")
    assert done.returncode == 0, done.stderr
    found, wanted = json.loads(done.stdout), verify(bundle)
    assert found["passed"] is wanted.passed is True
    assert found["outputs"][0]["name"] == wanted.outputs[0].name
    assert "passed: 2 golden vectors" in run(exported / "bin" / "edgepack-run", "verify", bundle).stdout


def test_inspect_and_check(exported: Path, bundle: Path, tmp_path: Path) -> None:
    program = exported / "bin" / "edgepack-run"
    assert json.loads(run(program, "inspect", bundle).stdout)["name"] == "small"
    (tmp_path / "bad.edgepack").write_bytes(bundle.read_bytes()[:-5])
    done = run(program, "check", bundle, tmp_path / "bad.edgepack")
    assert (done.returncode, done.stdout.count("small 1.0 for test-board, fp32")) == (2, 1)
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr


MISTAKES = (
    (), ("check",), ("nothing", "x"), ("run", "x"), ("run", "x", "--input"), ("verify", "a", "b"),
    ("verify", "a", "--threads", "0"), ("verify", "a", "--batch", "x"), ("verify", "a", "--what", "1"),
)  # fmt: skip


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_mistakes_on_its_command_line(exported: Path, words: tuple[str, ...]) -> None:
    done = run(exported / "bin" / "edgepack-run", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: edgepack-run")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", None], ids=["empty", "cut", "npy", "missing"])
def test_inputs_that_are_no_archive(exported: Path, bundle: Path, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "in.npz").write_bytes(content)
    done = run(
        exported / "bin" / "edgepack-run", "run", bundle, "--input", tmp_path / "in.npz", "--out", tmp_path / "out.npz"
    )
    assert done.returncode == 2
    assert "in.npz" in done.stderr
    assert not (tmp_path / "out.npz").exists()


# --- other processors and compilers -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.own
@pytest.mark.timeout(3000)
def test_it_is_built_for_aarch64(tmp_path: Path) -> None:
    made = export_library(tmp_path / "out", "aarch64", "2.31")
    assert made.arch == "aarch64"
    for name in ("lib/libedgepack.so.0", "bin/edgepack-run"):
        assert machine_of(tmp_path / "out" / name) == "aarch64"


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of the same source by g++ with AddressSanitizer and UndefinedBehaviorSanitizer."""
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("sanitized")
    write_source(folder / "src")
    sources = sorted((folder / "src" / "source").rglob("*.cpp"))
    program = folder / "edgepack-run"
    build = ["g++", "-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    made = subprocess.run(
        [*build, *map(str, sources), "-ldl", "-lpthread", "-o", str(program)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "cannot find" in made.stderr:
        pytest.skip("g++ has no sanitizers here")
    assert made.returncode == 0, made.stderr
    return program


def without_findings(done: subprocess.CompletedProcess[str]) -> int:
    """Return how a program ended that the sanitizers have found nothing in."""
    assert "Sanitizer" not in done.stderr, done.stderr[-3000:]
    assert "runtime error" not in done.stderr, done.stderr[-3000:]
    return done.returncode


@pytest.mark.long
@pytest.mark.own
@pytest.mark.timeout(3000)
def test_hostile_bundles_under_sanitizers(tmp_path: Path, bundle: Path, sanitized: Path) -> None:
    """No finding on any hostile bundle."""
    from fuzz_damage import members_of
    from hostile_bundles import forged, mutated

    good = bundle.read_bytes()
    hostile = [case.make(members_of(good)) for case in CASES] + [mutated(good, seed) for seed in range(1000)]
    hostile += [forged(good, seed) for seed in range(300)]
    for begin in range(0, len(hostile), 100):
        paths = [tmp_path / f"{i}.edgepack" for i in range(100)]
        for path, data in zip(paths, hostile[begin : begin + 100], strict=False):
            path.write_bytes(data)
        done = run(sanitized, "check", *(path for path in paths if path.exists()))
        assert without_findings(done) in (0, 2, 5)


@pytest.mark.long
@pytest.mark.own
@pytest.mark.timeout(3000)
def test_hostile_signatures_under_sanitizers(tmp_path: Path, bundle: Path, sanitized: Path) -> None:
    """No finding on any hostile signature either, by a key or without one; nothing of them is taken."""
    from fuzz_damage import assemble, members_of
    from hostile_signatures import damaged, line_of
    from sigstore_double import ISSUER, ME
    from sigstore_forged import CERTIFICATES, FORGED, PAYLOAD, SIGSTORE, STAMPS
    from trust_cases import device, new_key, signed_bundle

    key = new_key(tmp_path, "one")
    members, by_key = members_of(bundle.read_bytes()), signed_bundle(tmp_path / "key", key)
    who = {"sigstore": "trusted_root.json", "identities": [{"identity": ME, "issuer": ISSUER}], "keys": "keys"}
    policy = device(tmp_path / "etc", new_key(tmp_path, "two"), **who)
    (tmp_path / "etc" / "trusted_root.json").write_text(json.dumps(SIGSTORE.trusted_root()))
    documents = [SIGSTORE.signed(PAYLOAD), SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled)]
    lines = [line_of(SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(**other))) for other, _ in CERTIFICATES.values()]
    lines += [line_of(SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled, stamp=other)) for other, _ in STAMPS.values()]
    for change, _ in FORGED.values():
        change(made := SIGSTORE.signed(PAYLOAD))
        lines.append(line_of(made))
    for seed in range(400):
        made = damaged(documents[seed % 2], seed)
        lines.append(made if isinstance(made, bytes) else line_of(made))
    text = members_of(by_key.read_bytes())[SIGNATURE]
    chance = random.Random(3)
    for _ in range(100):
        changed = bytearray(text)
        changed[chance.randrange(len(text) - 1)] = chance.choice(b'{}[]",:\\ 0-9eAz=\xc3')
        lines.append(bytes(changed[:-1]))
    path = tmp_path / "x.edgepack"
    for line in lines:
        path.write_bytes(assemble({**members, SIGNATURE: line + b"\n"}))
        assert without_findings(run(sanitized, "verify", path, EDGEPACK_POLICY=str(policy))) == 5, line[-300:]
    print(f"{len(lines)} hostile signatures under the sanitizers: all refused")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        export_library(tmp_path / "file", "x86_64")


@pytest.mark.parametrize("version", ["", "2", "2.28 -o x", "3.1", "musl"])
def test_versions_of_glibc_that_are_none(tmp_path: Path, version: str) -> None:
    with pytest.raises(ConfigError, match="is not a version of glibc"):
        export_library(tmp_path / "out", "x86_64", version)
    assert not (tmp_path / "out").exists()


def test_the_command(exported: Path, tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "edgepack", "export-library", "--out", tmp_path / "out", "--glibc", "x")
    assert done.returncode == 2
    assert "is not a version of glibc" in done.stderr
    assert exported.is_dir()
