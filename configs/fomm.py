"""First Order Motion Model (NeurIPS 2019).

    reenax train --config configs/fomm.py:vox256 --data DATA --run runs/vox256 --config.frozen.vgg19=VGG19

VGG19 is the folder that ``reenax import vgg19 vgg19-dcbb9e9d.pth --out VGG19`` makes.

Published (L1 of video reconstruction in [0, 1]; AKD; AED):

| config | L1 | AKD | AED |
|---|---|---|---|
| vox256 | .043 | 1.294 | .140 |
| taichi256 | .063 | 6.862 | .179 |
| nemo256 | .016 | 1.119 | .048 |
| bair256 | .027 | | |

Without published numbers: vox_adv256 and taichi_adv256 (fine-tuned with a discriminator that sees the keypoints; start
taichi_adv256 with ``--warm-start`` from taichi256), fashion256, mgif256.

Small models that need no VGG-19, with terms that the paper does not have (see ``reenax.methods.fomm.game``):

    reenax train --config configs/fomm.py:real64 --data DATA64 --run runs/real64
    reenax train --config configs/fomm.py:synth64 --data HEADS64 --run runs/synth64
    reenax train --config configs/fomm.py:synth128 --data HEADS128 --run runs/synth128
    reenax train --config configs/fomm.py:smoke --data DATA64 --run runs/smoke

real64 learns 64x64 faces on two CPU cores within ten minutes; synth64 and synth128 learn the heads that
``reenax prepare synthetic`` renders; smoke is through within seconds and learns nothing.
"""

from ml_collections import ConfigDict

from configs.common import (
    JITTER,
    TIED,
    Config,
    adam,
    base_config,
    be_through_at_once,
    learn_synthetic_heads,
    train_small,
)

HUE = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def _published(
    *,
    batch_size: int,
    repeats: int,
    epochs: int = 100,
    milestones: tuple[int, ...] = (60, 90),
    gan: float = 1.0,
    sn: bool = False,
    use_kp: bool = False,
    jitter: dict[str, float] | None = None,
    by_identity: bool = False,
) -> Config:
    """What the published 256x256 models share; the defaults are those that most of them have."""
    config = base_config("fomm")
    detector = {"block_expansion": 32, "num_blocks": 5, "max_features": 1024, "scale_factor": 0.25, "temperature": 0.1}
    config.model = ConfigDict(
        {
            "num_kp": 10,
            "estimate_jacobian": True,
            "kp_detector": {**detector, "single_jacobian_map": False},
            "generator": {
                "block_expansion": 64,
                "max_features": 512,
                "num_down_blocks": 2,
                "num_bottleneck_blocks": 6,
                "dense_motion": {"block_expansion": 64, "num_blocks": 5, "max_features": 1024, "scale_factor": 0.25},
            },
            "discriminator": {
                "scales": (1.0,),
                "block_expansion": 32,
                "num_blocks": 4,
                "max_features": 512,
                "sn": sn,
                "use_kp": use_kp,
            },
            "losses": {
                "scales": (1.0, 0.5, 0.25, 0.125),
                "perceptual": (10.0, 10.0, 10.0, 10.0, 10.0),
                "generator_gan": gan,
                "discriminator_gan": 1.0,
                "feature_matching": (10.0, 10.0, 10.0, 10.0),
                "equivariance_value": 10.0,
                "equivariance_jacobian": 10.0,
            },
            "transform": {"sigma_affine": 0.05, "sigma_tps": 0.005, "points": 5},
            "align_corners": True,
        }
    )
    schedule = "milestones" if milestones else "constant"
    for network in ("generator", "kp_detector", "discriminator"):
        config.optim[network] = adam(config, schedule, milestones, b1=0.5)
    config.batch_size = batch_size
    config.epochs = epochs
    config.repeats = repeats
    config.data.by_identity = by_identity
    config.data.swap = True
    config.data.flip = True
    config.data.jitter.update(jitter or {})
    config.frozen.vgg19 = ""
    return config


def vox256() -> Config:
    """VoxCeleb: no discriminator is trained, though the checkpoint has one."""
    return _published(batch_size=40, repeats=75, gan=0.0, sn=True, jitter=JITTER, by_identity=True)


def vox_adv256() -> Config:
    """VoxCeleb with a discriminator that sees keypoints."""
    return _published(
        batch_size=36, repeats=75, epochs=150, milestones=(), use_kp=True, jitter=JITTER, by_identity=True
    )


def taichi256() -> Config:
    """Tai-Chi-HD."""
    return _published(batch_size=30, repeats=150, gan=0.0, jitter=JITTER, by_identity=True)


def taichi_adv256() -> Config:
    """Tai-Chi-HD with a discriminator; the keypoint detector stays as it was trained (learning rate 0)."""
    config = _published(
        batch_size=27, repeats=150, epochs=150, milestones=(), use_kp=True, jitter=JITTER, by_identity=True
    )
    config.optim.kp_detector = {**adam(config, b1=0.5).to_dict(), "lr": 0.0}
    return config


