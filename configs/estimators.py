"""Estimators: networks that read landmarks, pose, expression and shape of rendered faces, to measure methods with.

    reenax prepare synthetic --out DATA --size 64
    reenax train --config configs/estimators.py:synth64 --data DATA --run runs/estimators
    python experiments/benchmark.py estimators --run runs/estimators --data DATA
    python experiments/benchmark.py run --run runs/fomm --data DATA --estimators runs/estimators

synth64 (64x64) takes some minutes on two CPU cores, synth128 is for pictures of 128x128; smoke is through within
seconds and learns nothing.
"""

from ml_collections import ConfigDict

from configs.common import Config, adam, base_config

LABELS = ("landmarks", "pose", "expression", "identity_coefficients")


def synth64() -> Config:
    """64x64, minutes on two CPU cores."""
    config = base_config("estimators")
    config.model = ConfigDict(
        {
            "expressions": 52,
            "identities": 80,
            "landmarks": {"downs": 1, "width": 16, "num_blocks": 3, "max_features": 64},
            "motion": {"width": 16, "num_blocks": 4, "max_features": 128, "hidden": 256, "dropout": 0.0},
            "identity": {"width": 16, "num_blocks": 4, "max_features": 128, "hidden": 256, "dropout": 0.2},
            "units": {"rotation": 0.1, "translation": 0.5, "expression": 0.1},
            "disturbance": {"gain": 0.3, "offset": 0.2, "blur": 1.0, "noise": 0.05},
        }
    )
    config.lr = 2e-3
    for network in ("landmarks", "motion", "identity"):
        config.optim[network] = adam(config, "cosine")
    config.batch_size = 32
    config.steps = 2000
    config.data.sampler = "labelled"
    config.data.labels = LABELS
    config.data.size = 64
    config.data.threads = 2
    config.log_every = 50
    config.save_every = 500
    config.eval_every = 500
    config.sample_every = 1000
    return config


def synth128() -> Config:
    """128x128: everything one halving deeper."""
    config = synth64()
    config.data.size = 128
    config.model.landmarks.downs = 2
    config.model.motion.num_blocks = 5
    config.model.identity.num_blocks = 5
    return config


def smoke() -> Config:
    """Everything once, in seconds."""
    config = synth64()
    config.model.landmarks.update({"width": 4, "num_blocks": 2, "max_features": 8})
    for network in (config.model.motion, config.model.identity):
        network.update({"width": 4, "max_features": 8, "hidden": 16})
    config.batch_size = 8
    config.steps = 8
    config.log_every = 2
    config.save_every = 4
    config.eval_every = 4
    config.sample_every = 4
    return config


CONFIGS = (synth64, synth128, smoke)
NAMES = tuple(config.__name__ for config in CONFIGS)


def get_config(name: str) -> Config:
    """The config called ``name``, one of ``NAMES``."""
    return CONFIGS[NAMES.index(name)]()
