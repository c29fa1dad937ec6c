"""The bar works from the first item on, with and without a known end, and is silent where there is no terminal."""

import io
import time

import pytest
from rich.console import Console

from reenax.inference.progress import tracked


def slowly(count):
    for item in range(count):
        time.sleep(0.1)
        yield item


@pytest.mark.parametrize("total", [5, None])
def test_items_pass_and_the_rate_is_shown(total):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    assert list(tracked(slowly(5), total, "animating", "frames", console)) == [0, 1, 2, 3, 4]
    assert "animating" in shown.getvalue()
    assert "frames/s" in shown.getvalue()


def test_nothing_is_shown_without_a_terminal():
    shown = io.StringIO()
    assert list(tracked([1, 2], 2, "animating", "frames", Console(file=shown))) == [1, 2]
    assert shown.getvalue() == ""