def fashion256() -> Config:
    """Fashion videos."""
    return _published(batch_size=27, repeats=50, jitter={**HUE, "hue": 0.1})


def nemo256() -> Config:
    """UvA-Nemo smiles."""
    return _published(batch_size=36, repeats=8, sn=True)


def mgif256() -> Config:
    """Moving cartoons: one map of frames for all keypoints."""
    config = _published(batch_size=36, repeats=25, sn=True, jitter={**HUE, "hue": 0.5})
    config.model.kp_detector.single_jacobian_map = True
    config.data.resize = (0.9, 1.1)
    return config


def bair256() -> Config:
    """BAIR robot arms."""
    return _published(batch_size=36, repeats=1, epochs=20, milestones=(12, 18), sn=True, jitter=JITTER)


def _small() -> Config:
    """What the 64x64 models share: no VGG-19, no discriminator, the warped source blended into the output."""
    config = base_config("fomm")
    config.model = ConfigDict(
        {
            "num_kp": 10,
            "estimate_jacobian": True,
            "kp_detector": {
                "block_expansion": 8,
                "num_blocks": 4,
                "max_features": 128,
                "scale_factor": 0.5,
                "kernel_size": 3,
            },
            "generator": {
                "block_expansion": 16,
                "max_features": 128,
                "num_down_blocks": 2,
                "num_bottleneck_blocks": 2,
                "blend": True,
                "dense_motion": {
                    "block_expansion": 16,
                    "num_blocks": 4,
                    "max_features": 128,
                    "scale_factor": 0.5,
                    "kernel_size": 3,
                },
            },
            "discriminator": {"scales": ()},
            "losses": {
                "scales": (1.0, 0.5, 0.25),
                "perceptual": (),
                "generator_gan": 0.0,
                "equivariance_value": 1.0,
                "equivariance_jacobian": 1.0,
                "l1": 10.0,
                "gradient": 10.0,
                "ssim": 1.0,
                "deformed": 0.5,
            },
        }
    )
    train_small(config, ("generator", "kp_detector"))
    config.frozen.vgg19 = ""  # only asked for when a weight of losses.perceptual is set
    return config


def real64() -> Config:
    """Learns a handful of face clips within ten minutes on two CPU cores."""
    config = _small()
    config.steps = 1800
    config.log_every = 20
    config.save_every = 200
    config.eval_every = 200
    config.sample_every = 600
    return config


def synth64() -> Config:
    """Synthetic heads, whose labels are exact: a few minutes on two CPU cores; the config of ``reenax quickstart``.

    What is not the paper's, and why:

    - The keypoints are tied to landmarks of the *mean* head in the person's pose. Keypoints that are found without
      labels carry the shape of the driver's face into the picture of the source; these say where an average mouth
      would be, so that the motion of one person fits another.
    - The boxes of mouth and eyes weigh more: they are a tenth of the picture and all that people look at.
    - The warped source is blended into the output and asked for half of the reconstruction, the learning rate is high:
      both make the first minutes count.
    - One clip of few, far apart frames per person, in pairs by identity: different people teach more than more frames.
    """
    config = _small()
    config.model.num_kp = len(TIED)
    config.model.losses.landmarks = 20.0
    config.model.losses.landmark_points = TIED
    config.model.losses.mouth = 8.0
    config.model.losses.eyes = 3.0
    learn_synthetic_heads(config, ("landmarks", "landmarks_mean"))
    return config


def synth128() -> Config:
    """The same at 128x128: about half an hour on two CPU cores. Keypoints and motion are still found at 32x32."""
    config = synth64()
    config.data.size = 128
    config.model.kp_detector.block_expansion = 12
    config.model.kp_detector.scale_factor = 0.25
    config.model.generator.dense_motion.scale_factor = 0.25
    config.batch_size = 8
    config.steps = 2400
    config.save_every = 400
    config.eval_every = 400
    config.sample_every = 1200
    return config


def smoke() -> Config:
    """Everything once, in seconds."""
    config = _small()
    config.model.num_kp = 4
    for part in (config.model.kp_detector, config.model.generator, config.model.generator.dense_motion):
        part.block_expansion = 4
        part.max_features = 16
    config.model.kp_detector.num_blocks = 2
    config.model.generator.num_bottleneck_blocks = 1
    config.model.generator.dense_motion.num_blocks = 2
    be_through_at_once(config)
    return config


CONFIGS = (
    vox256,
    vox_adv256,
    taichi256,
    taichi_adv256,
    fashion256,
    nemo256,
    mgif256,
    bair256,
    real64,
    synth64,
    synth128,
    smoke,
)
NAMES = tuple(config.__name__ for config in CONFIGS)


def get_config(name: str) -> Config:
    """The config called ``name``, one of ``NAMES``."""
    return CONFIGS[NAMES.index(name)]()
