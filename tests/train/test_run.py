"""What is refused before a training begins."""

from pathlib import Path

import pytest

from configs import stargan as configs
from reenax.core.errors import UserError
from reenax.train.run import _open, train
from reenax.train.runs import make_method
from tests.data_pipelines.layouts.folders import colour_of, run, write_picture


def test_attributes_of_other_names_than_the_labels_are_refused(tmp_path: Path) -> None:
    """Their number alone would not tell hair from age."""
    names, rows = "Black_Hair Blond_Hair Brown_Hair Male Young Smiling", ["4"]
    for number in range(4):
        write_picture(tmp_path / f"img_align_celeba/{number}.jpg", colour_of(number))
    rows += [names, *(f"{number}.jpg 1 -1 -1 1 1 -1" for number in range(4))]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(rows))
    config = configs.celeba128()
    config.data.size = config.model.critic.image_size = 16
    config.model.critic.layers = 2
    chosen = ("Smiling", "Blond_Hair", "Brown_Hair", "Male", "Young")
    run(tmp_path, tmp_path / "other", "celeba", attributes=chosen)
    with pytest.raises(UserError) as error:
        train(config, tmp_path / "other", tmp_path / "run")
    assert "has the attributes Smiling,Blond_Hair,Brown_Hair,Male,Young, and config.model.label_names" in str(
        error.value
    )
    assert "prepare with --attributes Black_Hair,Blond_Hair,Brown_Hair,Male,Young, or set" in str(error.value)
    assert not (tmp_path / "run").exists()
    run(tmp_path, tmp_path / "same", "celeba")
    assert "attributes" in _open(make_method(config), config, tmp_path / "same").fields
    (tmp_path / "other/settings.json").unlink()
    assert len(_open(make_method(config), config, tmp_path / "other")) > 0, "nothing is known of the names"
