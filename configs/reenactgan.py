"""ReenactGAN (ECCV 2018).

The published training, stage by stage; each starts from the one before it (``--warm-start``):

    reenax train --config configs/reenactgan.py:encoder256 --data FACES --run runs/bounds
    reenax train --config configs/reenactgan.py:transformer256 --data CELEBV --run runs/maps --warm-start runs/bounds
    reenax train --config configs/reenactgan.py:decoder256 --data CELEBV --run runs/target --warm-start runs/maps \\
        --config.frozen.vgg16=VGG16

FACES are faces of many people with landmarks (published: WFLW and Helen), and all of them are used. CELEBV is clips
with the identities of ``data.people``. Where they have other names, the maps learn from the target and everybody else,
``--config.data.people="('target','another','a third')"``, the target first, and the decoder from the target alone,
``--config.data.people="('target',)"``. VGG16 is the folder that ``reenax import vgg16`` makes. How the encoder was
trained is not published: encoder256 is a guess. The paper's numbers are not known here.

CelebV is published as a folder of pictures per person, ``NAME/Image/*.jpg``, which no command reads: make a video
``VIDEOS/NAME.mp4`` of each; then ``reenax prepare VIDEOS --faces none --split clips --out CELEBV`` cuts it into clips
of 128 frames with NAME as identity.

A folder of published files of one target becomes a checkpoint by

    reenax import reenactgan FOLDER --config configs/reenactgan.py:published256 --out runs/published \\
        --config.data.people="('Donald_Trump',)"

where the name says whom the files portray. Other maps learn from its encoder and its aligner, which finds 106
landmarks, with ``transformer256 --warm-start runs/published --config.model.aligner.points=106``.

and small models, all stages in one run, are

    reenax train --config configs/reenactgan.py:synth64 --data CAST64 --run runs/synth64
    reenax train --config configs/reenactgan.py:smoke --data CAST64 --run runs/smoke

CAST64 is what ``reenax prepare synthetic --identities 4 --clips 8 --split clips --test-share 0.25 --seconds 10 --fps 4
--size 64`` makes; smoke is through within seconds and learns nothing.
"""

from ml_collections import ConfigDict

from configs.common import JITTER, Config, adam, base_config, be_through_at_once, linear, stages

CELEBV = ("Donald_Trump", "Emmanuel_Macron", "Kathleen", "Jack_Ma", "Theresa_May")
CAST = tuple(f"synthetic-0-0000{i}" for i in range(4))


def _stages(
    encoder_stop: int | None = 0, transformer_start: int | None = None, decoder_start: int | None = None
) -> Config:
    """Who moves when: see ``reenax.methods.reenactgan.game.Stages``."""
    return stages(encoder_stop=encoder_stop, transformer_start=transformer_start, decoder_start=decoder_start)


def _rated(optimiser: Config, lr: float) -> Config:
    """The optimiser with a rate of its own, which does not follow ``config.lr``."""
    return ConfigDict({**optimiser.to_dict(), "lr": lr})


def _base() -> Config:
    """The published networks, of which nothing is trained yet."""
    config = base_config("reenactgan")
    config.data.sampler = "people"
    config.data.people = CELEBV
    config.model = ConfigDict(
        {
            "people": config.data.get_ref("people"),
            "size": config.data.get_ref("size"),
            "encoder": {"stacks": 2, "depth": 4, "features": 128, "pool": True},
            "aligner": {"points": 68, "widths": (16, 32, 64, 128), "hidden": 128, "components": 3, "momentum": 0.99},
            "transformer": {"features": 64, "blocks": 9, "kernel_size": 7, "norm": "batch", "residual": False},
            "decoder": {"features": 64, "levels": 8, "dropout": (5, 6, 7)},
            "discriminators": {"features": 64, "layers": 3, "map_features": 64, "map_layers": 3, "norm": "batch"},
            "losses": {
                "sigma": 1.0,
                "align": 0.01,
                "cycle": 50.0,
                "shape": 10.0,
                "adversarial": 1.0,
                "l1": 100.0,
                "perceptual": 10.0,
            },
            "affine": {"rotation": 5.0, "shift": 10 / 256, "zoom": 0.03, "mirror": 0.5, "nearest": False},
            "stages": _stages(),
            "helper_batch_statistics": False,
            "unroll": False,
        }
    )
    config.frozen.vgg16 = ""  # only asked for when the decoder learns and losses.perceptual is set
    return config


def encoder256() -> Config:
    """Boundaries and landmarks of anybody: settings of stacked hourglasses, since the published ones are unknown.

    An epoch is one frame of every clip; a still is a clip of one frame.
    """
    config = _base()
    config.model.stages = _stages(encoder_stop=None)
    config.data.sampler = "labelled"
    config.data.people = ()
    config.data.labels = ("landmarks",)
    config.data.jitter.update(JITTER)
    config.lr = 2.5e-4
    config.optim.encoder = adam(config, "milestones", (60, 90))
    config.batch_size = 16
    return config


