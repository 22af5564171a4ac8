"""Cryptography: hashes, the cipher, node keys, base32 and files that hold secrets.

* `ampgrid.crypto.base32`: the one spelling of bytes in text.
* `ampgrid.crypto.hashing`: SHA-256d under tags, convergent keys, lease secrets.
* `ampgrid.crypto.cipher`: AES-128-CTR at any offset.
* `ampgrid.crypto.identity`: Ed25519 node keys, node ids, signatures.
* `ampgrid.crypto.directory_keys`: the keys of directories, and what is derived from them.
* `ampgrid.crypto.keyfile`: secret files, written once.
* `ampgrid.crypto.sealed`: bytes under a passphrase.
"""

from ampgrid.crypto.base32 import a2b, b2a
from ampgrid.crypto.cipher import decrypt_at, encrypt_at
from ampgrid.crypto.identity import Identity, node_id_of, node_id_text, parse_node_id, verify
from ampgrid.crypto.keyfile import read_secret_file, write_secret_file

__all__ = [
    "Identity",
    "a2b",
    "b2a",
    "decrypt_at",
    "encrypt_at",
    "node_id_of",
    "node_id_text",
    "parse_node_id",
    "read_secret_file",
    "verify",
    "write_secret_file",
]
