"""CelebA: aligned and cropped pictures of celebrities with 40 attributes (Liu et al., ICCV 2015).

    FOLDER/img_align_celeba/000001.jpg ...     178x218 pixels (also in Img/)
    FOLDER/list_attr_celeba.txt                number of pictures; names; then per line a file name and 1 or -1 per name
                                               (also in Anno/, or with commas as list_attr_celeba.csv)
    FOLDER/identity_CelebA.txt                 optional: file name and number of the person (also in Anno/)

Records: one per person and split where the identities are there, else one per picture; field `attributes`, 1 or 0 for
each of the chosen names in the order in which they are chosen. The default five, and the split, are those of StarGAN
(Choi et al., CVPR 2018): the lines shuffled by Python's generator with seed 1234, and the first 1,999 tested (of
smaller lists at most the share that is asked for). The middle 178x178 pixels are cut out.
"""

import random
from pathlib import Path

import numpy as np

from data_pipelines.inputs import Skipped
from data_pipelines.layouts.stills import Plan, Still, Wish, lines_of, no_faces, require_file
from reenax.core.errors import UserError

ATTRIBUTES = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
TESTED = 1999
SEED = 1234
CONTENT = "img_align_celeba/, list_attr_celeba.txt and perhaps identity_CelebA.txt"


def read(folder: Path, wish: Wish) -> Plan:
    """The pictures of a folder. Raises UserError."""
    no_faces(wish, "celeba")
    pictures = require_file(folder, "celeba", "img_align_celeba", "Img/img_align_celeba", content=CONTENT)
    if (pictures / pictures.name).is_dir():  # as some archives unpack
        pictures = pictures / pictures.name
    names = ("list_attr_celeba.txt", "Anno/list_attr_celeba.txt", "list_attr_celeba.csv", "Anno/list_attr_celeba.csv")
    chosen = wish.attributes or ATTRIBUTES
    rows = _attributes(require_file(folder, "celeba", *names, content=CONTENT), chosen)
    people = _people(folder)
    order = list(rows)
    random.Random(SEED).shuffle(order)
    tested = set(order[: min(TESTED, round(wish.test_share * len(order)))])
    stills, skipped = [], []
    for name, row in rows.items():
        path, stem = pictures / name, Path(name).stem
        if not path.is_file():
            skipped.append(Skipped(path, "missing", "is listed, but there is no such file"))
        elif people is not None and name not in people:
            skipped.append(Skipped(path, "unlabelled", "is not in identity_CelebA.txt"))
        else:
            identity = stem if people is None else people[name]
            split = "test" if name in tested else "train"
            stills.append(Still(path, stem, identity, split, {"attributes": row}))
    return Plan(stills, "none", frozenset({"attributes"}), skipped, chosen)


def _attributes(path: Path, chosen: tuple[str, ...]) -> dict[str, np.ndarray]:
    """File name -> the chosen attributes, 0 or 1."""
    columns: list[int] = []
    rows: dict[str, np.ndarray] = {}
    names: list[str] = []
    for number, line in lines_of(path):
        words = line.replace(",", " ").split()
        if not names:
            if number == 1 and len(words) == 1 and words[0].isdigit():
                continue  # the number of pictures
            if not words:
                raise UserError(f"{path}: line {number}: no names of attributes")
            names = words[1:] if words[0] in ("image_id", "filename") else words
            if unknown := [name for name in chosen if name not in names]:
                raise UserError(f"{path}: has no attribute {', '.join(unknown)}; it has {', '.join(names[:60])}")
            columns = [names.index(name) + 1 for name in chosen]
            continue
        values = [words[at] if at < len(words) else "" for at in columns]
        if len(words) != len(names) + 1 or not set(values) <= {"1", "-1", "0"}:
            raise UserError(f"{path}: line {number}: not a file name and {len(names)} values of 1 or -1")
        rows[Path(words[0]).name] = np.array([value == "1" for value in values], np.float32)
    if not rows:
        raise UserError(f"{path}: no picture in it; is it CelebA's list of attributes?")
    return rows


def _people(folder: Path) -> dict[str, str] | None:
    """File name -> person; None where nobody tells."""
    for place in ("identity_CelebA.txt", "Anno/identity_CelebA.txt"):
        if (folder / place).is_file():
            people = {}
            for number, line in lines_of(folder / place):
                words = line.split()
                if len(words) != 2:
                    raise UserError(f"{folder / place}: line {number}: not a file name and a number")
                people[words[0]] = words[1]
            return people
    return None
