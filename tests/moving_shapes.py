"""Clips of simple heads, for tests that need videos of something that moves."""

import numpy as np
from jaxtyping import UInt8

SIZE, FRAMES, FPS = 64, 48, 25.0


def render_clip(identity: int, frames: int = FRAMES, size: int = SIZE) -> UInt8[np.ndarray, "t h w 3"]:
    """A simple head (an ellipse with two eyes and a mouth) that sways, turns and talks before a background.

    Colours, shape and background follow from the identity; each identity moves in its own way.
    """
    rng = np.random.default_rng(identity)
    skin, hair, back = rng.uniform([140, 100, 80], [240, 190, 160]), rng.uniform(20, 120, 3), rng.uniform(40, 220, 3)
    width, height = rng.uniform(0.38, 0.5), rng.uniform(0.55, 0.68)
    speed, phase = rng.uniform(0.6, 1.4, 4), rng.uniform(0, 2 * np.pi, 4)
    scale = 3  # supersampling
    axis = np.linspace(-1, 1, size * scale)
    x, y = np.meshgrid(axis, axis)
    time = np.arange(frames) / FPS
    sway, nod, tilt, talk = (np.sin(2 * np.pi * s * time + p) for s, p in zip(speed, phase, strict=True))
    clip = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        angle = 0.25 * tilt[t]
        u, v = x - 0.22 * sway[t], y - 0.12 * nod[t]
        u, v = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
        picture = back * (0.8 + 0.2 * np.sin(3 * x + identity)[..., None])
        layers = [
            ((u / (width * 1.15)) ** 2 + ((v + 0.08) / (height * 1.1)) ** 2 < 1, hair),
            ((u / width) ** 2 + ((v - 0.05) / height) ** 2 < 1, skin),
            (((np.abs(u) - 0.17) / 0.09) ** 2 + ((v + 0.1) / 0.055) ** 2 < 1, np.full(3, 245.0)),
            (((np.abs(u) - 0.17) / 0.04) ** 2 + ((v + 0.1) / 0.05) ** 2 < 1, hair * 0.5),
            ((u / 0.17) ** 2 + ((v - 0.36) / (0.045 + 0.05 * (1 + talk[t]))) ** 2 < 1, np.array([120.0, 30.0, 40.0])),
        ]
        for inside, colour in layers:
            picture = np.where(inside[..., None], colour, picture)
        clip[t] = picture.reshape(size, scale, size, scale, 3).mean((1, 3)).round()
    return clip
