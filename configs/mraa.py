"""Motion Representations for Articulated Animation (CVPR 2021).

    reenax train --config configs/mraa.py:vox256 --data DATA --run runs/vox256 --config.frozen.vgg19=VGG19
    reenax train --config configs/mraa.py:vox256_avd --data DATA --run runs/vox256_avd --warm-start runs/vox256

VGG19 is the folder that ``reenax import vgg19 vgg19-dcbb9e9d.pth --out VGG19`` makes. The first command trains all
networks but one; the second, of a config that ends in _avd, trains that one: the AVD network, for animation in mode
"avd". It needs no VGG-19.

Published (L1 of video reconstruction in [0, 1]; AKD, MKR; AED):

| config | L1 | AKD, MKR | AED |
|---|---|---|---|
| vox256 | .040 | 1.28 | .133 |
| taichi256 | .047 | 5.58, .027 | .152 |
| ted384 | .026 | 3.75, .007 | .114 |
| mgif256 | .0206 | | |

Their second stages: vox256_avd, taichi256_avd, ted384_avd, mgif256_avd.

Small models that need no VGG-19, with terms that the paper does not have (see ``reenax.methods.mraa.game``), both
stages in one run:

    reenax train --config configs/mraa.py:synth64 --data HEADS64 --run runs/synth64
    reenax train --config configs/mraa.py:smoke --data DATA64 --run runs/smoke

synth64 learns the heads that ``reenax prepare synthetic`` renders; smoke is through within seconds and learns nothing.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import (
    JITTER,
    TIED,
    Config,
    adam,
    base_config,
    be_through_at_once,
    learn_synthetic_heads,
    stages,
    train_small,
)

HUE = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def _stages(reconstruction_stop: int | None = None, avd_start: int | None = None) -> Config:
    """Which player moves when, in steps; None for never."""
    return stages(reconstruction_stop=reconstruction_stop, avd_start=avd_start)


def _published(
    *,
    batch_size: int,
    repeats: int,
    size: int = 256,
    pad: int = 0,
    bg_type: str = "affine",
    jitter: dict[str, float] = JITTER,
    by_identity: bool = True,
) -> Config:
    """What the published models share in their first stage."""
    config = base_config("mraa")
    sizes = {"num_blocks": 5, "max_features": 1024}
    config.model = ConfigDict(
        {
            "num_regions": 10,
            "revert_axis_swap": True,
            "region_predictor": {
                "block_expansion": 32,
                **sizes,
                "scale_factor": 0.25,
                "temperature": 0.1,
                "pca_based": True,
                "pad": pad,
            },
            "bg_predictor": {"block_expansion": 32, **sizes, "bg_type": bg_type},
            "generator": {
                "block_expansion": 64,
                "max_features": 512,
                "num_down_blocks": 2,
                "num_bottleneck_blocks": 6,
                "skips": True,
                "pixelwise_flow_predictor": {
                    "block_expansion": 64,
                    **sizes,
                    "scale_factor": 0.25,
                    "use_covar_heatmap": True,
                },
            },
            "avd_network": {"id_bottle_size": 64, "pose_bottle_size": 64},
            "losses": {
                "scales": (1.0, 0.5, 0.25, 0.125),
                "perceptual": (10.0, 10.0, 10.0, 10.0, 10.0),
                "equivariance_shift": 10.0,
                "equivariance_affine": 10.0,
                "avd_shift": 1.0,
                "avd_affine": 1.0,
            },
            "transform": {"sigma_affine": 0.05, "sigma_tps": 0.005, "points": 5},
            "stages": _stages(),
            "avd_scale": 0.25,
            "avd_batch_statistics": False,
            "align_corners": False,
        }
    )
    config.optim.reconstruction = adam(config, "milestones", (60, 90), b1=0.5)
    config.batch_size = batch_size
    config.epochs = 100
    config.repeats = repeats
    config.data.size = size
    config.data.by_identity = by_identity
    config.data.swap = True
    config.data.flip = True
    config.data.jitter.update(jitter)
    config.frozen.vgg19 = ""
    return config


def _second_stage(config: Config, *, repeats: int, epochs: int = 30, milestones: tuple[int, ...] = (20, 25)) -> Config:
    """The AVD network alone, from a warm start."""
    config.model.stages = _stages(reconstruction_stop=0, avd_start=0)
    config.lr = 1e-3
    config.optim = ConfigDict({"avd": adam(config, "milestones", milestones, b1=0.5)})
    config.batch_size = 256
    config.epochs = epochs
    config.repeats = repeats
    return config


def vox256() -> Config:
    """VoxCeleb."""
    return _published(batch_size=14, repeats=75, pad=3)


def vox256_avd() -> Config:
    """VoxCeleb, second stage."""
    return _second_stage(vox256(), repeats=2000)


def taichi256() -> Config:
    """Tai-Chi-HD."""
    return _published(batch_size=14, repeats=150)


def taichi256_avd() -> Config:
    """Tai-Chi-HD, second stage."""
    return _second_stage(taichi256(), repeats=150)


def ted384() -> Config:
    """TED-talks, upper bodies at 384x384."""
    return _published(batch_size=6, repeats=150, size=384)


def ted384_avd() -> Config:
    """TED-talks, second stage."""
    return _second_stage(ted384(), repeats=150)


def mgif256() -> Config:
    """Moving cartoons, in front of a background that stays."""
    config = _published(batch_size=14, repeats=50, bg_type="zero", jitter={**HUE, "hue": 0.5}, by_identity=False)
    config.data.resize = (0.9, 1.1)
    return config


def mgif256_avd() -> Config:
    """Moving cartoons, second stage: the learning rate falls at epochs 60 and 90, hence 100 of them."""
    return _second_stage(mgif256(), repeats=50, epochs=100, milestones=(60, 90))


def _small() -> Config:
    """What the 64x64 models share: no VGG-19, both stages in one run."""
    config = base_config("mraa")
    hourglass: dict[str, Any] = {"num_blocks": 4, "max_features": 128, "scale_factor": 0.5, "kernel_size": 3}
    config.model = ConfigDict(
        {
            "num_regions": 10,
            "revert_axis_swap": True,
            "region_predictor": {"block_expansion": 8, "pad": 1, **hourglass},
            "bg_predictor": {"block_expansion": 8, "num_blocks": 4, "max_features": 64, "bg_type": "affine"},
            "generator": {
                "block_expansion": 16,
                "max_features": 128,
                "num_down_blocks": 2,
                "num_bottleneck_blocks": 2,
                "skips": True,
                "pixelwise_flow_predictor": {"block_expansion": 16, **hourglass},
            },
            "avd_network": {"id_bottle_size": 32, "pose_bottle_size": 32, "widths": (128, 256)},
            "losses": {
                "scales": (1.0, 0.5, 0.25),
                "perceptual": (),
                "equivariance_shift": 1.0,
                "equivariance_affine": 5.0,
                "l1": 10.0,
                "gradient": 10.0,
                "ssim": 1.0,
                "deformed": 0.5,
            },
            "stages": _stages(avd_start=0),
            "align_corners": True,  # the other convention enlarges a bit, which blurs pictures as small as these
        }
    )
    train_small(config, ("reconstruction", "avd"))
    config.frozen.vgg19 = ""  # only asked for when a weight of losses.perceptual is set
    return config


def synth64() -> Config:
    """Synthetic heads: a few minutes on two CPU cores. What is not the paper's:

    - The regions are tied to landmarks of the *mean* head, so that no face's shape is in another's motion.
    - The boxes of mouth and eyes weigh more.
    - The frames' equivariance weighs five times as much as the positions': measured frames are noisy at this size.
    - The AVD network learns beside the others, from regions that settle while the learning rate falls.
    - The background does not move: the heads' does not.
    """
    config = _small()
    config.model.num_regions = len(TIED)
    config.model.bg_predictor.bg_type = "zero"
    config.model.losses.update({"landmarks": 20.0, "landmark_points": TIED, "mouth": 8.0, "eyes": 3.0})
    learn_synthetic_heads(config, ("landmarks", "landmarks_mean"))
    return config


def smoke() -> Config:
    """Everything once, in seconds."""
    config = _small()
    config.model.num_regions = 4
    for part in (
        config.model.region_predictor,
        config.model.bg_predictor,
        config.model.generator,
        config.model.generator.pixelwise_flow_predictor,
    ):
        part.update({"block_expansion": 4, "max_features": 16})
    for part in (
        config.model.region_predictor,
        config.model.bg_predictor,
        config.model.generator.pixelwise_flow_predictor,
    ):
        part.num_blocks = 2
    config.model.generator.num_bottleneck_blocks = 1
    config.model.avd_network.widths = (16, 32)
    be_through_at_once(config)
    return config


CONFIGS = (
    vox256,
    vox256_avd,
    taichi256,
    taichi256_avd,
    ted384,
    ted384_avd,
    mgif256,
    mgif256_avd,
    synth64,
    smoke,
)
NAMES = tuple(config.__name__ for config in CONFIGS)


def get_config(name: str) -> Config:
    """The config called ``name``, one of ``NAMES``."""
    return CONFIGS[NAMES.index(name)]()
