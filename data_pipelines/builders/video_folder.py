"""The TFDS builder of clips cut from videos (`data_pipelines.prepare`).

TensorFlow is not needed, neither to build nor to read. Examples keep the order in which they are given.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipelines import schema

Records = Callable[[], Iterable[schema.Record]]


class VideoFolder(tfds.core.GeneratorBasedBuilder):
    """Clips of people, one record per clip; which fields they have is said at construction."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = {}  # noqa: RUF012 - nothing is downloaded; looking for checksums would need another package

    def __init__(self, *, data_dir: Path, fields: Collection[str], splits: Mapping[str, Records]) -> None:
        self._fields = frozenset(fields)
        self._records = dict(splits)
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Clips of one person each, cut around the face, as JPEG frames.",
            features=schema.features(self._fields),
            disable_shuffling=True,  # the loader shuffles; a known order lets the index name every record
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        del dl_manager
        return {split: self._generate_examples(records) for split, records in self._records.items()}

    def _generate_examples(self, records: Records):
        for index, record in enumerate(records()):
            schema.check(record)
            yield index, {name: value for name, value in record.items() if name in schema.REQUIRED | self._fields}
