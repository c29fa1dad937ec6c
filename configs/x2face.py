"""X2Face (ECCV 2018).

    reenax train --config configs/x2face.py:vox256 --data DATA --run runs/x1
    reenax train --config configs/x2face.py:vox256_content --data DATA --run runs/x --config.frozen.vggface11=FACES
    reenax train --config configs/x2face.py:vox256_maps --data LABELLED --run runs/xm --warm-start runs/x

vox256 is the first stage, the one that was published as code; its length is the most that the published script runs,
to be stopped when nothing gets better, after some steps more at a tenth of the rate (``--resume runs/x1
--config.optim.photometric.lr=1e-4``). vox256_content has both stages in one run; FACES is the folder that ``reenax
import vggface11 FILE --out FACES`` makes. Other networks of faces are named by ``--config.model.content.network``,
their folders by ``--config.frozen.vggface`` and ``--config.frozen.vggmface``. vggmface has layers of other names, conv1
to conv5 and relu1 to relu5 among them: ``--config.model.content.same="('relu2', 'relu3', 'relu4', 'relu5')"
--config.model.content.other="('relu4', 'relu5')"``.

vox256_maps fits the maps of head pose and sound for either; LABELLED has the fields pose and audio, or only the one of
them that ``--config.data.labels=pose`` (or audio) names. Today only synthetic heads have poses (``reenax prepare
synthetic --size 256``); clips of other videos have sound alone. No published numbers can be compared with.

Small models that need no other network, with terms that the paper does not have:

    reenax train --config configs/x2face.py:synth64 --data HEADS64 --run runs/synth64
    reenax train --config configs/x2face.py:smoke --data DATA64 --run runs/smoke

synth64 learns the heads that ``reenax prepare synthetic`` renders, and at the end the maps; synth64_maps fits these
anew to a run that it starts from; smoke is through the first stage within seconds and learns nothing.
"""

from ml_collections import ConfigDict

from configs.common import (
    TIED,
    Config,
    base_config,
    be_through_at_once,
    learn_synthetic_heads,
    sgd,
    stages,
    train_small,
)

# Where the landmarks of TIED lie in a picture of the mean head that looks straight ahead: x, y in [-1, 1].
# fmt: off
FRONTAL = (
    -0.58, -0.07, -0.48, 0.43, 0.0, 0.94, 0.48, 0.43, 0.58, -0.07, -0.28, -0.28, 0.28, -0.28, 0.0, 0.30, -0.33, -0.13,
    -0.33, -0.06, 0.33, -0.13, 0.33, -0.06, -0.24, 0.50, 0.24, 0.50, 0.0, 0.51, 0.0, 0.69, 0.0, 0.56, 0.0, 0.61,
    -0.40, -0.10, 0.40, -0.10,
)
# fmt: on


def _stages(
    *, photometric_stop: int | None = None, content_start: int | None = None, maps_start: int | None = None
) -> Config:
    """Which player moves when, in steps; None for never."""
    return stages(photometric_stop=photometric_stop, content_start=content_start, maps_start=maps_start)


def vox256() -> Config:
    """The first stage on VoxCeleb: the photometric loss alone."""
    config = base_config("x2face")
    config.model = ConfigDict(
        {
            "size": {"features": 64, "levels": 8, "vector": 128, "scale_init": "uniform", "last_gain": 1.0},
            "confidence_bias": 0.1,
            "losses": {"photometric": 1.0},
            "content": {
                "network": "vggface11",
                "same": ("relu2_1", "relu3_1", "relu3_2", "relu4_1", "relu5_1"),
                "other": ("relu4_2", "relu5_1"),
                "same_share": 1.0,
                "other_share": 0.1,
                "same_weights": (),
                "other_weights": (),
            },
            "stages": _stages(),
            "maps": {"ridge": 1e-3, "rectified": True, "labels": ("pose", "audio")},
            "sound": {
                "window": config.data.get_ref("audio_window"),
                "frame": 320,
                "hop": 192,
                "bands": 16,
                "floor": 1e-6,
            },
        }
    )
    config.lr = 1e-3
    config.optim.photometric = sgd(config, momentum=0.9)
    config.batch_size = 16
    config.steps = 3000 * 2000  # "epochs" of 2000 iterations, as the published script counts
    for network in ("vggface11", "vggface", "vggmface"):  # one is asked for where there is a second stage
        config.frozen[network] = ""
    return config


