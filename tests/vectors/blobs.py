"""Reads the vectors of blobs, with a second decoder that shares no code with the first.

It follows `docs/specs/blobs.md` and nothing else. Run as a program, it checks every vector.
"""

import hmac
import json
from hashlib import sha256, shake_128
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

VECTORS = json.loads((Path(__file__).parent / "data" / "blobs.json").read_text("utf-8"))


def plaintext(vector):
    """Return the content of a vector: the output of SHAKE-128 over its id."""
    return shake_128(vector["blob_id"].encode()).digest(vector["size"])


def hkdf(secret, salt, info, length):
    """RFC 5869 over SHA-256."""
    key = hmac.new(salt, secret, sha256).digest()
    block, made = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.new(key, block + info + bytes([number]), sha256).digest()
        made += block
    return made[:length]


def decode(secret, namespace, blob_id, sealed):
    """Return the plaintext of a sealed blob, or fail an assertion."""
    length = int.from_bytes(sealed[10:12], "big")
    preamble, rest = sealed[:length], sealed[length:]
    assert sealed[:10] == b"AMPBLOB1\x00\x01"
    assert preamble[12:16] == sha256(preamble[:12] + bytes(4) + preamble[16:]).digest()[:4]
    names = b"".join(bytes([len(part)]) + part.encode() for part in (namespace, blob_id))
    assert preamble[88:] == names
    size, salt = int.from_bytes(preamble[16:24], "big"), preamble[24:56]
    made = hkdf(secret, salt, b"ampgrid blob 1:" + names, 64)
    assert hmac.compare_digest(made[32:], preamble[56:88])
    chunks = [rest[at : at + 65552] for at in range(0, len(rest), 65552)]
    plain = b""
    for number, chunk in enumerate(chunks):
        nonce = number.to_bytes(11, "big") + bytes([number == len(chunks) - 1])
        mode = modes.GCM(nonce, chunk[-16:])
        gcm = Cipher(algorithms.AES(made[:32]), mode).decryptor()
        gcm.authenticate_additional_data(preamble)
        plain += gcm.update(chunk[:-16]) + gcm.finalize()
    assert len(plain) == size
    assert len(chunks) == max(1, -(-size // 65536))
    return plain


def check(vector, sealed):
    """Fail an assertion unless ``sealed`` is what the vector says."""
    assert len(sealed) == vector["sealed_size"]
    assert sealed[-16:].hex() == vector["tag"]
    assert sha256(sealed).hexdigest() == vector["sealed_sha256"]
    if "sealed" in vector:
        assert sealed.hex() == vector["sealed"]
