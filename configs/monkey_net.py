"""Monkey-Net (CVPR 2019).

    reenax train --config configs/monkey_net.py:nemo64 --data DATA --run runs/nemo64

Published (L1 of video reconstruction in [0, 1]; AKD; missing keypoints; AED):

| config | L1 | AKD | MKR | AED |
|---|---|---|---|---|
| taichi64 | .050 | 2.53 | 17.4 % | .21 |
| nemo64 | .017 | .37 | | .072 |
| bair64 | .025 | | | |

Without published numbers at these settings: vox256, vox_full256 (nothing computed at reduced size but the heatmaps of
the skips), mgif (moving cartoons; animate them with ``--mode absolute``), shapes.

A video from one picture: a second training, of the network that goes on with keypoints, on windows of 32 frames. It
starts from a run of the first kind, whose networks stay as they are:

    reenax train --config configs/monkey_net.py:nemo64_prediction --data DATA --run runs/goes_on \\
        --warm-start runs/nemo64
    reenax animate --run runs/goes_on --source me.jpg --frames 32 --out me_going_on.mp4

Small models that need no other networks, with terms that the paper does not have (see
``reenax.methods.monkey_net.game``):

    reenax train --config configs/monkey_net.py:synth64 --data HEADS64 --run runs/synth64
    reenax train --config configs/monkey_net.py:smoke --data DATA64 --run runs/smoke

synth64 learns the heads that ``reenax prepare synthetic`` renders within minutes on two CPU cores; smoke is through
within seconds and learns nothing. synth64_prediction and smoke_prediction go on from them.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import TIED, Config, adam, base_config, be_through_at_once, learn_synthetic_heads, train_small

NETWORKS = ("generator", "kp_detector", "discriminator")


def _published(
    *,
    size: int,
    batch_size: int,
    epochs: int,
    milestones: tuple[int, ...] = (),
    num_kp: int = 10,
    width: int = 32,
    max_features: int = 512,
    num_blocks: int = 5,
    scale_factor: float = 1.0,
    embedding_scale: float | None = None,
    interpolation: str = "nearest",
    clip_variance: float = 0.001,
    norm: float = 100.0,
    num_group_blocks: int = 2,
    displacement: bool = False,
    deformed: float = 0.0,
) -> Config:
    """What the published models share; the defaults are those that most of them have."""
    config = base_config("monkey_net")
    hourglass = {
        "block_expansion": width,
        "num_blocks": 5,
        "max_features": max_features,
        "scale_factor": scale_factor,
    }
    config.model = ConfigDict(
        {
            "num_kp": num_kp,
            "kp_detector": {**hourglass, "temperature": 0.1, "variance": "matrix", "clip_variance": clip_variance},
            "generator": {
                "block_expansion": width,
                "num_blocks": num_blocks,
                "max_features": max_features,
                "num_refinement_blocks": 4,
                "scale_factor": scale_factor if embedding_scale is None else embedding_scale,
                "interpolation": interpolation,
                "norm": norm,
                "dense_motion": {
                    **hourglass,
                    "num_group_blocks": num_group_blocks,
                    "displacement": displacement,
                    "norm": norm,
                },
            },
            "discriminator": {"block_expansion": width, "num_blocks": 4, "max_features": 8 * width, "norm": norm},
            "losses": {
                "reconstruction": (10.0, 10.0, 10.0, 10.0, 1.0),
                "reconstruction_deformed": deformed,
                "generator_gan": 1.0,
                "discriminator_gan": 1.0,
            },
            "align_corners": True,
        }
    )
    for network in NETWORKS:
        config.optim[network] = adam(config, "milestones" if milestones else "constant", milestones, b1=0.5)
    config.batch_size = batch_size
    config.epochs = epochs
    config.data.size = size
    config.data.swap = True
    config.data.flip = True
    return config


def vox256() -> Config:
    """VoxCeleb."""
    return _published(
        size=256,
        batch_size=20,
        epochs=20,
        max_features=1024,
        num_blocks=7,
        scale_factor=0.25,
        interpolation="bilinear",
    )


def vox_full256() -> Config:
    """VoxCeleb, with keypoints and motion found at full size."""
    return _published(
        size=256,
        batch_size=20,
        epochs=20,
        max_features=1024,
        num_blocks=7,
        embedding_scale=0.25,
        interpolation="bilinear",
    )


def nemo64() -> Config:
    """UvA-Nemo smiles."""
    return _published(size=64, batch_size=32, epochs=750, milestones=(500,))


def taichi64() -> Config:
    """The Tai-Chi of MoCoGAN, which is not Tai-Chi-HD."""
    return _published(size=64, batch_size=32, epochs=750, milestones=(500,), max_features=1024)


def bair64() -> Config:
    """BAIR robot arms: heatmaps are divided by their sum, and the warped source is compared too."""
    config = _published(size=64, batch_size=32, epochs=15, milestones=(10,), norm=0.0, deformed=10.0)
    config.data.swap = False
    return config


def mgif() -> Config:
    """Moving cartoons: the dense motion network also sees displacements."""
    config = _published(
        size=128,
        batch_size=64,
        epochs=750,
        milestones=(500,),
        max_features=1024,
        num_blocks=6,
        scale_factor=0.5,
        displacement=True,
    )
    config.data.resize = (0.9, 1.1)
    config.data.jitter.hue = 0.5
    return config


def shapes() -> Config:
    """Moving shapes: a small model without grouped convolutions."""
    return _published(
        size=64,
        batch_size=16,
        epochs=8,
        milestones=(4,),
        num_kp=4,
        width=16,
        max_features=128,
        clip_variance=0.0,
        norm=10.0,
        num_group_blocks=0,
    )


def _predicting(config: Config, frames: int) -> Config:
    """The second training of a model: of the predictor, on windows of frames."""
    config.model.stage = "prediction"
    config.model.predictor = ConfigDict({"features": 1024, "initial": 1, "predict_variance": True})
    config.lr = 1e-3
    config.optim = ConfigDict({"predictor": adam(config, "cosine")})
    config.data.sampler = "window"
    config.data.frames = frames
    config.data.swap = False
    config.data.flip = False
    config.data.jitter = ConfigDict()
    config.data.resize = ()
    return config


def nemo64_prediction() -> Config:
    """Smiles from one picture of a face: to be started from a run of nemo64."""
    config = _predicting(nemo64(), 32)
    config.batch_size = 256
    config.epochs = 1000
    return config


def _small() -> Config:
    """What the 64x64 models share that learn within minutes: no discriminator, the warped source blended in."""
    config = base_config("monkey_net")
    hourglass: dict[str, Any] = {"block_expansion": 8, "num_blocks": 4, "max_features": 128, "scale_factor": 0.5}
    config.model = ConfigDict(
        {
            "num_kp": 10,
            "kp_detector": hourglass,
            "generator": {
                "block_expansion": 16,
                "num_blocks": 4,
                "max_features": 128,
                "num_refinement_blocks": 1,
                "scale_factor": 0.5,
                "norm": 1.0,
                "blend": True,
                "dense_motion": {**hourglass, "block_expansion": 16, "num_group_blocks": 1, "norm": 1.0},
            },
            "losses": {
                "reconstruction": (0.0,),
                "generator_gan": 0.0,
                "scales": (1.0, 0.5, 0.25),
                "l1": 10.0,
                "gradient": 10.0,
                "ssim": 1.0,
                "deformed": 0.5,
            },
        }
    )
    train_small(config, ("generator", "kp_detector"))
    return config


def synth64() -> Config:
    """Synthetic heads, whose labels are exact: a few minutes on two CPU cores.

    As in First Order Motion's config of this name, the keypoints are tied to landmarks of the mean head, so that the
    motion of one person fits another, mouth and eyes weigh more, the warped source is blended into the output and asked
    for half of the reconstruction, and the learning rate is high.
    """
    config = _small()
    config.model.num_kp = len(TIED)
    config.model.losses.landmarks = 20.0
    config.model.losses.landmark_points = TIED
    config.model.losses.mouth = 8.0
    config.model.losses.eyes = 3.0
    learn_synthetic_heads(config, ("landmarks", "landmarks_mean"))
    return config


def synth64_prediction() -> Config:
    """Heads that go on from one picture: to be started from a run of synth64, on clips of twelve frames or more."""
    config = _predicting(synth64(), 12)
    config.model.predictor.features = 256
    config.data.labels = ()
    config.batch_size = 16
    config.steps = 600
    config.log_every = 50
    config.save_every = 300
    config.eval_every = 300
    config.sample_every = 600
    return config


def smoke() -> Config:
    """Everything once, in seconds."""
    config = _small()
    config.model.num_kp = 4
    for part in (config.model.kp_detector, config.model.generator, config.model.generator.dense_motion):
        part.block_expansion = 4
        part.max_features = 16
        part.num_blocks = 2
    be_through_at_once(config)
    return config


def smoke_prediction() -> Config:
    """The same of the second training: to be started from a run of smoke."""
    config = _predicting(smoke(), 4)
    config.model.predictor.features = 16
    return config


CONFIGS = (
    vox256,
    vox_full256,
    nemo64,
    taichi64,
    bair64,
    mgif,
    shapes,
    nemo64_prediction,
    synth64,
    synth64_prediction,
    smoke,
    smoke_prediction,
)
NAMES = tuple(config.__name__ for config in CONFIGS)


def get_config(name: str) -> Config:
    """The config called ``name``, one of ``NAMES``."""
    return CONFIGS[NAMES.index(name)]()
