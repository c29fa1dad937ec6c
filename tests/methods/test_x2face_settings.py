"""X2Face's settings: which of them can be changed from the command line, and which are refused."""

from typing import Any

import pytest

from configs import x2face as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.methods.x2face import X2Face, game
from reenax.train.config import override
from reenax.train.runs import make_method


def test_keys_of_the_published_configs_can_be_changed() -> None:
    """To another network of faces, with layers of its own; stages to steps; the sound's window in one place."""
    layers = ["--config.model.content.same=('relu2', 'relu5')", "--config.model.content.other=('relu5',)"]
    network = ["--config.model.content.network=vggmface", "--config.frozen.vggmface=DIR"]
    others = ["--config.model.stages.content_start=5", "--config.data.audio_window=0.3"]
    config = override(configs.get_config("vox256_content"), [*layers, *network, *others])
    method = make_method(config)
    assert isinstance(method, X2Face)
    assert set(method.frozen) == {"vggmface"}
    assert set(method.frozen) < set(config.frozen)
    assert method.stages == game.Stages(photometric_stop=600_000, content_start=5)
    assert method.sound.window == config.data.audio_window == 0.3
    assert config.data.by_identity  # the other driver is another person
    assert not configs.get_config("vox256").data.by_identity


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ngf": 64}, r"config\.model\.ngf is no key .* size,"),
        ({"size": {"inner_nc": 128}}, r"size\.inner_nc .*vector"),
        ({"stages": {"avd_start": 0}}, r"stages\.avd_start .*maps_start"),
        ({"losses": {"deformed": 0.5}}, r"losses\.deformed is no key .*photometric"),
        (
            {"losses": {"canonical": 1.0, "landmark_points": (30, 8), "canonical_points": (0.0,) * 3}},
            "canonical_points has 3 numbers for 2 landmark_points; give x and y of each",
        ),
        ({"losses": {"landmarks": 1.0}}, "landmark_points is empty"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_mapping(X2Face, values)
