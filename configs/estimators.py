"""Estimators: networks that read landmarks, pose, expression and shape of rendered faces, to measure methods with.

    reenax prepare synthetic --identities 700 --seconds 1 --fps 10 --size 64 --seed 1 --test-share 0.1 --out PEOPLE64
    reenax train --config configs/estimators.py:synth64 --data PEOPLE64 --run runs/estimators
    python experiments/benchmark.py estimators --run runs/estimators --data DATA
    python experiments/benchmark.py run --run runs/fomm --data DATA --estimators runs/estimators

Many people with a few frames each teach more than few people with many; DATA is the dataset that methods are measured
on. synth64 (64x64) takes some minutes on two CPU cores, synth128 is for pictures of 128x128; smoke is through within
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
            "landmarks": {"downs": 1, "border": 4, "width": 16, "num_blocks": 3, "max_features": 64},
            "motion": {"crop": 48, "width": 16, "num_blocks": 3, "max_features": 64, "code": 128, "hidden": 256},
            "identity": {"crop": 48, "width": 16, "num_blocks": 3, "max_features": 64, "code": 128, "hidden": 256},
            "units": {"rotation": 0.1, "translation": 0.5, "expression": 0.05},
            "disturbance": {"gain": 0.3, "offset": 0.2, "blur": 0.7, "noise": 0.05},
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
    for network in (config.model.motion, config.model.identity):
        network.update({"crop": 96, "num_blocks": 4})
    return config


def smoke() -> Config:
    """Everything once, in seconds."""
    config = synth64()
    config.model.landmarks.update({"width": 4, "num_blocks": 2, "max_features": 8})
    for network in (config.model.motion, config.model.identity):
        network.update({"crop": 16, "width": 4, "num_blocks": 2, "max_features": 8, "code": 8, "hidden": 16})
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
