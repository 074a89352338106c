"""Fixtures that many tests share."""

from __future__ import annotations

import gc
import itertools
import os
import re
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from left_out import is_left_out
from once import made_once
from small_bundles import small_bundle

from edgepack.base import documents
from edgepack.execution.store import Store
from edgepack.specs.build import BuildResult

pytest_plugins = ["sample_fixtures"]

# On cores that other processes use as well, an example's time says nothing of what it tests.
settings.register_profile("shared cores", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20)  # make test-fast; a test's own number stays
settings.load_profile("shared cores")

# These take longest: they begin first, so that no process is left with one of them when the others have ended.
_LONGEST = (
    "test_docs_commands.py",
    "test_readme.py",
    "test_build.py",
    "test_torch_module.py",
    "test_shared.py",
    "test_server.py",
)
_NUMBERS = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let suites of made-up cases be run for longer than in the whole test run."""
    parser.addoption("--models", type=int, default=12, help="models of the differential test (make differential)")
    parser.addoption("--first-model", type=int, default=0, help="seed of the first of these models")
    parser.addoption("--fuzz-seconds", type=float, default=2, help="seconds for each reader (make fuzz)")
    parser.addoption("--fuzz-folder", help="a folder to keep damaged files in that were worth it, for the next run")
    parser.addoption(
        "--bundles", type=int, default=600, help="mutated bundles, and a twentieth of forged ones (make fuzz)"
    )


def pytest_configure() -> None:
    """Let the tests' processes be interrupted, also where a shell ignores SIGINT, and share the cores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The tests run in as many processes as there are cores: OpenMP's threads of one would spin against the others'
    # (a training of 3 s took 15 s beside another one).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Where gRPC was used before, its fork handlers end some children that are limited between fork and exec (1.85.3:
    # "Epoll1Poller encountered epoll_wait error", SIGABRT). The tests' processes only fork to run another program.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files of which no test is chosen out before they are imported, which takes long for a short run."""
    if collection_path.suffix != ".py" or not config.option.markexpr:
        return None
    return True if is_left_out(collection_path.read_text(encoding="utf-8"), config.option.markexpr) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Keep what the imports make out of the garbage collector's rounds: while they run, and in all that come after."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the store, the unpacked bundles and the tuning records of the tests out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPACK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EDGEPACK_STORE", str(tmp_path_factory.mktemp("store")))
        patch.setenv("EDGEPACK_TUNING", str(tmp_path_factory.mktemp("tuning")))
        patch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it; what is captured is as wide as a file
        yield


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new folder for a test.

    pytest's own looks through the folders of all tests before for the next number: 4 ms each when there are 3000.
    """
    folder = tmp_path_factory.getbasetemp() / "t"
    folder.mkdir(exist_ok=True)
    name = re.sub(r"\W", "_", request.node.name)[:30]
    made = folder / f"{name}{next(_NUMBERS)}"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test may change."""
    return small_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildResult, Store]:
    """The digits demonstration, built once for all tests: fp32 and int8 on every engine here. No test may change it."""
    from digits_build import build_digits

    def make(folder: Path) -> None:
        build_digits(folder / "out", Store(folder / "store"))

    folder = made_once(tmp_path_factory.getbasetemp(), "digits", make)
    result = documents.from_json(BuildResult, (folder / "out" / "build.json").read_bytes(), "build.json")
    return result, Store(folder / "store")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data beside the checkout; tests that need it are skipped where it is not."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "assets"
    if not folder.is_dir():
        pytest.skip("no real models and data beside the checkout (../shared/assets)")
    return folder
