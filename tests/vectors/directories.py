"""Reads the vectors of directories, with a second decoder that shares no code with the first.

It follows `docs/specs/directories.md` and nothing else.
"""

import base64
import hmac
import json
import struct
import unicodedata
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VECTORS = json.loads((Path(__file__).parent / "data" / "directories.json").read_text("utf-8"))


def netstring(data):
    return str(len(data)).encode() + b":" + data + b","


def derived(what, value, length=32):
    tag = f"ampgrid_directory_{what}_v1".encode()
    return sha256(sha256(netstring(tag) + value).digest()).digest()[:length]


def base32(data):
    return base64.b32encode(data).decode().rstrip("=").lower()


def keys_of(write_key):
    """Return all keys of a directory, by name."""
    seed = derived("signing_seed", write_key)
    verifying_key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    read_key = derived("read_key", write_key, 16)
    return {
        "write_key": write_key,
        "verifying_key": verifying_key,
        "fingerprint": derived("index", verifying_key),
        "write_slot_key": derived("write_slot_key", write_key),
        "read_key": read_key,
        "read_slot_key": derived("read_slot_key", read_key),
        "name_key": derived("name_key", read_key),
    }


def slot_of(keys, name):
    spelled = unicodedata.normalize("NFC", name).encode()
    return hmac.new(keys["name_key"], spelled, "sha256").digest()


def check(keys, domain, packed):
    """Check the signature, the last 64 bytes, and the index and the key behind the magic."""
    body, signature = packed[:-64], packed[-64:]
    assert body[4:36] == keys["fingerprint"]
    assert body[36:68] == keys["verifying_key"]
    signed = netstring(b"ampgrid") + netstring(domain) + body
    Ed25519PublicKey.from_public_bytes(keys["verifying_key"]).verify(signature, signed)


def read_ballot(packed):
    return struct.unpack(">LQ8s", packed)


def read_prepare(keys, packed):
    check(keys, b"directory prepare", packed)
    assert len(packed) == 152
    assert packed[:4] == b"AGP1"
    return read_ballot(packed[68:88])


def read_record(keys, packed):
    """Return what is in a record, with the hash of its content."""
    check(keys, b"directory record", packed)
    assert packed[:4] == b"AGR2"
    epoch, flags, version = struct.unpack(">LBQ", packed[68:81])
    previous, root, rest = packed[81:113], packed[113:145], packed[153:]
    lists = []
    for size in (36, 36, 8):
        end = 1 + size * rest[0]
        lists.append([rest[at : at + size] for at in range(1, end, size)])
        rest = rest[end:]
    assert len(rest) == 104
    return {
        "epoch": epoch,
        "recovered": flags,
        "version": version,
        "previous": previous,
        "root": root,
        "count": int.from_bytes(packed[145:153], "big"),
        "replicas": [(replica[:20], replica[20:]) for replica in lists[0]],
        "previous_replicas": [(replica[:20], replica[20:]) for replica in lists[1]],
        "operations": lists[2],
        "ballot": read_ballot(rest[:20]),
        "following": read_ballot(rest[20:40]) if any(rest[20:40]) else None,
        "content": derived("record_content", packed[:-104]),
    }


def read_entry(keys, name, sealed):
    """Return the composed name, the read cap, the write cap and the metadata."""
    slot = slot_of(keys, name)
    bound = b"ampgrid directory entry 1" + keys["fingerprint"] + slot
    version, length = struct.unpack(">BH", sealed[:3])
    assert version == 1
    read, write = sealed[3 : 3 + length], sealed[3 + length :]
    plain = AESGCM(keys["read_slot_key"]).decrypt(read[:12], read[12:], bound + b"read")
    parts = []
    while plain:
        end = 2 + int.from_bytes(plain[:2], "big")
        parts.append(plain[2:end].decode())
        plain = plain[end:]
    name, cap, metadata = parts
    write_cap = ""
    if write:
        cipher = AESGCM(keys["write_slot_key"])
        write_cap = cipher.decrypt(write[:12], write[12:], bound + b"write").decode()
    return name, cap, write_cap, json.loads(metadata)


def read_pointer(keys, packed):
    """Return the epoch, the version and the cap."""
    check(keys, b"directory pointer", packed)
    assert packed[:4] == b"AGS1"
    epoch, version, length = struct.unpack(">LQH", packed[68:82])
    sealed = packed[82:-64]
    assert len(sealed) == length
    bound = b"ampgrid directory pointer 1" + keys["fingerprint"] + packed[68:80]
    cipher = AESGCM(derived("pointer_key", keys["read_key"]))
    return epoch, version, cipher.decrypt(sealed[:12], sealed[12:], bound).decode()


def entries_of(number, size):
    """Return the entries of a trie of the vectors."""
    return {
        sha256(b"slot %d" % n).digest(): sha256(b"entry %d" % n).digest() * (1 + n % size)
        for n in range(number)
    }
