"""Who published a package: an ed25519 signature over the manifest's bytes.

The digest proves sameness, the signature proves origin (RFC 8032). Keys are PEM files; a key id is the
first 16 hex digits of the SHA-256 of the raw public key, so nobody has to keep a list of names in step.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from registry.canonical import canonical_json
from serving.engine.errors import PackageSignature

ALGORITHM = "ed25519"


def key_id(key: Ed25519PublicKey) -> str:
    """16 hex digits that name a public key."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def write_key(path: Path) -> str:
    """Make a new private key at ``path`` (mode 0600) and ``path`` + ``.pub``; returns the key id.

    Raises ``FileExistsError``: a key is never overwritten.
    """
    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key()
    path.with_name(path.name + ".pub").write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return key_id(public)


def read_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file; raises ``PackageSignature`` when it is not an ed25519 key."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PackageSignature("The private key file is not a plain PEM key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise PackageSignature("The private key is not an ed25519 key")
    return key


def trusted_keys(paths: Iterable[Path]) -> dict[str, Ed25519PublicKey]:
    """Key id -> public key for PEM files; no files trust nobody. Raises ``PackageSignature``."""
    keys: dict[str, Ed25519PublicKey] = {}
    for path in paths:
        try:
            key = serialization.load_pem_public_key(path.read_bytes())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise PackageSignature(f"{path.name} is not a PEM public key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise PackageSignature(f"{path.name} is not an ed25519 public key")
        keys[key_id(key)] = key
    return keys


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The bytes of ``manifest.sig`` for the bytes of ``manifest.json``."""
    return canonical_json(
        {
            "algorithm": ALGORITHM,
            "key_id": key_id(key.public_key()),
            "signature": base64.b64encode(key.sign(manifest)).decode(),
        }
    )


def check(manifest: bytes, signature: bytes, trusted: Mapping[str, Ed25519PublicKey]) -> str | None:
    """The id of the trusted key that signed ``manifest``, or None when its signer is not known here.

    Raises ``PackageSignature`` when the file is malformed or a trusted key's signature does not hold.
    """
    try:
        fields = json.loads(signature)
        algorithm, signer, text = fields["algorithm"], fields["key_id"], fields["signature"]
        raw = base64.b64decode(text, validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise PackageSignature("manifest.sig is not a signature file") from error
    if algorithm != ALGORITHM:
        raise PackageSignature("manifest.sig uses another algorithm than ed25519")
    if not isinstance(signer, str) or signer not in trusted:
        return None
    try:
        trusted[signer].verify(raw, manifest)
    except InvalidSignature as error:
        raise PackageSignature(f"The signature of key {signer} does not fit this manifest") from error
    return signer
