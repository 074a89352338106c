"""The search for run options: simulated workers whose speed is known by their options, then a real engine."""

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
from simulated import Machine, SimulatedWorker
from small_bundles import small_bundle

from edgepack.benchmark.measure.worker import Open
from edgepack.benchmark.tune import Setting, tune, tune_and_store, tune_with
from edgepack.benchmark.tune.candidates import changes
from edgepack.benchmark.tune.space import combinations, describe_changes, with_changes
from edgepack.errors import CompileError, ConfigError
from edgepack.runtime.load import load, tuning_here
from edgepack.runtime.tuning import path_beside
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.long

SECOND = 10**9
CHANGES = (("threads", 2), ("threads", 1), ("spinning", False), ("arena", False), ("pinning", True))
SETTING = Setting(Path("x.edgepack"), "SingleStream", CHANGES, {"cpu": "made up"}, 16)


class TunedWorker(SimulatedWorker):
    """A simulated worker that is as fast as ``factor`` says of the options it is opened with."""

    def __init__(self, machine, name, factor):
        super().__init__(machine, name)
        self.factor, self.base = factor, self.own

    def ask(self, request):
        if isinstance(request, Open):
            value = self.factor(request)
            if value is None:
                raise CompileError("the engine refused these options", hint="none")
            self.own = self.base + math.log(value)
        return super().ask(request)


def run(seed, factor, *, check=lambda options: None, setting=SETTING, machine=None, duration_s=60):
    machine = machine or Machine(seed)
    workers = []
    ticks = itertools.count()

    def start(name):
        workers.append(TunedWorker(machine, name, factor))
        return workers[-1]

    def clock():
        return next(ticks) * 0.5

    found = tune_with(start, check, setting, duration_s * SECOND, seed=seed, clock=clock)
    assert all(worker.closed for worker in workers)
    return found


def faster_with_both(request):
    """20 % from one thread, 10 % from not spinning, and pinning makes it slower."""
    options = request.options
    value = 0.8 if options.threads == 1 else 1.3 if options.threads == 2 else 1.0
    return value * (0.9 if options.spinning is False else 1.0) * (1.4 if options.pinning else 1.0)


def test_changes_that_help_are_found_and_combined():
    found = [run(seed, faster_with_both) for seed in range(10)]
    options = Counter((f.options.threads, f.options.spinning, f.options.pinning) for f in found)
    assert options[(1, False, None)] >= 9
    assert all(f.verdict == "faster" and f.ci95[1] < 1 and f.ratio == pytest.approx(0.72, rel=0.05) for f in found)
    assert all(f.tuned_ns < f.default_ns for f in found)
    tried = {trial.changes for trial in found[0].trials}
    assert {"threads 1", "spinning off", "threads 1, spinning off"} <= tried


def test_where_nothing_helps_the_defaults_stay_in_95_of_100_searches():
    found = [run(seed, lambda _: 1.0) for seed in range(100)]
    kept = [f for f in found if f.verdict == "default"]
    assert len(kept) >= 95
    assert all(f.options == RunOptions() and f.batch == 1 and f.ratio == 1.0 for f in kept)


def test_where_everything_hurts_the_defaults_stay():
    found = run(3, lambda request: 1.0 if request.options == RunOptions() else 1.2)
    assert (found.verdict, found.options, found.ci95) == ("default", RunOptions(), (1.0, 1.0))
    assert all(trial.ratio > 1 for trial in found.trials)


def test_what_cannot_be_told_from_the_defaults_is_said():
    """One thread takes 3 % less, but two loads of the same bundle differ by 30 %."""
    found = [
        run(seed, lambda r: 0.97 if r.options.threads == 1 else 1.0, machine=Machine(seed, launch_sd=0.3))
        for seed in range(20)
    ]
    kept = [f for f in found if f.verdict == "default"]
    assert len(kept) >= 18
    notes = [note for f in kept for note in f.notes]
    assert len(notes) > 10
    assert all("times as long as the defaults" in note and "undecided, so the defaults stay" in note for note in notes)


def test_options_that_the_engine_refuses_cost_their_trial_only():
    found = run(1, lambda request: None if request.options.threads == 1 else faster_with_both(request))
    refused = next(trial for trial in found.trials if trial.changes == "threads 1")
    assert refused.ratio is None
    assert "the engine refused these options" in refused.reason
    assert found.options.spinning is False


def test_options_that_compute_something_else_are_not_taken():
    def check(options):
        return "the outputs are too far from the golden vectors" if options.threads == 1 else None

    found = run(1, faster_with_both, check=check)
    assert found.options.threads is None
    assert any("threads 1" in note and "golden vectors" in note for note in found.notes)


def test_a_bundle_that_does_not_run_at_all_is_an_error():
    from edgepack.errors import EdgepackError

    with pytest.raises(EdgepackError, match="does not run with the defaults"):
        run(0, lambda _: None)


