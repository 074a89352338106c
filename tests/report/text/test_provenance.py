import dataclasses
import shlex

import made_up
import pytest

from edgepack.report.entries import make_groups
from edgepack.report.text.provenance import provenances, shared_facts
from edgepack.report.text.table import make_table
from edgepack.specs.result import Imported


def facts_of(results, rows, index=0):
    (group,) = make_groups(results, rows)
    return dict(provenances(group.entries, {})[index].facts)


def test_commands_make_a_row_again():
    (group,) = make_groups(*made_up.labelled_build())
    verify, benchmark = provenances(group.entries, {})[0].commands
    assert verify == "edgepack verify resnet20-host-openvino-fp32.edgepack"
    assert benchmark == (
        "edgepack benchmark resnet20-host-openvino-fp32.edgepack --scenario SingleStream --duration 2s "
        "--warmup 400ms --seed 0 --threads 2"
    )


@pytest.mark.parametrize("name", ["$(reboot)", "a b; reboot", "`id`", "x\ny"])
def test_a_name_in_a_command_is_quoted(name):
    row = dataclasses.replace(made_up.labelled_build()[1][0], bundle=name)
    (group,) = make_groups((), (row,))
    command = provenances(group.entries, {})[0].commands[0]
    assert shlex.split(command)[-1] == name.rsplit("/", 1)[-1]


def test_a_row_says_why_it_failed_does_not_count_or_lacks_a_figure():
    results, rows = made_up.unlabelled_build()
    assert facts_of(results, rows, 5)["Failed"].startswith("openvino refused model.onnx")
    assert "41.0%" in facts_of(results, rows)["Does not count"]
    assert "no such device here" in facts_of(results, rows, 4)["Not measured"]


def test_memory_of_loading_and_of_inference_are_told_apart():
    text = facts_of((made_up.result(),), ())["Memory"]
    assert text.startswith("30.0 MB added by loading, 5.00 MB by inference, 65.0 MB resident")


def test_energy_says_what_was_taken_off():
    results, rows = made_up.full_build()
    assert facts_of(results, rows)["Energy"] == (
        "9.00 mJ a sample, by a made-up sensor; at rest the machine takes 2.40 W, which is taken off"
    )


def test_tuned_options_and_their_gain_are_told():
    results, rows = made_up.full_build()
    facts = facts_of(results, rows, 3)
    assert facts["Run options"] == "2 threads, latency hint, spinning off"
    assert "0.910 (0.880\u20130.950) times the time of the engine's defaults" in facts["Tuned"]


def test_what_is_the_same_for_all_rows_is_said_once():
    (group,) = make_groups(*made_up.many())
    found = provenances(group.entries, {})
    shared = dict(shared_facts(found))
    assert shared["Scenario"] == "SingleStream, seed 0, 5 fresh processes"
    assert "Bundle sha256" not in shared
    assert shared_facts(found[:1]) == ()
    (mixed,) = make_groups(*made_up.labelled_build())
    assert shared_facts(provenances(mixed.entries, {})) == ()


def test_a_row_of_a_build_begins_with_the_command_that_built_it():
    words = ("edgepack", "build", "my model.onnx", "--target", "host-openvino", "--precision", "int8")
    (group,) = make_groups((), (made_up.row(command=words),))
    assert provenances(group.entries, {})[0].commands[0] == (
        "edgepack build 'my model.onnx' --target host-openvino --precision int8"
    )


@pytest.mark.parametrize(
    "words", [("rm", "-rf", "/"), ("edgepack", "push", "x"), ("edgepack; reboot", "build"), ("edgepack",)]
)
def test_a_command_that_is_no_build_is_not_offered(words):
    (group,) = make_groups((), (made_up.row(command=words),))
    assert not any("rm" in c or "push" in c or "reboot" in c for c in provenances(group.entries, {})[0].commands)


def test_words_that_would_run_something_are_quoted():
    (group,) = make_groups((), (made_up.row(command=("edgepack", "build", "$(reboot)", "; reboot")),))
    assert shlex.split(provenances(group.entries, {})[0].commands[0]) == ["edgepack", "build", "$(reboot)", "; reboot"]


