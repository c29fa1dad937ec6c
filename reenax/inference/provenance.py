"""Content credentials: every output says, signed, that it was made by AI, by which method and from what.

The key is made once per user and kept under ``$XDG_CONFIG_HOME/reenax/credentials`` (``~/.config`` by default).
Viewers show such a signature as valid from an unknown signer; it proves that the file was not changed since,
not who made it. Neither the inputs nor their names are put into the file, only what kind of input they are.
"""

import contextlib
import datetime
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from reenax import __version__
from reenax.core.errors import UserError

MADE_BY_AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
ASSERTION = "org.reenax.reenactment"
VALID_DAYS = 3650
RENEW_DAYS = 30
KEY_MARK = b"-----BEGIN PRIVATE KEY-----"


def credentials_folder() -> Path:
    """Where this user's key and certificates are kept."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "reenax" / "credentials"


def open_signer() -> c2pa.C2paSignerInfo:
    """This user's key and certificates, made when there are none.

    Raises:
        UserError: they cannot be read or made.
    """
    chain, key = _credentials(credentials_folder())
    return c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, key, None)


def sign(
    signer: c2pa.C2paSignerInfo, unsigned: Path, out: Path, title: str, method: str, inputs: Mapping[str, str]
) -> None:
    """Writes a signed copy of a picture or video.

    Args:
        signer: from `open_signer`.
        unsigned: the file to sign.
        out: where the signed copy is written, replacing what is there.
        title: the name that the credentials give it.
        method: name of the method that made it.
        inputs: role -> kind of input, for example ``{"source": "picture", "driving": "video"}``.

    Raises:
        UserError: the file cannot be signed.
        OSError: the disk is full.
    """
    labels = {role: f"ingredient_{role}" for role in inputs}
    action = {
        "action": "c2pa.created",
        "digitalSourceType": MADE_BY_AI,
        "softwareAgent": {"name": f"reenax {method}", "version": __version__},
        "parameters": {"ingredientIds": list(labels.values())},
    }
    manifest = {
        "claim_generator_info": [{"name": "reenax", "version": __version__}],
        "title": title,
        "ingredients": [
            {"title": f"{role} {kind}", "relationship": "inputTo", "label": labels[role]}
            for role, kind in inputs.items()
        ],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": ASSERTION, "data": {"method": method, "version": __version__, **inputs}},
        ],
    }
    out.unlink(missing_ok=True)
    try:
        context = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
        c2pa.Builder(manifest, context=context).sign_file(unsigned, out, c2pa.Signer.from_info(signer))
    except c2pa.C2paError as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out)) from error
        raise UserError(
            f"{title} cannot be signed ({error}); delete {credentials_folder()} to make new credentials, "
            f"or pass --no-credentials"
        ) from error


@contextlib.contextmanager
def signed(
    signer: c2pa.C2paSignerInfo | None, path: Path, title: str, method: str, inputs: Mapping[str, str]
) -> Iterator[Path]:
    """Gives the place to write a picture or video to, and leaves it at ``path``, signed where there is a signer.

    Arguments as for :func:`sign`. Nothing is left beside ``path``.
    """
    if signer is None:
        yield path
        return
    unsigned = path.with_name(f".unsigned{path.name}")
    try:
        yield unsigned
        sign(signer, unsigned, path, title, method, inputs)
    finally:
        unsigned.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any] | None:
    """What a file's credentials say: ``{"state", "made_by_ai", "method", ...}``; None when it has none.

    ``state`` is "Valid" (or "Trusted") for a file that was not changed since it was signed, else "Invalid".

    Raises:
        UserError: the file cannot be read, or is of a kind that has no credentials.
    """
    try:
        reader = c2pa.Reader.try_create(path)
        if reader is None:
            return None
        with reader:
            store = json.loads(reader.json())
            state = str(reader.get_validation_state())
    except (c2pa.C2paError, OSError) as error:
        raise UserError(f"{path}: no credentials can be read ({error}); give an .mp4 or .png file") from error
    assertions = {a["label"]: a["data"] for a in store["manifests"][store["active_manifest"]]["assertions"]}
    actions = assertions.get("c2pa.actions.v2", {}).get("actions", [])
    made_by_ai = any(a.get("digitalSourceType") == MADE_BY_AI for a in actions)
    return {"state": state, "made_by_ai": made_by_ai, **assertions.get(ASSERTION, {})}


def _credentials(folder: Path) -> tuple[bytes, bytes]:
    """Certificate chain and private key in PEM, made when absent or about to expire.

    Both are in one file, written in one piece: two commands that start at the same time end with one that fits.
    """
    path = folder / "signer.pem"
    try:
        if not path.is_file() or _expires(path.read_bytes()):
            _make_credentials(path)
        chain, mark, key = path.read_bytes().partition(KEY_MARK)
        if not mark:
            raise ValueError(f"{path.name} holds no private key")
        return chain, mark + key
    except (OSError, ValueError) as error:
        raise UserError(f"no signing key in {folder} ({error}); make the folder writable, or delete it") from error


def _expires(pem: bytes) -> bool:
    leaf = x509.load_pem_x509_certificates(pem.partition(KEY_MARK)[0])[0]
    return leaf.not_valid_after_utc < datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEW_DAYS)


def _make_credentials(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name, leaf_name = _name("reenax local root"), _name("reenax local signer")
    root = _certificate(root_name, root_name, root_key, root_key, authority=True)
    leaf = _certificate(leaf_name, root_name, leaf_key, root_key, authority=False)
    pem = serialization.Encoding.PEM
    secret = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # readable by its owner alone
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(leaf.public_bytes(pem) + root.public_bytes(pem) + secret)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "reenax user"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    """A certificate with the extensions that C2PA asks for. C2PA refuses a leaf that signs itself, hence the root."""
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    usage |= {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        ).add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
