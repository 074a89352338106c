"""Fixtures for the tests of the engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import backend_models
import pytest
from installed_engines import skip_without
from profiles import GOOD

from edgepack.engines import ENGINES, Backend, Runner, get_backend
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import EngineFacts, Target
from edgepack.specs.types import Precision

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

Load = Callable[..., Runner]


@pytest.fixture(params=sorted(ENGINES.own))
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine in turn; skipped with the reason when it is not installed."""
    skip_without(request.param)
    return str(request.param)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The file of a profile that is right."""
    path = tmp_path / "my-board.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def backend(engine: str) -> Backend:
    return get_backend(engine)


@pytest.fixture
def target(engine: str) -> Target:
    return Target("test", "test", engine, "x86_64", engine=EngineFacts())


@pytest.fixture(scope="session")
def compiled_models() -> dict[tuple[str, str, bytes], CompiledModel]:
    """What ``load`` has compiled, by engine, precision and the model's bytes."""
    return {}


@pytest.fixture
def load(
    backend: Backend,
    target: Target,
    compiled_models: dict[tuple[str, str, bytes], CompiledModel],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Load]:
    """Compile a model, once for all tests, and load it on one thread; everything is closed when the test ends."""
    with ExitStack() as stack:

        def build(
            proto: onnx.ModelProto | str, precision: Precision = "fp32", options: RunOptions | None = None
        ) -> Runner:
            if isinstance(proto, str):
                proto = backend_models.MODELS[proto]()
            key = (target.backend, precision, proto.SerializeToString(deterministic=True))
            if key not in compiled_models:
                folder = tmp_path_factory.mktemp("compiled")
                model: OnnxModel = backend_models.save(proto, folder / "source.onnx")
                compiled_models[key] = backend.compile_model(model, target, precision, folder / "out")
            runner = backend.load_model(compiled_models[key], options or RunOptions(threads=1))
            return stack.enter_context(closing(runner))

        yield build
