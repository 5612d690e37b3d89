"""Pictures of all formats, damaged, and small files of large ones."""

import io
import struct
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.campaign.cases import Case, Command, Rng
from benchmarks.campaign.damage import damaged, one_of, special

FORMATS: Sequence[tuple[str, str, dict[str, Any]]] = (
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("PNG", "P", {"transparency": 0}), ("PNG", "L", {"transparency": 0}), ("PNG", "RGB", {"transparency": (1, 2, 3)}),
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")), ("JPEG", "RGB", {"progressive": True}),
    ("GIF", "P", {}), ("GIF", "RGB", {"save_all": True}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}),
    ("BMP", "RGB", {}), ("BMP", "1", {}), ("TGA", "RGBA", {"compression": "tga_rle"}), ("PPM", "RGB", {}),
    *(("TIFF", mode, {}) for mode in ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F", "I", "LAB")),
    *(("TIFF", "RGB", {"compression": one}) for one in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
    ("TIFF", "1", {"compression": "group4"}), ("ICO", "RGBA", {}), ("JPEG2000", "RGB", {}), ("PCX", "L", {}),
    ("SGI", "RGB", {}), ("IM", "RGB", {}), ("XBM", "1", {}), ("MSP", "1", {}), ("DDS", "RGBA", {}), ("AVIF", "RGB", {}),
    ("EPS", "RGB", {}), ("PDF", "RGB", {}), ("ICNS", "RGBA", {}), ("SPIDER", "F", {}),
)  # fmt: skip
ENDINGS = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2", "SPIDER": "spi"}


@cache
def pictures() -> list[tuple[str, bytes]]:
    """A small picture of each format and mode that this Pillow can write: its ending and content."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
    made = []
    for kind, mode, options in FORMATS:
        image = Image.fromarray(noise)
        try:
            image = _of_mode(image, mode)
            if options.get("save_all"):
                options = options | {"append_images": [image.rotate(90), image]}
            exif = Image.Exif()
            exif[0x112] = 6
            buffer = io.BytesIO()
            image.save(buffer, kind, **options, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
        except (OSError, KeyError, ValueError):  # not in this Pillow
            continue
        made.append((ENDINGS.get(kind, kind.lower()), buffer.getvalue()))
    return made


def _of_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.frombytes("LAB", image.size, image.tobytes())
    return image.convert("L").convert(mode) if mode in ("LA", "F", "I") else image.convert(mode)


def damaged_picture(rng: Rng, content: bytes) -> bytes:
    """Damaged; of a PNG, half of the time with checksums that are right, so that its chunks are read."""
    changed = damaged(rng, content)
    if not content.startswith(b"\x89PNG") or rng.random() < 0.5:
        return changed
    out, at = changed[:8], 8
    while at + 12 <= len(changed):
        (length,) = struct.unpack(">I", changed[at : at + 4])
        body = changed[at + 4 : at + 8 + min(length, len(changed))]
        out += changed[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return out


def png(width: int, height: int, depth: int, kind: int, rows: int | None = None) -> bytes:
    """A PNG that says a size, and holds so many rows of zeros."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    row = bytes(1 + (width * channels * depth + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height if rows is None else rows)) + packer.flush()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(6)) if kind == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def bomb(rng: Rng) -> tuple[str, bytes]:
    """A small file of a picture that is large."""
    side = int(one_of(rng, (3_000, 9_000, 13_300, 20_000, 65_535)))
    match int(rng.integers(4)):
        case 0:
            depth, kind = one_of(rng, ((8, 2), (8, 6), (16, 0), (16, 2), (16, 4), (16, 6), (1, 0), (8, 3)))
            return "png", png(side, side, depth, kind, rows=one_of(rng, (None, 1, side // 10)) if side < 9_001 else 1)
        case 1:  # sizes in other formats' heads
            ending, content = one_of(rng, [one for one in pictures() if one[0] in ("gif", "bmp", "ppm", "tga", "tif")])
            small = {"gif": ("<HH", 6), "bmp": ("<II", 18), "tga": ("<HH", 12)}.get(ending)
            if small:
                form, at = small
                large = struct.pack(form, min(side, 65_535), min(side, 65_535))
                content = content[:at] + large + content[at + len(large) :]
            elif ending == "ppm":
                content = content.replace(b"20 16", f"{side} {side}".encode(), 1)
            else:
                content = content.replace(struct.pack("<HHII", 256, 3, 1, 20), struct.pack("<HHII", 256, 4, 1, side))
            return ending, content
        case 2:  # all one color
            image = Image.new(one_of(rng, ("L", "1", "P")), (min(side, 9_000), min(side, 9_000)))
            buffer = io.BytesIO()
            kind = one_of(rng, ("PNG", "GIF", "TIFF"))
            image.save(buffer, kind, **({"compression": "tiff_deflate"} if kind == "TIFF" else {}))
            return kind.lower(), buffer.getvalue()
        case _:  # a text of many megabytes
            content = png(16, 16, 8, 2)
            body = b"iTXt" + b"k\0\1\0\0\0" + zlib.compress(bytes(int(rng.integers(1, 300)) << 20), 9)
            text = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
            return "png", content[:33] + text + content[33:]


def images(rng: Rng, folder: Path, _: Path) -> Case:
    """Two class folders of pictures, of which some are damaged."""
    data, what = folder / "data", []
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        for number in range(3):
            (data / name / f"{number}.png").write_bytes(png(8 + number, 9, 8, 2))
    count = int(rng.integers(1, 9))
    for number in range(count):
        stem = data / one_of(rng, ("a", "b")) / f"x{number}"
        ending, content = one_of(rng, pictures())
        chance = rng.random()
        if chance < 0.06:
            ending, content = bomb(rng)
            what.append(f"bomb.{ending}")
        elif chance < 0.1:
            what.append(special(rng, stem.with_suffix(f".{ending}")))
            continue
        else:
            content = damaged_picture(rng, content)
            what.append(ending)
        if rng.random() < 0.1:
            ending = one_of(rng, ("png", "jpg", "webp", "tif", "gif", "txt", "", "PNG"))
        stem.with_suffix(f".{ending}" if ending else "").write_bytes(content)
    if rng.random() < 0.3:
        commands = [Command(["data", "data", "--out", "sheet.png"])]
    else:
        channels = one_of(rng, ("1", "3", "4"))
        skip = ["--skip-bad-images"] if rng.random() < 0.8 else []
        commands = [Command(["prepare", "data", "out", "--size", "8", "--channels", channels, *skip])]
    return Case(commands, ", ".join(what), count)