def test_for_throughput_the_time_of_a_sample_counts():
    """A batch of 8 takes five times as long as one sample: less a sample, though each call is slower."""
    changes = (("batch", 8), ("batch", 2), ("streams", 2))
    setting = Setting(Path("x.edgepack"), "Offline", changes, {"cpu": "made up"}, 16)
    factors = {1: 1.0, 2: 2.2, 8: 5.0}
    found = run(0, lambda request: factors[request.scenario.batch], setting=setting)
    assert (found.batch, found.verdict) == (8, "faster")
    assert found.ratio == pytest.approx(5 / 8, rel=0.1)


def test_few_processes_are_held_where_memory_is_short():
    machine, workers, most = Machine(0), [], []
    ticks = itertools.count()

    def start(name):
        workers.append(TunedWorker(machine, name, lambda _: 1.0))
        most.append(sum(not worker.closed for worker in workers))
        return workers[-1]

    setting = Setting(SETTING.bundle, "SingleStream", CHANGES, {}, 3)
    tune_with(start, lambda _: None, setting, 60 * SECOND, seed=0, clock=lambda: next(ticks) * 0.5)
    assert max(most) <= 3


# --- the space --------------------------------------------------------------------------------------------------------


def test_what_is_tried_depends_on_engine_cores_and_scenario():
    latency = changes("onnxruntime", 8, "SingleStream", free_batch=True)
    assert [value for name, value in latency if name == "threads"] == [8, 4, 2, 1]
    assert ("optimization", "extended") in latency
    assert not any(name in ("batch", "streams") for name, _ in latency)
    throughput = changes("openvino", 2, "Offline", free_batch=True)
    assert {("streams", 2), ("streams", 4), ("batch", 32), ("hint", "throughput")} <= set(throughput)
    assert not any(name == "batch" for name, _ in changes("openvino", 2, "Offline", free_batch=False))
    assert changes("another", 1, "SingleStream", free_batch=False) == (("threads", 1),)
    assert latency[0] == ("fixed_batch", 1)
    assert changes("openvino", 2, "SingleStream", free_batch=True)[0] == ("fixed_batch", 0), "1 is its default"
    assert not any(name == "fixed_batch" for name, _ in changes("openvino", 2, "Offline", free_batch=False))


def test_combinations_take_one_value_of_each_option_and_the_best_promise_first():
    helped = [(("threads", 1), -0.2), (("threads", 2), -0.1), (("arena", False), -0.05), (("pinning", True), -0.01)]
    found = combinations(helped, 6, seed=0)
    assert found[0] == (("threads", 1), ("arena", False), ("pinning", True))
    assert all(len({name for name, _ in made}) == len(made) >= 2 for made in found)
    assert len(set(found)) == len(found) <= 6
    assert combinations(helped, 6, seed=0) == found
    assert combinations(helped[:1], 6, seed=0) == []


def test_changes_in_words_and_as_options():
    made = (("threads", 1), ("spinning", False), ("batch", 4))
    assert describe_changes(made) == "threads 1, spinning off, batch 4"
    assert describe_changes(()) == "defaults"
    candidate = with_changes(made)
    assert (candidate.options, candidate.batch) == (RunOptions(threads=1, spinning=False), 4)
    assert with_changes((("fixed_batch", 1), ("batch", 8))).options.fixed_batch == 8, "the batch that is measured"
    assert with_changes((("fixed_batch", 0), ("batch", 8))).options.fixed_batch == 0
    assert describe_changes((("fixed_batch", 0), ("batch", 8))) == "batch left free, batch 8"


# --- a real engine ----------------------------------------------------------------------------------------------------


def test_a_search_that_is_too_short_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 5 s"):
        tune(small_bundle(tmp_path), duration_ns=SECOND)


def test_a_bundle_is_tuned_and_loaded_with_the_outcome(tmp_path):
    bundle = small_bundle(tmp_path)
    digest = bundle.read_bytes()
    found, path = tune_and_store(bundle, "Offline", 5 * SECOND)
    assert path == path_beside(bundle)
    assert bundle.read_bytes() == digest, "the bundle itself, its digest and signature stay as they are"
    assert found.trials
    assert all(trial.ratio or trial.reason for trial in found.trials)
    assert tuning_here(bundle, "Offline") == found
    assert tuning_here(bundle, "SingleStream") is None
    assert (found.verdict == "faster") == (found.ci95[1] < 1)
    with load(bundle) as model:
        assert model.options == RunOptions(), "it was tuned for throughput, not for latency"


def test_a_place_that_cannot_be_written_is_said_before_the_search(tmp_path):
    from edgepack.errors import StorageError

    bundle = small_bundle(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        tune_and_store(bundle, duration_ns=3600 * SECOND, into=tmp_path / "file" / "copy.edgepack")
