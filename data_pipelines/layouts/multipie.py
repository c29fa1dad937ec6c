"""CMU Multi-PIE (Gross et al. 2010) as FReeNet keeps it: people act expressions before many cameras, in many lights.

    <person, 3 digits>_<expression, one digit>_<camera>_<light>.png (.jpg)      at any depth

Text files of 106 landmarks (`points`) in the folder decide what is cut and become `landmarks_106`; behind the points
their lines may tell the pose, which is passed over. Without them faces are found (`--faces dlib`, which misses
profiles) or the middle of the pictures is taken (`--faces none`).

Records: one per person. `acted` says expression, view and gaze:

    expression   the digit of the name; 0 is neutral
    view         0 for camera 051 (05_1, the frontal one), else the camera's number: 41 for 041 or 04_1, 190 for 19_0
    gaze         always 0
"""

import re
from pathlib import Path

import numpy as np

from data_pipelines.inputs import Skipped
from data_pipelines.layouts.points import find_points
from data_pipelines.layouts.rafd import with_points
from data_pipelines.layouts.stills import Plan, Still, Wish, no_attributes, pictures_below

FRONTAL = "051"

_NAME = re.compile(r"(\d{3})_(\d)_(\d{2}_\d|\d{1,4})_(\d+)")


def read(folder: Path, wish: Wish) -> Plan:
    """The pictures of a folder. Raises UserError."""
    no_attributes(wish, "multipie")
    points, skipped = ({}, []) if wish.faces else find_points(folder)
    stills: dict[str, Still] = {}
    for path in pictures_below(folder, leave_out="landmark"):
        name = _NAME.fullmatch(path.stem)
        if name is None:
            skipped.append(Skipped(path, "unknown name", "is not named <person>_<expression>_<camera>_<light>"))
        elif path.stem in stills:
            skipped.append(Skipped(path, "duplicate", f"is named as {stills[path.stem].path} is"))
        else:
            person, expression, camera, _ = name.groups()
            camera = camera.replace("_", "")
            acting = [int(expression), 0 if camera == FRONTAL else int(camera), 0]
            stills[path.stem] = Still(path, path.stem, person, "", {"acted": np.array(acting, np.int32)})
    return with_points(list(stills.values()), points, skipped, wish, frozenset({"acted"}))
