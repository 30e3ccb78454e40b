"""Small damage to the bytes of a file, each described by plain numbers, so that a failure can be repeated."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

EXTREMES = (0, 1, -1, 2, 7, 127, 128, 255, 256, 65_535, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1)
NUMBERS = (
    *("0", "1", "-1", "2", "255", "256", "65536", "4294967295", "1000000000000", "99999999999999999999"),
    *("1e309", "-0.5", "NaN", "null", "[]", '"x"', "true", "1" * 5000),
)
TOKENS = (
    *(b"\0", b"\n", b"\r", b",", b'"', b"'", b"[", b"]", b"{", b"}", b"[" * 3000, b"{" * 3000, b"=", b"\\"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06", b"nan", b"inf", b"O8"),
    *(b"../../etc/passwd", b"__import__('os')", b"a.b.c = 1\n", b"\xed\xa0\x80", b"1" * 5000, b'{"type":"'),
)
KINDS = ("truncate", "flip", "byte", "delete", "repeat", "splice", "extreme", "token", "number", "random")


@dataclass(frozen=True)
class Edit:
    """One change. at: where, from 0 (start) to 1 (end); value: whatever else the kind wants to know."""

    kind: str
    at: float
    value: int

    @classmethod
    def drawn(cls, source: random.Random) -> Edit:
        # Headers are where lengths and types are: half of all changes are made there.
        near = source.random() < 0.5
        return cls(source.choice(KINDS), source.random() ** (6 if near else 1), source.getrandbits(32))

    def apply(self, content: bytes, other: bytes) -> bytes:
        """The content with this change; `other` is what is spliced in."""
        i = min(int(self.at * (len(content) + 1)), len(content))
        head, tail, value = content[:i], content[i:], self.value
        length = 1 + value % 64
        match self.kind:
            case "truncate":
                return head
            case "flip":
                return head + bytes([tail[0] ^ 1 << value % 8]) + tail[1:] if tail else head
            case "byte":
                return head + bytes([value % 256]) + tail[1:]
            case "delete":
                return head + tail[length:]
            case "repeat":
                return head + tail[:length] * (1 + value % 300) + tail[length:]
            case "splice":
                return head + other[value % (len(other) + 1) :]
            case "extreme":
                size = (1, 2, 4, 8)[value % 4]
                number = EXTREMES[value // 8 % len(EXTREMES)] % (1 << 8 * size)
                return head + number.to_bytes(size, ("little", "big")[value // 4 % 2]) + tail[size:]
            case "token":
                return head + TOKENS[value % len(TOKENS)] + tail
            case "number":
                return head + re.sub(rb"\d+", NUMBERS[value % len(NUMBERS)].encode(), tail, count=1)
            case _:
                return head + random.Random(value).randbytes(length) + tail[length * (value // 64 % 2) :]


def edited(content: bytes, edits: list[Edit], other: bytes) -> bytes:
    """The content with all the changes, one after another."""
    for edit in edits:
        content = edit.apply(content, other)
    return content
