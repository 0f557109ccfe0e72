"""Bytes with something wrong: bits flipped, parts cut, doubled, moved or overwritten by numbers."""

from __future__ import annotations

from random import Random

_NUMBERS = (0, 1, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1)


def damaged(content: bytes, random: Random) -> bytes:
    """``content`` with one to four faults."""
    result = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        random.choice(_FAULTS)(result, random)
    return bytes(result)


def _place(content: bytearray, random: Random) -> int:
    """Half of the places are near the beginning, where formats say what follows."""
    return random.randrange(min(len(content), random.choice([64, 1 << 30])) or 1)


def _span(content: bytearray, random: Random) -> slice:
    start = _place(content, random)
    return slice(start, start + random.choice([1, 2, 8, 100, 5000]))


def _flip(content: bytearray, random: Random) -> None:
    for _ in range(random.choice([1, 1, 20])):
        if content:
            content[_place(content, random) % len(content)] ^= 1 << random.randrange(8)


def _truncate(content: bytearray, random: Random) -> None:
    del content[_place(content, random) :]


def _cut(content: bytearray, random: Random) -> None:
    del content[_span(content, random)]


def _double(content: bytearray, random: Random) -> None:
    span = _span(content, random)
    content[span.start : span.start] = content[span] * random.choice([1, 1, 50])


def _splice(content: bytearray, random: Random) -> None:
    content[_span(content, random)] = content[_span(content, random)]


def _number(content: bytearray, random: Random) -> None:
    """A length, a count or an offset of another size, in one of the ways of writing it."""
    width, start = random.choice([1, 2, 4, 8]), _place(content, random)
    number = random.choice(_NUMBERS) & ((1 << 8 * width) - 1)
    written = number.to_bytes(width, "little")
    content[start : start + width] = random.choice([written, written[::-1]])


def _noise(content: bytearray, random: Random) -> None:
    content[_span(content, random)] = random.randbytes(random.choice([0, 1, 8, 300]))


def _append(content: bytearray, random: Random) -> None:
    content += random.choice([b"\0" * 9, b"\n", bytes(content[:100]), random.randbytes(50)])


_FAULTS = (_flip, _flip, _truncate, _cut, _double, _splice, _number, _number, _noise, _append)
