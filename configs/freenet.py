"""FReeNet (CVPR 2020).

    reenax train --config configs/freenet.py:rafd256_ulc --data RAFD --run runs/ulc
    reenax train --config configs/freenet.py:rafd256 --data RAFD --run runs/rafd --warm-start runs/ulc \
        --config.frozen.vgg16=VGG16

VGG16 is the folder that ``reenax import vgg16 vgg16-397923af.pth --out VGG16`` makes, RAFD what ``reenax prepare
FOLDER --layout rafd --size 256`` makes of the Radboud Faces Database. The first command trains the landmark converter;
the second, the generator behind it. multipie_ulc is the converter of the CMU Multi-PIE Database, whose generator was
not published.

The published models read 106 landmarks, which a commercial service finds. Those of data with the usual 68 need
``--config.model.points=68 --config.data.labels=landmarks``, for both commands.

Published: comparisons of SSIM and FID on RaFD and Multi-PIE. Here ``reenax evaluate`` measures on held-out people, and
the metrics ``converter/error`` and ``converter/neutral_error`` are the mean distance, in pixels of a crop of 512, of
the converted and of the neutral landmarks from the true ones.

Small models that need no VGG-16, with 68 landmarks and both stages in one run:

    reenax prepare synthetic --acted 40 --identities 60 --size 64 --test-share 0.1 --out ACTED64
    reenax train --config configs/freenet.py:synth64 --data ACTED64 --run runs/synth64
    reenax train --config configs/freenet.py:smoke --data ACTED64 --run runs/smoke

synth64 learns made-up people who act the same expressions; smoke is through within seconds and learns nothing.
"""

from ml_collections import ConfigDict

from configs.common import Config, adam, base_config, be_through_at_once, linear, stages, train_small

CONVERTING = ("converter", "realism_discriminator", "identity_discriminator")
GENERATING = ("generator", "discriminator")


def _published() -> Config:
    """What the published models share."""
    config = base_config("freenet")
    config.model = ConfigDict(
        {
            "points": 106,
            "unit": 1.0,
            "canvas": 512,
            "converter": {"width": 512, "depth": 6, "centred": False},
            "generator": {
                "features": 64,
                "down_blocks": 2,
                "blocks": 9,
                "landmark_every": 3,
                "landmark_features": 16,
                "dropout": 0.5,
                "bias_with_norm": True,
                "residual": False,
            },
            "discriminator": {"features": 64, "layers": 3, "bias_with_norm": True},
            "losses": {
                "pixel": 100.0,
                "cycle": 10.0,
                "identity": 10.0,
                "fool_identity": 0.1,
                "fool_realism": 0.1,
                "identity_discriminator": 0.1,
                "realism_discriminator": 1.0,
                "gan": 0.1,
                "l1": 100.0,
                "triplet": 0.1,
                "margin": 0.3,
            },
            "stages": stages(converter_stop=None, generator_start=None),
        }
    )
    config.data.sampler = "acted"
    config.data.labels = ("landmarks_106",)
    config.data.by_identity = True
    config.frozen.vgg16 = ""
    return config


def _converter(*, epochs: int, milestones: tuple[int, ...], repeats: int) -> Config:
    """A first stage."""
    config = _published()
    config.lr = 3e-4
    for network in CONVERTING:
        config.optim[network] = adam(config, "milestones", milestones, b1=0.99)
    config.batch_size = 16
    config.epochs = epochs
    config.repeats = repeats
    return config


def rafd256_ulc() -> Config:
    """RaFD, landmark converter. An epoch is 72 draws of each person, who has as many pictures; some come twice."""
    return _converter(epochs=200, milestones=(60, 120, 180), repeats=72)


def multipie_ulc() -> Config:
    """Multi-PIE, landmark converter. An epoch is every person once."""
    return _converter(epochs=2000, milestones=(600, 1200, 1800), repeats=1)


def rafd256() -> Config:
    """RaFD, generator; the rate falls after epoch 39 and would be zero after 110."""
    config = _published()
    config.model.stages = stages(converter_stop=0, generator_start=0)
    config.lr = 2e-4
    for network in GENERATING:
        config.optim[network] = linear(adam(config, b1=0.5), hold=39, decay=71)
    config.batch_size = 3
    config.epochs = 109
    config.repeats = 72
    return config


def _small() -> Config:
    """What the 64x64 models share: 68 landmarks less a mean face, no VGG-16, both stages in one run."""
    config = _published()
    config.model.points = 68
    config.model.unit = 8.0
    config.model.converter.update({"width": 128, "depth": 3, "centred": True})
    config.model.generator.update(
        {
            "features": 16,
            "down_blocks": 0,
            "blocks": 5,
            "landmark_every": 2,
            "dropout": 0.0,
            "bias_with_norm": False,
            "residual": True,
        }
    )
    config.model.discriminator.update({"features": 16, "layers": 2, "bias_with_norm": False})
    config.model.losses.update({"triplet": 0.0, "l1": 10.0, "gradient": 10.0, "ssim": 1.0, "mouth": 8.0, "eyes": 3.0})
    train_small(config, GENERATING)
    for network in CONVERTING:
        config.optim[network] = adam(config, "cosine")
    config.data.labels = ("landmarks",)
    config.data.swap = False
    config.data.flip = False  # labels would not follow
    return config


def synth64() -> Config:
    """Made-up people who act the same expressions: half an hour on one CPU core. What is not the paper's:

    - The converter has the first 800 steps, which take a minute, for itself; it goes on afterwards, since without
      the triplet loss the generator does not ask it anything.
    - It sees landmarks less a mean face, in units of 8 pixels of the crop: in those of the paper as many steps teach it
      to change nothing.
    - The pictures are not halved, and landmarks are drawn as large as they are.
    - The boxes of mouth and eyes weigh more, and changes of the source's picture are painted: all else stands still.
    - No dropout, which costs time that so short a training needs.
    """
    config = _small()
    config.model.stages = stages(converter_stop=None, generator_start=800)
    config.lr = 5e-4
    for network in GENERATING:
        config.optim[network] = linear(adam(config), hold=2200, decay=800, period=1)
    config.batch_size = 8
    config.steps = 3000
    config.log_every = 20
    config.save_every = 500
    config.eval_every = 500
    config.sample_every = 1500
    return config


def smoke() -> Config:
    """Everything once, in seconds."""
    config = _small()
    config.model.converter.width = 16
    config.model.generator.update({"features": 4, "blocks": 3})
    config.model.discriminator.update({"features": 4, "layers": 1})
    config.model.stages = stages(converter_stop=4, generator_start=4)
    be_through_at_once(config)
    return config


CONFIGS = (rafd256_ulc, rafd256, multipie_ulc, synth64, smoke)
NAMES = tuple(config.__name__ for config in CONFIGS)


def get_config(name: str) -> Config:
    """The config called ``name``, one of ``NAMES``."""
    return CONFIGS[NAMES.index(name)]()
