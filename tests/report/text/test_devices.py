"""One sentence a device, as they stand on the first screen."""

import dataclasses

import made_up
import pytest

from edgepack.report.entries import make_groups
from edgepack.report.text.devices import class_of, devices, how_to_measure, standing


def entries_of(results, rows=()):
    (group,) = make_groups(results, rows)
    return group.entries


@pytest.fixture(scope="module")
def labelled():
    return entries_of(*made_up.labelled_build())


def told(entries, name="host-openvino"):
    return next(device.text for device in devices(entries) if device.name == name)


def changed(entries, index, **changes):
    return (*entries[:index], dataclasses.replace(entries[index], **changes), *entries[index + 1 :])


def test_a_device_has_one_sentence_of_speed_size_and_loss(labelled):
    assert told(labelled) == (
        "int8 is 1.86 times faster (1.79–1.96) and 3.3 times smaller than fp32, "  # noqa: RUF001
        "and loses 0.64 points of top-1 accuracy (0.31–0.97)."  # noqa: RUF001
    )


def test_what_failed_and_what_was_not_measured_says_so(labelled):
    assert told(labelled, "intel-n100") == "int8 failed: openvino refused model.onnx: operator Foo is unknown."
    assert told(labelled, "raspberry-pi-5").endswith(". Its speed was not measured.")
    assert [device.measured for device in devices(labelled)] == [True, True, False, False]


def test_without_labels_it_says_how_often_the_answers_agree():
    text = told(entries_of(*made_up.unlabelled_build()))
    assert text.endswith("and answers as fp32 does on 97.3 % of 200 samples.")


@pytest.mark.parametrize(
    ("drop", "ci95", "words"),
    [
        (0.002, (-0.001, 0.005), "loses no top-1 accuracy that 5\u202f000 samples show (a drop of −0.10 to +0.50"),  # noqa: RUF001
        (-0.01, (-0.015, -0.005), "gains 1.00 points of top-1 accuracy (0.50–1.50)"),  # noqa: RUF001
    ],
)
def test_a_loss_that_samples_do_not_show_is_none(labelled, drop, ci95, words):
    accuracy = dataclasses.replace(labelled[1].accuracy, value=labelled[1].accuracy.fp32 - drop, drop=drop, ci95=ci95)
    assert words in told(changed(labelled, 1, accuracy=accuracy))


def test_a_size_that_is_about_the_same_is_not_spoken_of(labelled):
    base = labelled[0].ranked_bytes
    for part, said in ((1.04, False), (1 / 1.04, False), (1.06, True), (1 / 1.06, True)):
        size = int(base / part)
        text = told(changed(labelled, 1, size_bytes=size, model_bytes=size))
        assert ("times smaller" in text or "times larger" in text) == said, text
        assert "1.0 times" not in text


def test_where_int8_is_not_faster_the_sentence_says_so_and_recommends_fp32(labelled):
    same = changed(labelled, 1, speedup=0.99, speedup_ci95=(0.95, 1.04))
    assert "int8 is 3.3 times smaller than fp32 but not measurably faster (0.990 times, 0.950–1.04), and" in told(same)  # noqa: RUF001
    assert told(same).endswith("Take fp32 there, unless size matters more.")
    slower = changed(labelled, 1, speedup=0.5, speedup_ci95=(0.4, 0.8), size_bytes=labelled[0].size_bytes)
    assert "int8 is 2.00 times slower (1.25–2.50) than fp32" in told(slower)  # noqa: RUF001
    assert told(slower).endswith("Take fp32 there.")
    assert [device.gain for device in devices(same)][:2] == ["same", "faster"]


def test_the_layers_say_why_it_is_not_faster():
    entries = entries_of(*made_up.full_build())
    index = next(i for i, e in enumerate(entries) if e.precision == "int8" and e.result and e.result.limit)
    slow = changed(entries, index, speedup=0.9, speedup_ci95=(0.8, 0.95))
    text = next(d.text for d in devices(slow) if d.gain == "slower")
    found = entries[index].result.limit
    away = [layer for layer in found.layers if layer.bound == "precision"]
    share = 100 * sum(layer.time_ns for layer in away) / found.profiled_ns
    assert f"{share:.0f} % of its time runs in another precision than was asked for" in text
    assert max(away, key=lambda layer: layer.time_ns).name in text


def test_a_poor_row_is_never_recommended(labelled):
    poor = changed(labelled, 1, status="poor", reason="9 dB", speedup=None, speedup_ci95=None)
    assert told(poor).endswith("It is poor, so take fp32 there.")


def test_one_device_alone_has_its_figures():
    assert told(entries_of((made_up.result(),))).startswith("fp32: p90 4.34 ms, 1.13 MB.")
    fast = made_up.result(precision="int8", accuracy=made_up.measured(None, None, 31.0))
    assert "is 31.0 dB (SQNR) close to it" in told(entries_of((fast,)))


def test_machines_of_one_target_are_told_apart():
    entries = entries_of(*made_up.full_build())
    names = [device.name for device in devices(entries)]
    assert "host-openvino on Made-up M-1000" in names
    assert "host-openvino on Made-up V-9" in names
    assert len(names) == len(set(names))


def test_what_was_not_measured_is_said_before_all_else(labelled):
    assert standing(labelled) == (
        "2 of 3 devices were measured: host-openvino, host-onnxruntime. "
        "Nothing is known of the speed of raspberry-pi-5."
    )
    assert how_to_measure(labelled).startswith("edgepack benchmark BUNDLE")
    measured = labelled[:4]
    assert standing(measured) == how_to_measure(measured) == ""


def test_throughput_is_a_measurement():
    scenario = dataclasses.replace(made_up.result().scenario, name="Offline", batch=8)
    entries = entries_of((made_up.result(scenario=scenario),))
    assert standing(entries) == how_to_measure(entries) == ""
    assert "samples a second" in told(entries)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("intel-n100", "power class 6 W"),
        ("jetson-orin-nano-jp6", "power class 15 W, 8.59 GB of memory"),
        ("raspberry-pi-5", "60 US dollars for a board with 4 GB in 2023-09"),
        ("host-openvino", ""),
        ("own-board", ""),
    ],
)
def test_what_a_device_takes_and_costs_is_of_its_profile(target, words):
    assert class_of(target) == words


def test_each_device_carries_its_class(labelled):
    found = {device.name: device.of_class for device in devices(labelled)}
    assert found["raspberry-pi-5"] == class_of("raspberry-pi-5")
    assert found["host-openvino"] == ""
