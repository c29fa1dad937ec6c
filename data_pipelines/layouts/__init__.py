"""Published folders of pictures, read into records: one reader per layout, named in `READERS`.

A reader only finds: it gives every picture with the person, the split and the labels that the folder tells
(`stills.Plan`). Reading, cutting and writing the pictures is the same for all (`prepare.prepare_layout`).

Records of pictures have one frame "per second": fps 1, timestamps 0, 1, 2, ... in the order of the file names. Where a
folder tells who is seen, a person is one record (two, when the person is in both splits), otherwise every picture is a
record and a person of its own. `bbox` is the square of the record's first picture in its file. The names of
`attributes`, in their order, are noted in the dataset's settings.json.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from data_pipelines.layouts import celeba, ganimation, multipie, rafd
from data_pipelines.layouts.stills import Plan, Wish

READERS: Mapping[str, Callable[[Path, Wish], Plan]] = {
    "ganimation": ganimation.read,
    "celeba": celeba.read,
    "rafd": rafd.read,
    "multipie": multipie.read,
}
"""Layout -> what finds the pictures of a folder and their labels; raises UserError."""