def vox256_content() -> Config:
    """Both stages in one run. How long the first one lasts is not published.

    An item is a person, so that the next example of a batch, which gives the other driver, is of somebody else.
    """
    config = vox256()
    config.data.by_identity = True
    config.steps = 800_000
    config.model.stages = _stages(photometric_stop=600_000, content_start=600_000)
    config.optim.content = {**sgd(config, momentum=0.9).to_dict(), "lr": 1e-4}
    return config


def _fit_maps(config: Config, steps: int) -> Config:
    """The networks of the run that it starts from stay as they are; only the maps are fitted."""
    config.model.stages = _stages(photometric_stop=0, maps_start=0)
    config.optim = ConfigDict()  # none is needed: they are fitted in closed form
    config.data.labels = ("pose", "audio")
    config.model.maps.labels = config.data.get_ref("labels")
    config.data.flip = False  # labels would not follow
    config.steps = steps
    config.log_every = 50
    config.save_every = steps
    config.eval_every = steps
    config.sample_every = steps
    return config


def vox256_maps() -> Config:
    """Maps between poses, sound and driving vectors; 7000 frames seem to have been enough for the published ones."""
    return _fit_maps(vox256(), steps=2000)


def _small() -> Config:
    """What the 64x64 models share: narrow networks of six levels."""
    config = vox256()
    config.model.size.update({"features": 24, "levels": 6, "scale_init": "normal", "last_gain": 0.1})
    config.model.sound.update({"frame": 800, "hop": 400})  # 7 spectra: there are few frames to fit a map to
    config.model.maps.ridge = 1e-2
    config.optim = ConfigDict()
    train_small(config, ("photometric",))
    return config


def synth64() -> Config:
    """Synthetic heads: ten minutes on two CPU cores, the maps of pose and sound included. What is not the paper's:

    - Landmarks of the *mean* head are sampled at their places in a frontal mean head: of the driving frame in the
      embedded face, of the embedded face in the source. So embedded faces of all people lie alike, and a driving vector
      says nothing of the driver's shape, which would be seen in the picture of another.
    - The same landmarks must be found by a linear map of the driving vector, since linear maps are to drive it.
    - The reconstruction also compares coarser pictures, gradients and local structure; mouth and eyes weigh more.
    - Adam, grids that begin by moving nothing, scales of norms that begin at 1: all make the first minutes count.
    """
    config = _small()
    config.model.losses.update(
        {
            "photometric": 0.0,
            "scales": (1.0, 0.5, 0.25),
            "l1": 10.0,
            "gradient": 10.0,
            "ssim": 1.0,
            "mouth": 16.0,
            "eyes": 3.0,
            "canonical": 20.0,
            "landmarks": 20.0,
            "landmark_points": TIED,
            "canonical_points": FRONTAL,
        }
    )
    learn_synthetic_heads(config, ("landmarks", "landmarks_mean", "pose", "audio"))
    config.steps = 1700
    config.save_every = 400
    config.eval_every = 400
    config.sample_every = 800
    config.model.stages = _stages(photometric_stop=1600, maps_start=1600)
    return config


def synth64_maps() -> Config:
    """The maps of a run of synth64 once more: for other data, or another description of sound. Half a minute."""
    return _fit_maps(synth64(), steps=80)


def smoke() -> Config:
    """The first stage, from the batch to the checkpoint, in seconds."""
    config = _small()
    config.model.size.update({"features": 4, "vector": 16})
    be_through_at_once(config)
    return config


CONFIGS = (vox256, vox256_content, vox256_maps, synth64, synth64_maps, smoke)
NAMES = tuple(config.__name__ for config in CONFIGS)


def get_config(name: str) -> Config:
    """The config called ``name``, one of ``NAMES``."""
    return CONFIGS[NAMES.index(name)]()
