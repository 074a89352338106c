"""Run options change how fast a model runs, never what it computes: every one of them on both engines."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import backend_models
import numpy as np
import pytest
from backend_models import FLOAT, MODELS, make
from installed_engines import skip_without
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.engines import Sharing
from edgepack.errors import DataError, EdgepackError
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.engines import Runner

    Load = Callable[..., Runner]

OPTIONS = {
    "streams": RunOptions(threads=2, streams=2, hint="throughput"),
    "pinned": RunOptions(threads=2, pinning=True),
    "not pinned": RunOptions(threads=1, pinning=False),
    "not spinning": RunOptions(threads=2, spinning=False),
    "off": RunOptions(threads=1, optimization="off"),
    "basic": RunOptions(threads=1, optimization="basic"),
    "layout": RunOptions(threads=1, optimization="layout"),
    "no arena": RunOptions(threads=1, arena=False),
    "reused": RunOptions(threads=1, reuse_outputs=True),
    "fixed batch": RunOptions(threads=1, fixed_batch=1),
    "free batch": RunOptions(threads=1, fixed_batch=0),
    "all of them": RunOptions(2, None, "latency", 1, True, False, "extended", False, True, 3),
}
REUSED = RunOptions(threads=1, reuse_outputs=True)


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest) -> str:
    """The engines whose options are searched; of another one, ``tune`` changes what is common to all."""
    skip_without(request.param)
    return str(request.param)


def expected(proto: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    names = [value.name for value in proto.graph.output]
    return dict(zip(names, ReferenceEvaluator(proto).run(None, feeds), strict=True))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["conv", "several"])
def test_every_option_computes_the_same(name: str, options: RunOptions, load: Load) -> None:
    runner = load(name, options=options)
    for batch in (1, 1, 3, 3, 1, 1, 1):
        feeds = backend_models.feeds(name, batch)
        outputs = runner.infer(feeds)
        for output, wanted in expected(MODELS[name](), feeds).items():
            assert outputs[output].shape == wanted.shape
            np.testing.assert_allclose(outputs[output], wanted, atol=1e-5, rtol=1e-5)


def test_outputs_are_written_into_the_same_arrays(load: Load) -> None:
    runner = load("conv", options=REUSED)
    feeds = backend_models.feeds("conv")
    runner.infer(feeds)
    one, other = runner.infer(feeds)["scores"], runner.infer(feeds)["scores"]
    assert one is other
    wrong = {name: np.zeros_like(value) for name, value in feeds.items()}
    runner.infer(wrong)
    np.testing.assert_allclose(one, expected(MODELS["conv"](), wrong)["scores"], atol=1e-5)


def test_inputs_that_do_not_lie_in_order_are_read_all_the_same(load: Load) -> None:
    runner = load("conv", options=REUSED)
    feeds = backend_models.feeds("conv", 2)
    turned = {name: np.asfortranarray(value) for name, value in feeds.items()}
    for given in (feeds, feeds, turned, turned):
        found = runner.infer(given)["scores"]
        np.testing.assert_allclose(found, expected(MODELS["conv"](), feeds)["scores"], atol=1e-5)


def test_an_output_whose_shape_depends_on_the_values_is_right(load: Load) -> None:
    """What was bound for three values must not be given back when there are one or five."""
    nodes = [helper.make_node("NonZero", ["x"], ["y"])]
    proto = make(nodes, [("x", FLOAT, ["N"])], [("y", TensorProto.INT64, [1, "M"])])
    runner = load(proto, options=REUSED)
    for count in (3, 3, 3, 1, 1, 5, 5, 0, 4):
        x = np.zeros(6, np.float32)
        x[:count] = 1
        np.testing.assert_array_equal(runner.infer({"x": x})["y"], np.arange(count)[None])


def test_a_wrong_input_between_right_ones_is_refused_and_forgotten(load: Load) -> None:
    runner = load("conv", options=REUSED)
    feeds = backend_models.feeds("conv")
    (name,) = feeds
    runner.infer(feeds)
    runner.infer(feeds)
    for wrong in (
        {},
        {name: feeds[name].astype(np.float64)},
        {name: feeds[name][:, :1]},
        {**feeds, "more": feeds[name]},
    ):
        with pytest.raises(DataError):
            runner.infer(wrong)
        np.testing.assert_allclose(
            runner.infer(feeds)["scores"], expected(MODELS["conv"](), feeds)["scores"], atol=1e-5
        )


@pytest.mark.parametrize(
    "options", [RunOptions(threads=1), REUSED, RunOptions(threads=1, fixed_batch=2)], ids=["plain", "reused", "fixed"]
)
def test_runners_of_one_model_infer_at_the_same_time(options: RunOptions, load: Load) -> None:
    first = load("conv", options=options)
    assert isinstance(first, Sharing)
    runners = [first, *(first.another() for _ in range(3))]
    wrong: list[int] = []

    def work(number: int) -> None:
        for batch in range(1, 30):
            feeds = backend_models.feeds("conv", 1 + (batch + number) % 3)
            found = runners[number].infer(feeds)["scores"]
            if not np.allclose(found, answers[len(found)], atol=1e-5):
                wrong.append(number)

    answers = {n: expected(MODELS["conv"](), backend_models.feeds("conv", n))["scores"] for n in (1, 2, 3)}
    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(runners))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for runner in runners[1:]:
        runner.close()


def test_a_closed_runner_with_arrays_says_so(load: Load) -> None:
    runner = load("conv", options=REUSED)
    runner.infer(backend_models.feeds("conv"))
    runner.close()
    with pytest.raises(EdgepackError, match="this runner was closed"):
        runner.infer(backend_models.feeds("conv"))


def test_who_kept_the_function_of_a_runner_is_told_too_that_it_was_closed(load: Load) -> None:
    """A loaded model keeps it: what a runner does once it is closed must not depend on how it is reached."""
    runner = load("conv")
    infer = runner.infer
    runner.close()
    with pytest.raises(EdgepackError, match="this runner was closed"):
        infer(backend_models.feeds("conv"))


def test_pinning_names_cores_that_this_process_may_use() -> None:
    """A container may have cores 3 and 5 only: those are named, counted from 1, but for the caller's own thread."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    from edgepack.engines.onnxruntime.engine import session_options

    cores = sorted(os.sched_getaffinity(0))
    settings = session_options(RunOptions(pinning=True))
    key = "session.intra_op_thread_affinities"
    if len(cores) > 1:
        assert settings.get_session_config_entry(key) == ";".join(str(core + 1) for core in cores[1:])
        assert settings.intra_op_num_threads == len(cores)
    assert isinstance(settings, onnxruntime.SessionOptions)


