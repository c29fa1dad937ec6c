"""The user's key: made once, renewed in time, and every failure in one line."""

import errno
import json

import c2pa
import numpy as np
import pytest
from PIL import Image

from reenax.core.errors import UserError
from reenax.inference import provenance

INPUTS = {"source": "picture", "driving": "video"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def unsigned(tmp_path):
    Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(tmp_path / "u.png")
    return tmp_path / "u.png"


def key():
    return (provenance.credentials_folder() / "signer.pem").read_bytes()


def test_inputs_are_ingredients_without_content(unsigned, tmp_path):
    out = tmp_path / "o.png"
    provenance.sign(provenance.open_signer(), unsigned, out, "o.png", "fomm", INPUTS)
    with c2pa.Reader(out) as reader:
        store = json.loads(reader.json())
    manifest = store["manifests"][store["active_manifest"]]
    assert [(i["title"], i["relationship"]) for i in manifest["ingredients"]] == [
        ("source picture", "inputTo"),
        ("driving video", "inputTo"),
    ]
    assert not any("thumbnail" in i or "data" in i for i in [manifest, *manifest["ingredients"]])
    assert out.stat().st_size < 20_000


def test_the_key_is_made_once(unsigned, tmp_path):
    provenance.open_signer()
    first = key()
    provenance.open_signer()
    assert key() == first
    assert [p.name for p in provenance.credentials_folder().iterdir()] == ["signer.pem"]


def test_certificates_about_to_expire_are_renewed(monkeypatch):
    monkeypatch.setattr(provenance, "VALID_DAYS", 20)
    provenance.open_signer()
    first = key()
    monkeypatch.setattr(provenance, "VALID_DAYS", 3650)
    provenance.open_signer()
    assert key() != first


def test_keys_that_cannot_be_made_or_read_are_named(home):
    home.write_text("a file where a folder should be")
    with pytest.raises(UserError, match="no signing key in .*credentials"):
        provenance.open_signer()
    home.unlink()
    provenance.open_signer()
    (provenance.credentials_folder() / "signer.pem").write_text("no key")
    with pytest.raises(UserError, match=r"no signing key in .*; make the folder writable, or delete it"):
        provenance.open_signer()


def test_failures_of_signing_are_told_apart(unsigned, tmp_path, monkeypatch):
    signer = provenance.open_signer()

    def fail(message):
        def sign_file(*_):
            raise c2pa.C2paError(message)

        monkeypatch.setattr(c2pa.Builder, "sign_file", sign_file)

    fail("Error signing file: [Errno 28] No space left on device")
    with pytest.raises(OSError, match="No space left") as caught:
        provenance.sign(signer, unsigned, tmp_path / "o.png", "o.png", "fomm", INPUTS)
    assert caught.value.errno == errno.ENOSPC
    fail("Signature: bad key")
    with pytest.raises(UserError, match=r"o.png cannot be signed \(Signature: bad key\); delete .*--no-credentials"):
        provenance.sign(signer, unsigned, tmp_path / "o.png", "o.png", "fomm", INPUTS)


def test_files_that_cannot_have_credentials_are_named(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    for name in ("x.txt", "missing.png"):
        with pytest.raises(UserError, match=name):
            provenance.read(tmp_path / name)
