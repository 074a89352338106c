"""Ratios of figures that were measured apart."""

from edgepack.report.entries.ratios import unpaired_ratio
from edgepack.specs.result import Percentile


def test_the_interval_of_an_unpaired_ratio_holds_both_uncertainties():
    ratio, (low, high) = unpaired_ratio(Percentile(50.0, 200, (180, 220), 11), Percentile(50.0, 100, (90, 110), 11))
    assert ratio == 2
    assert low < 2 * 0.9 * 0.99
    assert high > 2 * 1.1 * 1.01
    assert unpaired_ratio(Percentile(50.0, 200, None, 11), Percentile(50.0, 100, (90, 110), 11)) == (2.0, None)
