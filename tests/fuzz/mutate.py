"""Damage for files: a mutator takes the bytes of a sound file and a random source, and gives damaged bytes.

The same source gives the same damage. Each mutator knows the structure of one kind of file, so that much of what it
makes passes the first checks of a reader; `damage` draws one of those that fit the name of a file, one to three times.
"""

import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

Mutator = Callable[[bytes, Random], bytes]

TEXTS = (
    "", " ", "0", "-1", "7", "1.5", "1e999", "nan", "-inf", "NaN", "null", "true", "9" * 5000, "9" * 400, str(2**63),
    "a" * 300, "é" * 200, "a" * 100_000, "\ud800", "\udc80", "a\nb", "a\u2028b", "a\0b", "a\x1bb", "..", ".", "a/..",
    "../x.png", "/etc/passwd", "C:\\x.png", "a\\b.png", "=cmd|x", "%s{}", "<b>&amp;", "\u0663", "\u00b2", "b'abc'",
    "a,b;c", "[1, 2]", "{}", "'", '"', "#", "&a", "*a", "!!int 3", "0x10", "1_000", "2020-01-01",
)  # fmt: skip
"""What may stand where a text or a number belongs."""

NUMBERS: tuple[Any, ...] = (
    0, -0.0, 1, -1, 2, 0.5, 1e-320, 1e9, 1e300, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 255, 256,
    65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**300, 10**4000,
)  # fmt: skip

_RAW = ("9" * 5000, "-" + "9" * 5000, "0." + "3" * 5000, "1e99999", "[" * 900 + "]" * 900, "[" * 50_000 + "]" * 50_000,
        '{"a":' * 400 + "1" + "}" * 400, "[1," * 150 + "1" + "]" * 150)  # fmt: skip
"""JSON that Python's writer cannot make."""


# ---- bytes ----------------------------------------------------------------------------------------------------------


