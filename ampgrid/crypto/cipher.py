"""AES-128 in counter mode at any offset of a file.

The counter starts at zero for every file. That is sound because a key enciphers one plaintext
only: it is the hash of that plaintext, or random and used once.

Source: the file format of Tahoe-LAFS 1.20, `docs/specs/share.md`.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ampgrid.crypto.hashing import KEY_SIZE, Buffer

_BLOCK = 16


def encrypt_at(key: bytes, offset: int, data: Buffer) -> bytes:
    """Encipher or decipher ``data``, which stands ``offset`` bytes into the file.

    Stateless: any part may be done in any order and by any thread.

    Args:
        key: 16 bytes.
        offset: position of the first byte in the file, bytes; any value from 0 to 2**63.
        data: the bytes there.

    Returns:
        As many bytes as ``data`` has.

    Raises:
        ValueError: the key has another length.
    """
    if len(key) != KEY_SIZE:
        raise ValueError("an AES-128 key has 16 bytes")
    counter, skip = divmod(offset, _BLOCK)
    context = Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(_BLOCK, "big"))).encryptor()
    if skip:
        context.update(bytes(skip))
    return context.update(data)


#: Counter mode is its own inverse.
decrypt_at = encrypt_at