def test_a_model_loaded_for_one_batch_refuses_wrong_inputs_without_loading_again(load: Load) -> None:
    from edgepack.engines.common.fixed_batch import FixedBatchRunner

    runner = load("conv", options=RunOptions(threads=1, fixed_batch=2))
    assert isinstance(runner, FixedBatchRunner)
    feeds = backend_models.feeds("conv", 2)
    (name,) = feeds
    for wrong in ({}, {name: feeds[name].astype(np.float64)}, {name: feeds[name][:, :1]}):
        with pytest.raises(DataError):
            runner.infer(wrong)
    assert runner._general is None
    for batch in (2, 5, 2, 1):
        feeds = backend_models.feeds("conv", batch)
        found = runner.infer(feeds)["scores"]
        np.testing.assert_allclose(found, expected(MODELS["conv"](), feeds)["scores"], atol=1e-5)
    assert runner._general is not None


def test_other_batches_are_loaded_once_and_then_run_without_asking_the_fixed_one(load: Load) -> None:
    from edgepack.engines.common.fixed_batch import FixedBatchRunner

    runner = load("conv", options=RunOptions(threads=1, fixed_batch=2))
    assert isinstance(runner, FixedBatchRunner)
    feeds = {batch: backend_models.feeds("conv", batch) for batch in (2, 5)}
    runner.infer(feeds[5])
    general = runner._general

    def refused(_: object) -> None:
        raise AssertionError("this batch is not for the fixed model")

    answers, runner._infer = runner._infer, refused  # type: ignore[assignment]
    wanted = expected(MODELS["conv"](), feeds[5])["scores"]
    np.testing.assert_allclose(runner.infer(feeds[5])["scores"], wanted, atol=1e-5)
    with pytest.raises(AssertionError):
        runner.infer(feeds[2])
    runner._infer = answers
    assert runner._general is general


def test_a_batch_that_is_not_free_is_left_alone(load: Load) -> None:
    from edgepack.engines.common.fixed_batch import FixedBatchRunner

    proto = make([helper.make_node("Relu", ["x"], ["y"])], [("x", FLOAT, [1, 4])], [("y", FLOAT, [1, 4])])
    runner = load(proto, options=RunOptions(threads=1, fixed_batch=1))
    assert not isinstance(runner, FixedBatchRunner)
    np.testing.assert_array_equal(runner.infer({"x": -np.ones((1, 4), np.float32)})["y"], np.zeros((1, 4)))