def raw_bytes(content: bytes, rng: Random) -> bytes:
    """Bits turned, bytes set, pieces cut out, doubled, exchanged or put in; the end cut off."""
    out = bytearray(content)
    if not out:
        return rng.randbytes(rng.randint(0, 20))
    a = rng.randrange(len(out))
    b = min(len(out), a + rng.choice((1, 2, 4, 16, 200)))
    kind = rng.randrange(8)
    if kind == 0:
        out[a] ^= 1 << rng.randrange(8)
    elif kind == 1:
        out[a:b] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))]) * (b - a)
    elif kind == 2:
        del out[a:b]
    elif kind == 3:
        out[a:a] = out[a:b] * rng.choice((1, 2, 50))
    elif kind == 4:
        out[a:b] = rng.randbytes(b - a)
    elif kind == 5:
        del out[a:]
    elif kind == 6:
        c = rng.randrange(len(out))
        out[c : c + b - a] = out[a:b]
    else:
        out[a:b] = rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\x1b[31m", struct.pack(">I", 2**31 - 1)))
    return bytes(out)


# ---- JSON -----------------------------------------------------------------------------------------------------------


def json_tree(content: bytes, rng: Random) -> bytes:
    """One value of a JSON document exchanged, removed, repeated, wrapped or renamed."""
    try:
        tree = {"": json.loads(content)}
    except (ValueError, RecursionError):
        return raw_bytes(content, rng)
    holder, key = _place(tree, rng)
    kind, raw = rng.randrange(10), ""
    if kind <= 3:
        holder[key] = _value(rng)
    elif kind == 4:
        raw = rng.choice(_RAW)
        holder[key] = "\u0001raw"
    elif kind == 5:
        del holder[key]
    elif kind == 6 and isinstance(holder, list):
        holder[key:key] = [holder[key]] * rng.choice((1, 2, 500))
    elif kind == 7 and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder.pop(key)
    elif kind == 8:
        other, its = _place(tree, rng)
        holder[key] = other[its] if holder is not tree and other is not tree else None
    else:
        for _ in range(rng.choice((1, 2, 40))):
            holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
    try:
        text = json.dumps(tree.get("", tree))
    except (ValueError, RecursionError):  # a part put into itself; numbers of thousands of digits
        return raw_bytes(content, rng)
    return text.replace('"\\u0001raw"', raw).encode()


def _place(tree: Any, rng: Random) -> tuple[Any, Any]:
    """A container in the tree and a key of it; each level and each of its members are equally likely."""
    holder, key = tree, ""
    while rng.random() < 0.85:
        inner = holder[key]
        keys = list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        if not keys:
            break
        holder, key = inner, rng.choice(keys)
    return holder, key


def _value(rng: Random) -> Any:
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice(TEXTS)
    if kind == 1:
        return rng.choice((None, True, False, [], {}, [[]], [None], {"": 0}, [[1, 2], [3, 4]], ["a"]))
    if kind == 2:
        return [rng.choice(NUMBERS[:-1]) for _ in range(rng.choice((1, 2, 4, 6, 7)))]
    return rng.choice(NUMBERS[:-1])


# ---- text -----------------------------------------------------------------------------------------------------------


def tokens(content: bytes, rng: Random) -> bytes:
    """A word or number of a text exchanged for another of it, or for one that does not belong there."""
    text = content.decode("utf-8", "surrogateescape")
    found = list(re.finditer(r"[^\s,:;=<>\"'\[\]{}]+", text))
    if not found:
        return raw_bytes(content, rng)
    at = rng.choice(found)
    new = rng.choice((rng.choice(TEXTS), str(rng.choice(NUMBERS[:-1])), rng.choice(found)[0]))
    return (text[: at.start()] + new + text[at.end() :]).encode("utf-8", rng.choice(("replace", "surrogatepass")))


def lines(content: bytes, rng: Random) -> bytes:
    """A line removed, repeated, exchanged, cut, indented or joined to the next."""
    rows = content.splitlines(keepends=True)
    if not rows:
        return raw_bytes(content, rng)
    a, b = rng.randrange(len(rows)), rng.randrange(len(rows))
    kind = rng.randrange(7)
    if kind == 0:
        del rows[a]
    elif kind == 1:
        rows[a:a] = [rows[b]] * rng.choice((1, 2, 300))
    elif kind == 2:
        rows[a], rows[b] = rows[b], rows[a]
    elif kind == 3:
        rows[a] = rows[a][: rng.randrange(len(rows[a]) + 1)]
    elif kind == 4:
        rows[a] = rng.choice((b" ", b"\t", b"  - ", b"- ", b"#", b"? ")) + rows[a]
    elif kind == 5:
        rows[a] = rows[a].rstrip() + b" "
    else:
        rows[a] = rows[a].rstrip() + rng.choice((b"\r", b"\x0c", b"\x85", "\u2028".encode(), b"\r\n")) + rows[b]
    return b"".join(rows)


_YAML = (
    "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{n}: &{n} [{', '.join(['*' + m] * 9)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)),
    "x: " + "[" * 3000 + "]" * 3000 + "\n",
    "x: &a [*a]\n",
    "".join(" " * k + "a:\n" for k in range(700)),
    "- " * 3000 + "a\n",
    "x: " + "{a: " * 300 + "1" + "}" * 300 + "\n",
    "? [a, b]\n: c\n",
    "? {a: b}\n: c\n",
    "<<: *a\n",
    "%YAML 9.9\n---\n",
    "--- a\n--- b\n",
    "kpt_shape: [1000000000, 3]\n",
    "kpt_shape: [" + "9" * 5000 + ", 3]\n",
    "kpt_shape: [\u0663, 3]\n",
    "kpt_shape: [0, 2]\n",
    "nc: 99999999999\n",
    "x: !!python/object/apply:os.system [a]\n",
    "x: |\n a\n" + " b\n" * 2000,
    "x: 'a\n",
)


def yaml_text(content: bytes, rng: Random) -> bytes:
    """A block that costs much, or that no annotation file has, at the beginning, the end or in place of a value."""
    block = rng.choice(_YAML).encode()
    if rng.random() < 0.3 and b"names:" in content:
        begin, _, _ = content.partition(b"names:")
        return block.replace(b"x:", b"names:", 1) + begin if b"x:" in block else begin + b"names: *i\n" + block
    return block + content if rng.random() < 0.5 else content.rstrip() + b"\n" + block


_TOML = (
    "x = " + "[" * 3000 + "]" * 3000 + "\n", "x = " + "9" * 5000 + "\n", "x = 1e99999\n", "x = nan\n",
    ".".join("a" * 2000) + " = 1\n", "x = " + "{a = " * 400 + "1" + "}" * 400 + "\n", "[[optimiser]]\n", "[a.b.c]\n",
    "x = 1979-05-27T07:32:00Z\n", 'x = """\n', "[augment]\n[augment]\n", "x = [1, 'a', []]\n", "[" + "a" * 9999 + "]\n",
    "size = " + "9" * 400 + "\n", "size = " + "7" * 4000 + "\n", "lr = -inf\n", "seed = -9223372036854775809\n",
)  # fmt: skip


def toml_text(content: bytes, rng: Random) -> bytes:
    """As `yaml_text`, for settings."""
    block = rng.choice(_TOML).encode()
    kind = rng.randrange(3)
    if kind == 0:
        return block + content
    if kind == 1:
        return content + block
    rows = content.splitlines(keepends=True)
    named = [k for k, row in enumerate(rows) if b" = " in row]
    if not named:
        return block + content
    at = rng.choice(named)
    value = block.partition(b" = ")[2] or block
    rows[at] = rows[at].partition(b" = ")[0] + b" = " + value
    return b"".join(rows)


# ---- XML ------------------------------------------------------------------------------------------------------------

_ZEROS = zlib.compress(bytes(10**7))

_DTD = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {n} "{f"&{m};" * 10}">' for m, n in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


def xml_text(content: bytes, rng: Random) -> bytes:
    """A value, name or element of an XML file exchanged, removed, repeated or wrapped."""
    text = content.decode("utf-8", "surrogateescape")
    kind = rng.randrange(9)
    if kind <= 3:
        found = list(re.finditer(r'(?<==")[^"]*(?=")|(?<=>)[^<>]+(?=<)', text))
        new = rng.choice((rng.choice(TEXTS), str(rng.choice(NUMBERS[:-1])), rng.choice(found)[0] if found else ""))
        new = new if rng.random() < 0.2 else re.sub(r"[<&\"\x00-\x08\x0b-\x1f\ud800-\udfff]", "", new)
    elif kind == 4:
        found = list(re.finditer(r"(?<= )[\w:]+(?==\")|(?<=<)\w+", text))
        new = rng.choice(("x", "points", "label", "é"))
    elif kind == 5:
        found, new = list(re.finditer(r' [\w:]+="[^"]*"', text)), ""
    else:
        found = list(re.finditer(r"<(\w+)\b[^>]*?/>|<(\w+)\b[^>]*>[^<]*</\2>", text))
        one = rng.choice(found)[0] if found else ""
        count = rng.choice((1, 3, 200, 5000))
        new = {6: "", 7: one * (1 + count % 1000)}.get(kind, "<a>" * count + one + "</a>" * count)
    if not found:
        return raw_bytes(content, rng)
    at = rng.choice(found)
    out = text[: at.start()] + new + text[at.end() :]
    if rng.random() < 0.03:
        out = _DTD + re.sub(r"^<\?xml[^>]*\?>", "", out).replace("</", "&i;</", 1)
    return out.encode("utf-8", rng.choice(("replace", "surrogatepass")))


# ---- images ---------------------------------------------------------------------------------------------------------


def png_chunks(content: bytes, rng: Random) -> bytes:
    """A chunk of a PNG with other content, removed, repeated or moved; its checksum is right again."""
    if not content.startswith(b"\x89PNG"):
        return raw_bytes(content, rng)
    chunks, at = [], 8
    while at + 8 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return raw_bytes(content, rng)
    k = rng.randrange(len(chunks))
    name, body = chunks[k]
    kind = rng.randrange(6)
    if kind <= 1 and chunks[0][0] == b"IHDR" and len(chunks[0][1]) == 13:
        head = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        field = rng.randrange(7)
        sides, others = (0, 1, 7, 40, 65535, 10**6, 2**31 - 1), (0, 1, 2, 3, 4, 6, 8, 16, 255)
        head[field] = rng.choice(others if field > 1 else sides)
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *head))
    elif kind == 2:
        del chunks[k]
    elif kind == 3:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[k])
    elif kind == 4 and name == b"IDAT":
        try:
            pixels = bytearray(zlib.decompress(body))
        except zlib.error:
            return raw_bytes(content, rng)
        pixels = pixels[: rng.randrange(len(pixels) + 1)] if rng.random() < 0.5 else pixels + bytes(10**5)
        chunks[k] = (name, zlib.compress(bytes(pixels)))
    else:
        extra = (b"zTXt", b"a\0\0" + _ZEROS), (b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0")
        chunks[k] = rng.choice(((name, raw_bytes(body, rng)), *extra))
    return content[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def label_values(content: bytes, rng: Random) -> bytes:
    """Pixels of a label image set to other values, in another depth, size or kind of file."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > 10**6:  # made so before
                return raw_bytes(content, rng)
            values = np.array(image if image.mode in ("L", "I", "I;16", "P", "F") else image.convert("L"))
    except Exception:
        return raw_bytes(content, rng)
    kind = rng.choice((np.uint8, np.uint16, np.int32, np.float32))
    out = np.nan_to_num(values).clip(-(2.0**31), 2.0**31 - 1).astype(np.int64).astype(kind)
    most = 2**31 - 1 if kind in (np.int32, np.float32) else np.iinfo(kind).max
    for _ in range(rng.choice((1, 5, 200))):
        y, x = rng.randrange(out.shape[0]), rng.randrange(out.shape[1])
        out[y : y + rng.choice((1, 9)), x] = rng.choice((0, 1, 2, 200, 255, most, most - 1, rng.randint(0, most)))
    if kind is np.float32 and rng.random() < 0.5:
        out[0, 0] = rng.choice((0.5, float("nan"), float("inf"), 1e30, -1.0))
    if kind is np.int32 and rng.random() < 0.3:
        out[0, 0] = -(2**31)
    if rng.random() < 0.3:
        out = out[: rng.randint(1, out.shape[0]), : rng.randint(1, out.shape[1])]
    stream = io.BytesIO()
    Image.fromarray(out).save(stream, "PNG" if kind in (np.uint8, np.uint16) else "TIFF")
    return stream.getvalue()


def header(content: bytes, rng: Random) -> bytes:
    """Numbers of the first bytes, where sizes, depths, counts and offsets stand, set to extremes."""
    out, width = bytearray(content), rng.choice((1, 2, 4))
    at = rng.randrange(max(1, min(len(out), 300) - width))
    value = rng.choice((0, 1, 2, 3, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1))
    out[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return bytes(out)


# ---- which for which ------------------------------------------------------------------------------------------------

_PNG: tuple[Mutator, ...] = (png_chunks, label_values, raw_bytes)
_TEXT: tuple[Mutator, ...] = (tokens, tokens, lines, raw_bytes)

MUTATORS: dict[str, tuple[Mutator, ...]] = {
    ".json": (json_tree, json_tree, json_tree, json_tree, tokens, raw_bytes),
    ".yaml": (yaml_text, *_TEXT),
    ".toml": (toml_text, *_TEXT),
    ".xml": (xml_text, xml_text, xml_text, tokens, raw_bytes),
    ".txt": _TEXT,
    ".csv": _TEXT,
    ".png": _PNG,
}
"""By the suffix of a file; other files are images."""


def damage(name: str, content: bytes, rng: Random) -> bytes:
    """The content of a file of this name, damaged once to three times."""
    fitting = MUTATORS.get(Path(name).suffix.lower(), (raw_bytes, raw_bytes, header))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(fitting)(content, rng)
    return content
