import itertools

import pytest

from edgepack.engines.common.peak import Trial
from edgepack.errors import ToolchainError
from edgepack.profiling import peaks as probe
from edgepack.specs.result import Bandwidth, Peak, Peaks

KIB, MIB = 1 << 10, 1 << 20


def nothing():
    """A call that does nothing; its time comes from the simulated clock."""


def test_the_best_kernel_of_each_precision_and_working_set_counts():
    trials = [
        (Trial("slow", 100, nothing, "fp32"), 2.0),
        (Trial("fast", 100, nothing, "fp32"), 1.0),
        (Trial("integers", 400, nothing, "int8"), 1.0),
        (Trial("copy", 1000, nothing, working_set_bytes=KIB), 1.0),
        (Trial("product", 500, nothing, working_set_bytes=KIB), 1.0),
    ]
    found = probe.peaks_of(trials, 2, {"engine": "1"})
    assert found.peaks == (Peak("fp32", 100, "fast"), Peak("int8", 400, "integers"))
    assert found.bandwidths == (Bandwidth(KIB, 1000, "copy"),)
    assert (found.threads, found.versions) == (2, {"engine": "1"})


def test_no_working_set_is_slower_than_a_larger_one():
    rates = {KIB: 50, 4 * KIB: 90, MIB: 70}
    trials = [(Trial("mm", 1, nothing, "fp32"), 1.0)]
    trials += [(Trial(f"of {size}", rate, nothing, working_set_bytes=size), 1.0) for size, rate in rates.items()]
    found = probe.peaks_of(trials, 1, {}).bandwidths
    assert [(band.bytes_per_s, band.kernel) for band in found] == [(90, "of 4096"), (90, "of 4096"), (70, "of 1048576")]


def test_without_any_engine_the_error_says_what_to_install():
    with pytest.raises(ToolchainError, match="no engine") as caught:
        probe.peaks_of([(Trial("copy", 1, nothing, working_set_bytes=1), 1.0)], 1, {})
    assert "pip install" in caught.value.hint


def test_the_shortest_of_several_calls_counts_and_the_first_does_not():
    """A simulated clock: the calls take 9 (not timed), 5, 4, 7 and 3 seconds."""
    costs = iter([9.0, 5.0, 4.0, 7.0, 3.0])
    now = [0.0]

    def call():
        now[0] += next(costs)

    assert probe.fastest_s(call, seconds=0.0, clock=lambda: now[0]) == 3.0


@pytest.mark.parametrize(
    ("size", "rate"), [(1, 90), (KIB, 90), (5 * KIB, 90), (64 * KIB, 50), (MIB - 1, 50), (MIB, 10), (1 << 40, 10)]
)
def test_a_size_between_two_has_the_faster_bandwidth(size, rate):
    bands = (Bandwidth(KIB, 90, "a"), Bandwidth(64 * KIB, 50, "b"), Bandwidth(MIB, 10, "c"))
    assert probe.bandwidth_of(Peaks(1, (), bands), size) == rate


def test_a_precision_that_was_not_measured_has_the_peak_of_fp32():
    peaks = (Peak("fp32", 100, "a"), Peak("int8", 300, "b"))
    assert probe.peak_of(Peaks(1, peaks, ()), "bf16") == 100
    assert probe.peak_of(Peaks(1, peaks, ()), "int8", "fp32") == 300


@pytest.mark.parametrize(
    ("caches", "available", "sizes"),
    [
        ((32 * KIB, 2 * MIB, 300 * MIB), 8e9, (256 * KIB, MIB, 64 * MIB)),
        ((32 * KIB, 512 * KIB, 16 * MIB), 8e9, (256 * KIB, 8 * MIB, 32 * MIB)),
        ((), None, (256 * KIB, 32 * MIB)),
        ((32 * KIB, 2 * MIB), 64e6, (256 * KIB, MIB, 8_000_000)),
        ((), 1e6, (256 * KIB,)),
    ],
)
def test_working_sets_reach_past_the_caches_but_not_past_the_memory(caches, available, sizes):
    assert probe.working_sets(caches, available) == sizes


def test_caches_are_read_from_a_recorded_tree(tmp_path):
    folder = tmp_path / "sys/devices/system/cpu/cpu0/cache"
    known = (("Data", "48K"), ("Instruction", "32K"), ("Unified", "2048K"), ("Unified", "307200K"), ("Data", "?"))
    for number, (kind, size) in enumerate(known):
        (folder / f"index{number}").mkdir(parents=True)
        (folder / f"index{number}" / "type").write_text(f"{kind}\n")
        (folder / f"index{number}" / "size").write_text(f"{size}\n")
    assert probe.cache_bytes(tmp_path) == (48 * KIB, 2 * MIB, 300 * MIB)
    assert probe.cache_bytes(tmp_path / "absent") == ()


@pytest.mark.slow
def test_the_kernels_of_this_host_make_peaks(monkeypatch):
    """Real kernels of every engine that is installed, each for an instant: what they did is what was counted."""
    monkeypatch.setattr(probe, "_TRIAL_S", 0.0)
    monkeypatch.setattr(probe, "working_sets", lambda *_: (256 * KIB, MIB))
    found = probe.measure_peaks(("int8",), threads=1)
    assert {peak.precision for peak in found.peaks} == {"fp32", "int8"}
    assert all(1e8 < peak.ops_per_s < 1e15 for peak in found.peaks)
    assert [band.working_set_bytes for band in found.bandwidths] == [256 * KIB, MIB]
    assert all(1e8 < band.bytes_per_s < 1e14 for band in found.bandwidths)
    assert {"numpy", "onnxruntime"} <= set(found.versions)


def test_torch_is_tried_where_openvino_is_not():
    pytest.importorskip("torch", reason="torch is not installed")
    from edgepack.profiling import peak_torch

    with pytest.raises(ToolchainError, match="same kernels"):
        peak_torch.versions({"openvino": "1"})
    assert "torch" in peak_torch.versions({})
    trials = list(itertools.islice(peak_torch.trials(("fp32", "int8", "bf16"), 1, (KIB,)), 10))
    assert [trial.precision for trial in trials] == ["fp32"] * 3 + ["bf16"] * 3 + [None]
    trials[0].call()
    trials[-1].call()
