"""Tunings beside and inside bundles: who takes them, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from small_bundles import small_bundle

from edgepack.base import documents
from edgepack.benchmark.tune.options import plan_of
from edgepack.bundle.archive import open_bundle
from edgepack.device.host import host_facts
from edgepack.errors import BundleError, ConfigError
from edgepack.runtime import tuning
from edgepack.runtime.load import choose_payload, load, tuning_here
from edgepack.runtime.verify import verify
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions

FAST = RunOptions(threads=1, spinning=False, reuse_outputs=True)


def made(bundle, scenario="SingleStream", **changes):
    opened = open_bundle(bundle)
    payload, versions, _ = choose_payload(opened.manifest, host_facts())
    facts = tuning.device_facts(host_facts(), payload, payload.device, versions)
    one = tuning.Tuning(
        facts, scenario, FAST, 1, "faster", 0.8, (0.7, 0.9), 1000, 800, (), 0, 10**9, 10**9, "2026-11-01", True, ()
    )
    return dataclasses.replace(one, **changes)


def document(bundle, *tunings):
    opened = open_bundle(bundle)
    payload, _, _ = choose_payload(opened.manifest, host_facts())
    found = None
    for one in tunings:
        found = tuning.with_tuning(opened, payload, one)
        tuning.write_beside(bundle, found)
    return found


def beside(bundle, **changes):
    document(bundle, made(bundle, **changes))
    return bundle


@pytest.fixture
def bundle(tmp_path):
    return small_bundle(tmp_path)


def test_without_a_tuning_a_bundle_has_the_engines_defaults(bundle):
    with load(bundle) as model:
        assert model.options == RunOptions()
    assert tuning_here(bundle, "Offline") is None


def test_a_bundle_is_loaded_with_what_was_tuned_here(bundle):
    with load(beside(bundle)) as model:
        assert model.options == FAST
        feeds = {"image": np.ones((1, 3, 8, 8), np.float32)}
        model.infer(feeds)
        assert model.infer(feeds)["scores"] is model.infer(feeds)["scores"], "outputs are reused, as was tuned"


def test_options_that_are_asked_for_go_before(bundle):
    with load(beside(bundle), RunOptions(threads=1)) as model:
        assert model.options == RunOptions(threads=1)
    with load(bundle, RunOptions()) as model:
        assert model.options == RunOptions()


@pytest.mark.parametrize("fact", ["cpu", "isa", "cores", "version onnxruntime", "device"])
def test_another_device_or_engine_version_does_not_take_it(bundle, fact):
    facts = {**made(bundle).device, fact: "another"}
    beside(bundle, device=facts)
    assert tuning_here(bundle, "SingleStream") is None


def test_another_model_does_not_take_it(bundle, tmp_path):
    other = small_bundle(tmp_path / "other", channels=4)
    document(bundle, made(bundle))
    tuning.path_beside(other).write_bytes(tuning.path_beside(beside(bundle)).read_bytes())
    assert tuning_here(other, "SingleStream") is None


def test_the_same_model_packed_again_takes_it(bundle, tmp_path):
    again = small_bundle(tmp_path / "again", version="2.0")
    tuning.path_beside(again).write_bytes(tuning.path_beside(beside(bundle)).read_bytes())
    assert tuning_here(again, "SingleStream") == made(bundle)


def test_tunings_for_latency_and_throughput_stand_side_by_side(bundle):
    other_device = made(bundle, device={"cpu": "another"})
    throughput = made(bundle, scenario="Offline", batch=8)
    found = document(bundle, other_device, made(bundle), throughput)
    assert len(found.tunings) == 3
    assert tuning_here(bundle, "Offline").batch == 8
    assert tuning_here(bundle, "Server") == made(bundle)
    newer = made(bundle, tuned_at="2026-12-01")
    document(bundle, newer)
    assert tuning_here(bundle, "SingleStream") == newer


def test_a_measurement_takes_it_unless_told_otherwise(bundle):
    scenario = Scenario("Offline", 1, 1)
    beside(bundle, scenario="Offline", batch=8)
    plan, options, _ = plan_of(bundle, scenario, None)
    assert (plan.batch, options) == (8, FAST)
    assert plan_of(bundle, dataclasses.replace(scenario, batch=4), None)[0].batch == 4
    assert plan_of(bundle, scenario, RunOptions(threads=2)) == (scenario, RunOptions(threads=2), None)


# --- inside a bundle --------------------------------------------------------------------------------------------------


def test_a_copy_carries_it_and_every_byte_is_still_checked(bundle, tmp_path):
    opened = open_bundle(bundle)
    payload, _, _ = choose_payload(opened.manifest, host_facts())
    found = tuning.with_tuning(opened, payload, made(bundle))
    copy = tuning.write_into(opened, found, tmp_path / "copy.edgepack")
    assert tuning_here(copy, "SingleStream") == made(bundle)
    assert verify(copy).passed
    one, other = open_bundle(copy).manifest, opened.manifest
    assert dataclasses.replace(one, files=other.files) == other
    data = copy.read_bytes()
    place = data.index(b'"batch": 1')
    copy.write_bytes(data[:place] + b'"batch": 2' + data[place + 10 :])
    with pytest.raises(Exception, match=r"tuning.json.*do not match"):
        load(copy)


def test_what_stands_beside_goes_before_what_is_inside(bundle, tmp_path):
    opened = open_bundle(bundle)
    payload, _, _ = choose_payload(opened.manifest, host_facts())
    copy = tuning.write_into(opened, tuning.with_tuning(opened, payload, made(bundle)), tmp_path / "copy.edgepack")
    beside(copy, options=RunOptions(threads=1))
    assert tuning_here(copy, "SingleStream").options == RunOptions(threads=1)
    again = tuning.write_into(open_bundle(copy), tuning.with_tuning(open_bundle(copy), payload, made(copy)), copy)
    assert again == copy
    tuning.path_beside(copy).unlink()
    assert tuning_here(copy, "SingleStream") == made(copy)


# --- hostile documents ------------------------------------------------------------------------------------------------


def changed(bundle, **changes):
    """Return the document with changes of the one tuning, whose key follows the device."""
    data = documents.encode(document(bundle, made(bundle)))
    (entry,) = data["tunings"].values()
    data["tunings"] = {next(iter(data["tunings"])): {**entry, **changes}}
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"threads": 10**9}}, "threads are out of range"),
        ({"options": {"threads": 0}}, "threads are out of range"),
        ({"options": {"streams": -1}}, "streams are out of range"),
        ({"options": {"device": "GPU"}}, "does not choose another device"),
        ({"options": {"providers": []}}, "unknown key 'providers'"),
        ({"options": {"optimization": "yes"}}, "not one of the allowed values"),
        ({"batch": 8}, "a batch is for Offline"),
        ({"scenario": "Offline"}, "the key is not that of its device"),
        ({"ratio": 2.0}, "the ratio is not in its interval"),
        ({"verdict": "default"}, "says that the defaults are best"),
        ({"device": {"cpu": "x"}}, "the key is not that of its device"),
    ],
)
def test_a_tuning_that_no_search_makes_is_refused(bundle, changes, words):
    text = changed(bundle, **changes)
    tuning.path_beside(bundle).write_bytes(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load(bundle)
    assert "tune again" in caught.value.hint or "upgrade" in caught.value.hint
    load(bundle, RunOptions(threads=1)).close()  # who says how to run it does not need the file


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'{"format": 9}', b'{"tunings": 5}'])
def test_a_damaged_file_is_refused_with_what_to_do(bundle, text):
    tuning.path_beside(bundle).write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load(bundle)
    assert "tune again" in caught.value.hint


def test_a_file_of_any_size_is_not_read(bundle):
    with tuning.path_beside(bundle).open("wb") as file:
        file.truncate(tuning.LIMIT_BYTES + 1)
    with pytest.raises(ConfigError, match="not a tuning"):
        load(bundle)


def test_a_damaged_member_is_the_bundles_fault(bundle, tmp_path):
    opened = open_bundle(bundle)
    payload, _, _ = choose_payload(opened.manifest, host_facts())
    bad = dataclasses.replace(made(bundle), options=RunOptions(threads=10**6))
    found = tuning.with_tuning(opened, payload, bad)
    copy = tuning.write_into(opened, found, tmp_path / "copy.edgepack")
    with pytest.raises(BundleError, match="threads are out of range"):
        load(copy)


def test_verify_runs_with_the_tuned_options_too(bundle):
    """They are what 'run' and 'load' take."""
    assert [output.way for output in verify(bundle).outputs] == [""]
    found = verify(beside(bundle))
    assert found.passed
    assert [output.way for output in found.outputs] == ["", "tuned"]
