"""The landmarks of the made-up face, in a file."""

from pathlib import Path

import pytest

from tests.interop.face_models.made_up_face import made_up_face


@pytest.fixture
def landmarks(tmp_path) -> Path:
    path = tmp_path / "landmarks.txt"
    path.write_text("\n".join(map(str, made_up_face().landmarks)))
    return path
