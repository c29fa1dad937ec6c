"""Summaries count what failed."""

import math

import numpy as np

from reenax.metrics.summary import summarise


def test_failures_are_counted_and_left_out():
    summary = summarise(np.array([1.0, 3.0, np.nan, np.inf]))
    assert (summary.mean, summary.std, summary.count, summary.failures) == (2.0, 1.0, 2, 2)
    assert str(summary) == "2 +- 1 (N 2, 2 failed)"
    assert str(summarise(np.array([0.5], np.float32))) == "0.5 +- 0 (N 1)"


def test_nothing_has_no_mean():
    for values in (np.zeros(0), np.array([np.nan])):
        summary = summarise(values)
        assert math.isnan(summary.mean)
        assert (summary.count, summary.failures) == (0, len(values))
