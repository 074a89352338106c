import made_up

from edgepack.report.entries import make_groups
from edgepack.report.entries.profile import is_elsewhere, profile_of


def test_a_shipped_profile_is_found_by_its_id():
    assert profile_of("raspberry-pi-5").title.startswith("Raspberry Pi 5")
    assert profile_of("no-such-board") is None


def test_only_a_device_that_was_not_measured_is_elsewhere():
    (group,) = make_groups(*made_up.labelled_build())
    assert [is_elsewhere(e) for e in group.entries] == [False, False, False, False, True, True]
