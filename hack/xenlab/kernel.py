"""Takes the bare ELF kernel out of a bzImage, as the build needs it. It knows kernels packed with xz (Debian's)."""

from __future__ import annotations

import lzma
import struct

SETUP_SECTORS = 0x1F1  # offsets in the header of Linux/x86's boot protocol, 2.08 and later
PAYLOAD = 0x248


def unpack_kernel(bzimage: bytes) -> bytes:
    """The ELF image in a bzImage."""
    start = (bzimage[SETUP_SECTORS] + 1) * 512
    offset, length = struct.unpack_from("<II", bzimage, PAYLOAD)
    payload = bzimage[start + offset : start + offset + length]
    elf = lzma.decompress(payload[:-4])  # the last four bytes are the unpacked size, not part of the xz stream
    if not elf.startswith(b"\x7fELF"):
        raise ValueError("no ELF image inside this kernel")
    return elf
