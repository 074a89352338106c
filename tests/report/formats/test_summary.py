import json

import made_up

from edgepack.base.documents import to_json
from edgepack.report.formats.summary import summarise


def test_a_program_gets_the_answer_and_what_it_rests_on():
    found = json.loads(to_json(summarise(*made_up.labelled_build(), ("p90 > 1ms",))))
    (model,) = found["models"]
    assert found["failed"] == ["p90 > 1ms"]
    assert (model["model"], model["take"], model["excluded"]) == ("resnet20", "host-openvino int8", None)
    assert model["preset"] == "careful"
    assert model["answer"].startswith("Take host-openvino int8")
    assert [d["name"] for d in model["devices"]] == [
        "host-openvino", "host-onnxruntime", "raspberry-pi-5", "intel-n100",
    ]  # fmt: skip
    assert [d["gain"] for d in model["devices"]] == ["faster", "faster", None, None]
    row = model["rows"][1]
    assert (row["label"], row["state"], row["precision"]) == ("host-openvino int8", "measured", "int8")
    assert row["p90_ns"] > 0


def test_nothing_measured_takes_nothing():
    (model,) = summarise(*made_up.unmeasured_build()).models
    assert model.take is None
    assert model.answer.startswith("None of the 7 devices was measured")


def test_nothing_at_all_is_no_model():
    assert summarise((), ()).models == ()
