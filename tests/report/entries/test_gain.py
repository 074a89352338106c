import dataclasses

import made_up
import pytest

from edgepack.report.entries import make_groups
from edgepack.report.entries.gain import bases_of, differing_bases, gain_of, replacements, smaller


def entries_of(build):
    (group,) = make_groups(*build)
    return group.entries


@pytest.fixture(scope="module")
def entries():
    return entries_of(made_up.labelled_build())


@pytest.mark.parametrize(
    ("speedup", "ci95", "gain"),
    [
        (1.4, (1.1, 1.8), "faster"),
        (1.02, (0.99, 1.06), "same"),
        (1.0, (1.0, 1.0), "same"),
        (0.9, (0.85, 0.97), "slower"),
        (1.3, None, "faster"),
        (0.8, None, "slower"),
        (None, None, None),
    ],
)
def test_faster_is_what_the_whole_interval_says(entries, speedup, ci95, gain):
    assert gain_of(dataclasses.replace(entries[1], speedup=speedup, speedup_ci95=ci95)) == gain
    assert gain_of(dataclasses.replace(entries[0], speedup=speedup, speedup_ci95=ci95)) is None, "fp32 is the base"


def test_each_is_compared_with_the_fp32_of_its_target_and_machine(entries):
    assert bases_of(entries) == (None, 0, None, 2, None, None), "no fp32 of the board was built"
    board = dataclasses.replace(entries[4], precision="fp32")
    assert bases_of((*entries, board))[4] == 6, "what was not measured is compared with its fp32 in size and quality"
    failed = dataclasses.replace(entries[0], status="failed")
    assert bases_of((failed, *entries[1:]))[1] is None
    moved = entries_of((made_up.full_build()[0], ()))
    for entry, base in zip(moved, bases_of(moved), strict=True):
        assert base is None or moved[base].result.host == entry.result.host


def test_what_is_not_faster_is_replaced_by_its_fp32(entries):
    assert replacements(entries) == (None,) * 6
    same = dataclasses.replace(entries[1], speedup=1.01, speedup_ci95=(0.97, 1.05))
    assert replacements((entries[0], same, *entries[2:]))[1] == 0


def test_what_was_measured_in_turn_and_surely_differs_from_its_fp32(entries):
    assert differing_bases(entries)[:4] == (None, 0, None, 2)
    same = dataclasses.replace(entries[1], speedup=1.01, speedup_ci95=(0.97, 1.05))
    assert differing_bases((entries[0], same, *entries[2:]))[1] is None
    apart = dataclasses.replace(entries[1], paired=False)
    assert differing_bases((entries[0], apart, *entries[2:]))[1] is None, "its ratio is of two separate measurements"


def test_how_much_smaller_a_bundle_is(entries):
    assert smaller(entries[1], entries[0]) == pytest.approx(1_130_000 / 340_000)
    assert smaller(dataclasses.replace(entries[1], size_bytes=None), entries[0]) is None
    assert smaller(dataclasses.replace(entries[1], size_bytes=0), entries[0]) is None