def transformer256() -> Config:
    """Maps of four people to those of a fifth. Four samples, each normalised by itself as on its own GPU."""
    config = _base()
    config.model.stages.transformer_start = 0
    config.model.transformer.norm = "sample"
    config.model.discriminators.norm = "sample"
    config.lr = 5e-5
    config.optim.transformers = adam(config, b1=0.5)
    config.optim.map_discriminators = _rated(adam(config, b1=0.5), 2.5e-5)
    config.optim.map_discriminators.l2 = 1e-4
    config.batch_size = 4
    config.steps = 500_002
    return config


def decoder256() -> Config:
    """Pictures of the target from its maps: 100 epochs, and 50 of linear decay.

    A published epoch is every picture once. Here it is 128 pictures of every clip, which is the same where clips have
    the 128 frames that ``reenax prepare`` cuts: 40,000 pictures make 2,500 steps. For shorter ones lower ``repeats``.
    """
    config = _base()
    config.model.stages.decoder_start = 0
    config.model.transformer.norm = "sample"
    config.data.sampler = "pair"  # of which one picture is looked at
    config.data.people = CELEBV[:1]
    for player in ("decoder", "discriminator"):
        config.optim[player] = linear(adam(config, b1=0.5), hold=98, decay=51)
    config.batch_size = 16
    config.epochs = 150
    config.repeats = 128
    return config


def published256() -> Config:
    """For published files, of whomever they portray: an aligner of 106 landmarks."""
    config = decoder256()
    config.data.people = ("target",)
    config.model.aligner.points = 106
    return config


def _small() -> Config:
    """What the 64x64 models share: maps of half the pictures' size, no VGG-16."""
    config = _base()
    config.data.people = CAST
    config.data.labels = ("landmarks",)
    config.data.size = 64
    config.data.threads = 2
    config.model.losses.perceptual = 0.0
    config.model.decoder.dropout = ()
    return config


def synth64() -> Config:
    """Synthetic heads, the first of four people as target; all stages in one run of a few minutes on two CPU cores.

    The encoder learns first, from exact landmarks of all four; then transformers and decoder side by side. Faces are
    not mirrored: there is little time, and the target's never are. Nor is there time for transformers that learn to
    copy maps before they change them: they begin with copies (``residual``).
    """
    config = _small()
    encoding, playing = 120, 160
    config.model.encoder.update({"stacks": 1, "depth": 3, "features": 20, "pool": False})
    config.model.aligner.update({"widths": (8, 16, 32), "hidden": 64})
    config.model.transformer.update({"features": 16, "blocks": 3, "kernel_size": 3, "residual": True})
    config.model.decoder.update({"features": 24, "levels": 5})
    config.model.discriminators.update({"features": 16, "map_features": 16, "map_layers": 2})
    config.model.affine.mirror = 0.0
    config.model.unroll = True  # loops of convolutions are slow on CPUs
    config.model.stages = _stages(encoding, encoding, encoding)
    for player, lr, b1, begin, steps in (
        ("encoder", 3e-3, 0.9, 0, encoding),
        ("map_discriminators", 1e-4, 0.5, encoding, playing),
        ("transformers", 3e-4, 0.5, encoding, playing),
        ("discriminator", 2e-4, 0.5, encoding, playing),
        ("decoder", 2e-3, 0.5, encoding, playing),
    ):
        half = steps // 20  # in periods of 10 steps
        config.optim[player] = linear(_rated(adam(config, b1=b1), lr), hold=begin // 10 + half, decay=half, period=10)
    config.batch_size = 8
    config.steps = encoding + playing
    config.log_every = 20
    config.save_every = 140
    config.eval_every = 140
    config.sample_every = 280
    return config


def smoke() -> Config:
    """Everything once, in seconds."""
    config = _small()
    config.model.encoder.update({"stacks": 1, "depth": 1, "features": 4, "pool": False})
    config.model.aligner.update({"widths": (4, 4), "hidden": 8})
    config.model.transformer.update({"features": 4, "blocks": 1, "kernel_size": 3})
    config.model.decoder.update({"features": 4, "levels": 3})
    config.model.discriminators.update({"features": 4, "layers": 1, "map_features": 4, "map_layers": 1})
    config.model.stages = _stages(4, 4, 4)
    for player in ("encoder", "map_discriminators", "transformers", "discriminator", "decoder"):
        config.optim[player] = adam(config)
    be_through_at_once(config)
    return config


CONFIGS = (encoder256, transformer256, decoder256, published256, synth64, smoke)
NAMES = tuple(config.__name__ for config in CONFIGS)


def get_config(name: str) -> Config:
    """The config called ``name``, one of ``NAMES``."""
    return CONFIGS[NAMES.index(name)]()
