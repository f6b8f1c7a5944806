"""Makes wrong input out of right one: bits, numbers, lengths, repeated and exchanged parts; of JSON also its values."""

from __future__ import annotations

import json
import random
from typing import Any

NUMBERS = (0, 1, -1, 127, 128, 255, 256, 65535, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
TEXTS = (
    "",
    "/",
    "..",
    "../../etc/passwd",
    "a" * 300,
    "sha256:",
    "sha256:" + "0" * 64,
    "\u0000",
    "\ud7ff",
    "é",
    "%s",
    "-",
    "@",
    ":",
)


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """Return bytes that differ from `raw` in one to four places."""
    content = bytearray(raw)
    for _ in range(chance.randint(1, 4)):
        chance.choice((_flip, _number, _cut, _repeat, _exchange, _insert))(content, chance)
    return bytes(content)


def _place(content: bytearray, chance: random.Random) -> int:
    """Return a place; headers and footers, the first and last bytes, as often as all the rest."""
    if not content:
        return 0
    kind = chance.random()
    if kind < 0.25:
        return min(chance.randrange(128), len(content) - 1)
    if kind < 0.5:
        return max(len(content) - 1 - chance.randrange(256), 0)
    return chance.randrange(len(content))


def _flip(content: bytearray, chance: random.Random) -> None:
    if content:
        content[_place(content, chance)] ^= 1 << chance.randrange(8)


def _number(content: bytearray, chance: random.Random) -> None:
    size = chance.choice((1, 2, 4, 8))
    at = _place(content, chance)
    content[at : at + size] = (chance.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")


def _cut(content: bytearray, chance: random.Random) -> None:
    at = _place(content, chance)
    del content[at : at + chance.choice((1, 3, 512, 1 << 30))]


def _repeat(content: bytearray, chance: random.Random) -> None:
    at, size = _place(content, chance), chance.choice((1, 16, 512))
    content[at:at] = content[at : at + size] * chance.choice((1, 2, 50))


def _exchange(content: bytearray, chance: random.Random) -> None:
    one, other, size = _place(content, chance), _place(content, chance), chance.choice((1, 8, 64))
    part = content[one : one + size]
    content[one : one + size] = content[other : other + size]
    content[other : other + size] = part


def _insert(content: bytearray, chance: random.Random) -> None:
    at = _place(content, chance)
    content[at:at] = chance.choice((b"[", b"{", b'"', b"\\u0000", b"\xff", b"[" * 5000, b"\n", b"&a *a ", chance.randbytes(16)))


def mutated_json(raw: bytes, chance: random.Random) -> bytes:
    """Return JSON that is as well formed as `raw`, with one to three values exchanged for others, or gone, or twice."""
    document = json.loads(raw)
    for _ in range(chance.randint(1, 3)):
        _change(document, chance)
    return json.dumps(document).encode()


def _change(document: Any, chance: random.Random) -> None:
    holders: list[Any] = [document]
    for holder in holders:
        values = holder.values() if isinstance(holder, dict) else holder
        holders += [value for value in values if isinstance(value, dict | list)]
    holder = chance.choice([one for one in holders if one] or [document])
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not keys:
        return
    key = chance.choice(keys)
    kind = chance.random()
    if kind < 0.2:
        del holder[key]
    elif kind < 0.3 and isinstance(holder, dict):
        holder[chance.choice(TEXTS)] = holder.pop(key)
    elif kind < 0.4:
        other = chance.choice(holders)
        if not isinstance(other, list | dict) or other is not holder:
            holder[key] = json.loads(json.dumps(other))
    else:
        holder[key] = chance.choice((*NUMBERS, *TEXTS, None, True, 1.5, [], {}, [holder[key]] * 2))


def mutated_text(raw: bytes, chance: random.Random) -> bytes:
    """Return text with one to three lines, words or signs exchanged, gone, repeated, or replaced by hostile ones."""
    content = raw
    for _ in range(chance.randint(1, 3)):
        unit = chance.choice((b"\n", b" ", b":", b'"', b",", b"="))
        parts = content.split(unit)
        at = chance.randrange(len(parts))
        kind = chance.randrange(5)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts[at:at] = [parts[chance.randrange(len(parts))]] * chance.choice((1, 2, 40))
        elif kind == 2:
            parts[at] = chance.choice(WORDS)
        elif kind == 3:
            parts[at] += chance.choice(WORDS)
        else:
            other = chance.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        content = unit.join(parts)
    return content


WORDS = (
    *(text.encode("utf-8", "surrogatepass") for text in TEXTS),
    *(str(number).encode() for number in NUMBERS),
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b"[[]]",
        b"~",
        b"!!int ''",
        b"!!bool zz",
        b"!!binary x",
        b"!!timestamp 9",
        b"!!python/name:os",
    ),
    *(b"&a [*a]", b"<<: *b", b"1:59:59", b"0x" + b"f" * 500, b"9" * 5000, b"1e999", b".nan", b"2026-02-30", b"\t" * 300, b"\r"),
    *(
        b"\\ud800",
        b"\x1b[2J",
        b"\xff",
        b"\xc2",
        b"\xe2\x80\xae",
        b"\xef\xbb\xbf",
        b"*" * 200,
        b"**/",
        b"(" * 200,
        b"a+" * 50,
        b"|",
        b">",
    ),
)
