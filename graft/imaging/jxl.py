"""The size of a JPEG XL picture, read before its decoder, which takes no limit, is given the file.

The size header of ISO/IEC 18181-1, section 5.1.1: at the start of the codestream, least significant bit first.
"""

_SIGNATURE = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL "
_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def size_of(content: bytes) -> tuple[int, int]:
    """Return width and height as stored, not upright.

    Raises:
        ValueError: if there is no codestream.
    """
    start = _codestream(content)
    if start[:2] != _SIGNATURE:
        raise ValueError("no codestream")
    bits = _Bits(int.from_bytes(start[2:32], "little"))
    small = bits.take(1)
    height = _small(bits) if small else _large(bits)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio]
        return height * across // down, height
    return (_small(bits) if small else _large(bits)), height


class _Bits:
    def __init__(self, value: int) -> None:
        self._value = value

    def take(self, number: int) -> int:
        found = self._value & ((1 << number) - 1)
        self._value >>= number
        return found


def _small(bits: _Bits) -> int:
    return 8 * (bits.take(5) + 1)


def _large(bits: _Bits) -> int:
    return bits.take(_BITS[bits.take(2)]) + 1


def _codestream(content: bytes) -> bytes:
    """Return the first bytes of the codestream, which a container holds in a box `jxlc`, or in several `jxlp`."""
    if not content.startswith(_CONTAINER):
        return content[:32]
    at = 0
    while at + 8 <= len(content):
        length, kind, header = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8], 8
        if length == 1:
            length, header = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            begin = at + header + (4 if kind == b"jxlp" else 0)
            return content[begin : begin + 32]
        if length < header:  # 0: up to the end of the file
            break
        at += length
    return b""