def test_settings_of_the_scenario_are_in_the_command():
    scenario = made_up.Scenario("Server", 10**10, 10**9, latency_bound_ns=15_000_000, launches=2)
    (group,) = make_groups((made_up.result(scenario=scenario, options=made_up.RunOptions()),), ())
    benchmark = provenances(group.entries, {})[0].commands[1]
    assert "--launches 2 --latency-bound 15ms --untuned" in benchmark


def test_what_another_tool_measured_is_imported_again():
    imported = Imported("benchmark_app", "2026.4", "its report.json", "ab" * 32)
    (group,) = make_groups((made_up.result(imported=imported), made_up.result(median_ms=5.0)), ())
    theirs = next(i for i, e in enumerate(group.entries) if e.result.imported)
    found = provenances(group.entries, {})[theirs]
    assert found.label == "host-openvino fp32 by benchmark_app"
    assert found.commands == (
        "edgepack import 'its report.json' --bundle resnet20-host-openvino-fp32.edgepack --out result.json",
    )
    assert dict(found.facts)["Imported"].startswith("benchmark_app 2026.4, its report.json (sha256 abab")
    assert sorted(make_table(group).marks) == ["imported", "measured"]
    assert make_table(group).columns[0].cells[theirs].detail == "by benchmark_app"


# --- other machines ---------------------------------------------------------------------------------------------------


def test_no_command_names_a_folder_of_the_machine_that_made_it():
    words = ("edgepack", "build", "/home/me/net.py:make", "--data", "/home/me/my pictures", "--eval", "~/held-out",
             "--recipe", "recipes/mine.toml")  # fmt: skip
    (group,) = make_groups((), (made_up.row(command=words),))
    assert provenances(group.entries, {})[0].commands[0] == (
        "edgepack build net.py:make --data 'my pictures' --eval held-out --recipe recipes/mine.toml"
    )
    imported = Imported("benchmark_app", "2026.4", "/home/me/report.json", "ab" * 32)
    (group,) = make_groups((made_up.result(imported=imported),), ())
    assert "edgepack import report.json" in provenances(group.entries, {})[0].commands[0]


@pytest.mark.parametrize(
    ("target", "install", "native"),
    [
        ("raspberry-pi-5", "pip install 'edgepack[onnxruntime]'", ""),
        ("intel-n100", "pip install 'edgepack[openvino]'", ""),
        ("rk3588-tvm", "pip install edgepack", " --allow-native"),
        ("jetson-orin-nano-jp6", "pip install edgepack", ""),
    ],
)
def test_a_device_that_was_not_measured_is_given_what_works_there(target, install, native):
    """Nothing to be run on this machine: here its bundle would measure something else, or not run at all."""
    name = f"net-{target}-int8"
    (group,) = make_groups((), (made_up.row(target, "int8", bundle=f"/tmp/out/{name}.edgepack"),))
    (found,) = provenances(group.entries, {})
    assert found.commands == ()
    assert found.there == (
        install,
        f"edgepack verify {name}.edgepack{native}",
        f"edgepack benchmark {name}.edgepack{native} --out {name}.json",
    )


def test_an_unknown_device_is_given_the_commands_without_the_engine():
    (group,) = make_groups((), (made_up.row("my-board", "int8", bundle="$(reboot).edgepack"),))
    (found,) = provenances(group.entries, {})
    assert [shlex.split(command)[1] for command in found.there] == ["verify", "benchmark"]
    assert shlex.split(found.there[1])[2:] == ["$(reboot).edgepack", "--out", "$(reboot).json"]


def test_a_device_is_described_by_its_profile():
    (group,) = make_groups(*made_up.full_build())
    index = next(i for i, e in enumerate(group.entries) if e.target == "jetson-orin-nano-jp6")
    facts = dict(provenances(group.entries, {})[index].facts)
    assert "power class 15 W" in facts["Device"]
    assert "not measured" in facts["Bound"]


def test_first_answer_and_layers_are_told():
    facts = facts_of(*made_up.full_build())
    assert facts["First answer"] == "38.5 ms after the bundle is opened, 31.0 ms of it to check and load it"
    assert facts["Layers"] == "15 in fp32 (100 % of the time)"
