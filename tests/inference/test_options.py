"""Options of a method from the texts of the command line."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from reenax.core.errors import UserError
from reenax.core.types import Option
from reenax.inference.options import describe_options, read_options, split_options
from tests.inference.toys import Tint


class Turning(Tint):
    options: Mapping[str, Option] = MappingProxyType(
        {
            "mode": Option("relative", "how", ("relative", "absolute")),
            "adapt_scale": Option(False, "whether"),
            "yaw": Option(None, "degrees to the side"),
            "strength": Option(1.0, "how much"),
            "overlay": Option(None, "a sticker", picture=True),
        }
    )


def test_values_have_the_type_of_the_default():
    given = split_options(["mode=absolute", "adapt_scale=Yes", "yaw=-12.5"])
    values = read_options(Turning(), "turning", given)
    assert values == {"mode": "absolute", "adapt_scale": True, "yaw": -12.5, "strength": 1.0, "overlay": None}
    assert read_options(Turning(), "turning", {})["yaw"] is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["yaw"], "takes NAME=VALUE, not 'yaw'"),
        (["yaw=1", "yaw=2"], "yaw is given twice, as 1 and as 2"),
        (["roll=1"], r"turning has no option roll; its options are: mode, adapt_scale, yaw, strength, overlay"),
        (["yaw=left"], "yaw is a number, not 'left'"),
        (["yaw=nan"], "yaw is a number, not 'nan'"),
        (["mode=abs"], "mode must be one of relative, absolute, not 'abs'"),
        (["adapt_scale=maybe"], "adapt_scale is true or false, not 'maybe'"),
    ],
)
def test_refusals_name_the_option_and_what_it_takes(texts, message):
    with pytest.raises(UserError, match=message):
        read_options(Turning(), "turning", split_options(texts))


def test_the_description_has_defaults_and_units():
    lines = describe_options(Turning()).splitlines()
    assert lines[0] == "  mode=relative|absolute  how (relative)"
    assert lines[2] == "  yaw=NUMBER  degrees to the side (none)"
    assert lines[4] == "  overlay=FILE  a sticker (none)"


def test_a_picture_is_handed_over_with_its_alpha(tmp_path):
    Image.fromarray(np.array([[[255, 0, 51, 102]]], np.uint8)).save(tmp_path / "sticker.png")
    laid = read_options(Turning(), "turning", {"overlay": str(tmp_path / "sticker.png")})["overlay"]
    assert isinstance(laid, np.ndarray)
    np.testing.assert_allclose(laid, [[[1, 0, 0.2, 0.4]]])
    with pytest.raises(UserError, match=r"nothing.png"):
        read_options(Turning(), "turning", {"overlay": str(tmp_path / "nothing.png")})
