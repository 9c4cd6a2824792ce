"""Every kind of image file a person may bring, good and bad."""

import io
import math
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from helpers import encode, noise_poster
from PIL import Image, ImageOps

from marquee.errors import InvalidImage
from marquee.images import (
    Preprocessing,
    decode,
    jpeg_pixels,
    measure,
    preprocess,
    resize,
)

RED = (200, 30, 30)


def _png(width, height, bit_depth, colour_type, raw):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def _grey16(value):
    line = b"\0" + struct.pack(">H", value) * 20
    return _png(20, 30, 16, 0, line * 30)


def _rgb16(colour):
    line = b"\0" + struct.pack(">HHH", *(part * 257 for part in colour)) * 20
    return _png(20, 30, 16, 2, line * 30)


def _flat(mode="RGB", colour=RED):
    return Image.new(mode, (20, 30), colour)


def _transparent():
    image = _flat("RGBA", (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 20, 15))
    return image


CONVERTED = {
    "jpeg": (encode(_flat()), RED),
    "png": (encode(_flat(), "PNG"), RED),
    "webp": (encode(_flat(), "WEBP", lossless=True), RED),
    "grey jpeg": (encode(_flat("L", 128)), (128, 128, 128)),
    "cmyk jpeg": (encode(_flat("CMYK", (0, 255, 255, 50))), (205, 0, 0)),
    "palette png": (encode(_flat().quantize(4), "PNG"), RED),
    "16-bit grey png": (_grey16(0x8000), (128, 128, 128)),
    "16-bit rgb png": (_rgb16(RED), RED),
    "1-bit png": (encode(_flat("1", 1), "PNG"), (255, 255, 255)),
    "transparent png": (encode(_transparent(), "PNG"), RED),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_accepted_images_become_rgb(name):
    data, colour = CONVERTED[name]
    image = decode(data)
    assert (image.shape, image.dtype) == ((30, 20, 3), np.uint8)
    assert np.allclose(image[2, 2], colour, atol=6)


def test_transparency_is_laid_on_white():
    assert decode(encode(_transparent(), "PNG"))[28, 2].tolist() == [255, 255, 255]


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encode(_flat(), "JPEG", exif=exif)).shape == (20, 30, 3)


UPRIGHT = np.arange(20 * 30, dtype=np.uint8).reshape(30, 20)
ORIENTED = {
    1: UPRIGHT,
    2: np.fliplr(UPRIGHT),
    3: np.rot90(UPRIGHT, 2),
    4: np.flipud(UPRIGHT),
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, -1),
    7: np.rot90(UPRIGHT, 2).T,
    8: np.rot90(UPRIGHT),
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize(
    ("format", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("WEBP", "RGB")]
)
def test_every_orientation_is_applied_whatever_the_format(format, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(UPRIGHT).convert(mode)
    options = {"lossless": True} if format == "WEBP" else {}
    pixels = decode(encode(image, format, exif=exif, **options))
    assert np.array_equal(pixels, np.stack([ORIENTED[orientation]] * 3, axis=-1))


def _photo(**options):
    """A JPEG with as much detail as photographs have, of sides that are no whole blocks."""
    image = np.asarray(noise_poster(1, 93, 131)).astype(int)
    grain = np.random.default_rng(0).integers(-20, 20, image.shape)
    detailed = Image.fromarray((image + grain).clip(0, 255).astype(np.uint8))
    return encode(detailed.convert(options.pop("mode", "RGB")), **options)


def _oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _photo(exif=exif)


def _flipped_bit(data):
    """Damage that shows in the picture only: no code is invalid, no byte is missing."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]


def _jpeg_of_size(width, height):
    """A JPEG that says it is larger than it is."""
    data = _photo()
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]


JPEGS = {
    "baseline": _photo(),
    "progressive": _photo(progressive=True),
    "full colour": _photo(subsampling="4:4:4"),
    "half colour": _photo(subsampling="4:2:2", progressive=True),
    "low quality": _photo(quality=10),
    "stored as RGB": _photo(keep_rgb=True),
    "grey": _photo(mode="L"),
    "cmyk": _photo(mode="CMYK"),
    "restart markers": _photo(restart_marker_blocks=3),
    "upright": _oriented(1),
    "on its side": _oriented(6),
    "oriented by nonsense": _oriented(200),
    "bytes after its end": _photo() + b"<html>" * 50,
    "a flipped bit": _flipped_bit(_photo()),
    "a flipped bit, progressive": _flipped_bit(_photo(progressive=True)),
    "less than it says": _jpeg_of_size(93, 600),
    "zeros amid its codes": _photo()[:3000] + bytes(60) + _photo()[3060:],
}


@pytest.mark.parametrize("name", JPEGS)
def test_jpegs_are_decoded_to_the_pixels_that_pillow_gives(name):
    data = JPEGS[name]
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(decode(data), expected)


def _several(mode="RGB"):
    """More rows than are converted at a time, and each another colour."""
    rows = np.random.default_rng(1).integers(0, 256, (600, 20, 4), dtype=np.uint8)
    return Image.fromarray(rows, "RGBA").convert(mode)


def _animated():
    return encode(_photo_image(2), "WEBP", save_all=True, append_images=[_photo_image(3)])


def _photo_image(number):
    return noise_poster(number, 93, 131)


WEBPS = {
    "lossy": encode(_photo_image(1), "WEBP"),
    "lossless": encode(_several(), "WEBP", lossless=True),
    "low quality": encode(_photo_image(1), "WEBP", quality=5),
    "grey": encode(_photo_image(1).convert("L"), "WEBP"),
    "animated": _animated(),
    "bytes after its end": encode(_photo_image(1), "WEBP") + b"<html>" * 50,
    "a flipped bit": _flipped_bit(encode(_photo_image(1), "WEBP")),
}


@pytest.mark.parametrize("name", WEBPS)
def test_webps_are_decoded_to_the_pixels_that_pillow_gives(name):
    expected = Image.open(io.BytesIO(WEBPS[name])).convert("RGB")
    assert np.array_equal(decode(WEBPS[name]), expected)


STRIPS = {
    "transparent": (encode(_several("RGBA"), "PNG"), "RGBA"),
    "transparent webp": (encode(_several("RGBA"), "WEBP", lossless=True, exact=True), "RGBA"),
    "grey and transparent": (encode(_several("LA"), "PNG"), "RGBA"),
    "palette": (encode(_several().quantize(200), "PNG"), "RGB"),
    "palette, one colour transparent": (
        encode(_several().quantize(200), "PNG", transparency=7),
        "RGBA",
    ),
    "one colour transparent": (encode(_several(), "PNG", transparency=(1, 2, 3)), "RGBA"),
    "cmyk": (encode(_several("CMYK")), "RGB"),
}


@pytest.mark.parametrize("name", STRIPS)
def test_strips_are_converted_as_the_whole_would_be(name):
    data, mode = STRIPS[name]
    expected = Image.open(io.BytesIO(data)).convert(mode)
    if mode == "RGBA":
        white = Image.new("RGBA", expected.size, "white")
        expected = Image.alpha_composite(white, expected).convert("RGB")
    assert np.array_equal(decode(data), expected)


LARGE = {
    "transparent png": (Image.new("RGBA", (4000, 6000), (9, 9, 9, 9)), "PNG"),
    "16-bit png": (Image.new("I;16", (4000, 6000), 9), "PNG"),
    "webp": (Image.new("RGB", (4000, 6000)), "WEBP"),
    "jpeg": (Image.new("RGB", (4000, 6000)), "JPEG"),
}
PEAK = r"""
import pathlib, re, sys
from marquee.images import decode
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
before = peak()
height, width, _ = decode(pathlib.Path(sys.argv[1]).read_bytes()).shape
print((peak() - before) * 1024 / (height * width))
"""


@pytest.mark.parametrize("name", LARGE)
def test_decoding_takes_few_bytes_a_pixel(name, tmp_path):
    """Three are what is given back; a server holds this much for each poster it works on."""
    image, kind = LARGE[name]
    (tmp_path / "image").write_bytes(encode(image, kind))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "image")]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 3 < float(found.stdout) < 8


def _bomb():
    return _png(20_000, 20_000, 8, 0, bytes(1000))


def _garbled(data):
    return data[:200] + bytes(2000) + data[2200:]


def _whole():
    return encode(noise_poster(1, 300, 450))


REFUSED = {
    "empty": (b"", "an empty file"),
    "html": (b"<!DOCTYPE html><html><body>not found</body></html>", "an HTML page"),
    "gif": (encode(_flat(), "GIF"), "a GIF image"),
    "text": (b"hello there, this is no image", "unknown data"),
    "bomb": (_bomb(), "too large"),
    "above our limit": (_png(9_000, 9_000, 8, 0, bytes(1000)), "too large"),
    "jpeg above our limit": (_jpeg_of_size(9_000, 9_000), "too large"),
    "jpeg without its last byte": (_photo()[:-1], "damaged"),
    "pixel": (encode(Image.new("RGB", (1, 1)), "PNG"), "1 x 1 px"),
    "truncated jpeg": (_whole()[: len(_whole()) // 2], "damaged"),
    "garbled png": (_garbled(encode(noise_poster(2), "PNG")), "damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_images_are_refused_with_a_reason(name):
    data, reason = REFUSED[name]
    with pytest.raises(InvalidImage, match=reason) as caught:
        decode(data)
    assert caught.value.remedy


def test_the_whole_poster_is_stretched_to_the_input():
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 0, 255), (20, 0, 40, 20))
    array = preprocess(encode(image, "PNG"), Preprocessing(height=48, width=32))
    assert array.shape == (48, 32, 3)
    assert array.dtype == np.uint8
    assert array[20, 2].tolist() == [255, 0, 0]
    assert array[20, 29].tolist() == [0, 0, 255]


def _pattern(width, height, chequered):
    x, y = np.arange(width), np.arange(height)[:, None]
    on = (x + y if chequered else x + 0 * y) % 2
    return np.repeat((255 * on).astype(np.uint8)[..., None], 3, axis=2)


FINE_PATTERNS = {
    # width, height, chequered, and what may be left of the contrast: an odd number of stripes is
    # never grey on average, nor are details that are hardly smaller than the new pixels.
    "half as wide": (128, 96, False, 0.01),
    "half as large": (128, 192, True, 0.01),
    "a third, stripes": (192, 288, False, 1 / 3),
    "a third, chequered": (192, 288, True, 1 / 9),
    "a fifth, chequered": (320, 480, True, 1 / 25),
    "3.3 times smaller": (211, 317, True, 0.1),
    "1.9 times smaller": (122, 182, True, 0.1),
    "1.5 times smaller": (96, 144, True, 0.1),
    "1.14 times smaller": (73, 109, True, 0.45),
    "narrower and higher": (192, 48, False, 1 / 3),
}


@pytest.mark.parametrize("name", FINE_PATTERNS)
def test_fine_patterns_turn_grey(name):
    width, height, chequered, left = FINE_PATTERNS[name]
    resized = resize(_pattern(width, height, chequered), Preprocessing(height=96, width=64))
    contrast = np.abs(resized - 127.5).max() / 127.5
    assert contrast < left + 0.01
    assert resized.mean() == pytest.approx(127.5, abs=1)


SIZES = {
    "as it is": (64, 96),
    "a little smaller": (70, 101),
    "much smaller": (500, 750),
    "larger": (23, 40),
    "narrower and higher": (90, 50),
    "wider and lower": (50, 200),
    "one side stays": (64, 131),
    "a strip": (16, 5_000),
}


@pytest.mark.parametrize("name", SIZES)
def test_resizing_moves_nothing(name):
    size = Preprocessing(height=96, width=64)
    image = np.asarray(noise_poster(5, *SIZES[name]))
    resized = resize(image, size)
    assert resized.shape == (96, 64, 3)
    turned = resize(np.ascontiguousarray(image[::-1, ::-1]), size)[::-1, ::-1]
    assert np.abs(resized.astype(int) - turned).max() <= 2
    expected = np.asarray(Image.fromarray(image).resize((64, 96), Image.Resampling.BILINEAR))
    assert np.abs(resized.astype(int) - expected).mean() < 3


def test_an_image_of_the_right_size_stays_as_it_is():
    image = np.asarray(noise_poster(5, 64, 96))
    resized = resize(image, Preprocessing(height=96, width=64))
    assert np.array_equal(resized, image)
    assert not np.shares_memory(resized, image)


def test_attributes_of_plain_colours():
    red = measure(np.asarray(_flat(colour=(255, 0, 0))))
    assert (red.saturation, red.contrast) == (1.0, 0.0)
    assert min(red.hue, 1 - red.hue) < 0.01
    assert red.brightness == pytest.approx(0.299, abs=0.01)
    assert measure(np.asarray(_flat(colour=(0, 0, 255)))).hue == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize("size", [(30, 50), (64, 96), (127, 191), (185, 278), (500, 750)])
def test_attributes_are_those_of_the_whole_poster(size):
    poster = noise_poster(3, *size)
    thumbnail = poster.resize((64, 96), Image.Resampling.BOX)
    luma = np.asarray(thumbnail.convert("L"), float) / 255
    hsv = np.asarray(thumbnail.convert("HSV"), float) / 255
    hues = (hsv[..., 1] * np.exp(2j * np.pi * hsv[..., 0])).sum()
    found = measure(np.asarray(poster))
    assert found.brightness == pytest.approx(luma.mean(), abs=0.01)
    assert found.contrast == pytest.approx(luma.std(), abs=0.01)
    assert found.saturation == pytest.approx(hsv[..., 1].mean(), abs=0.01)
    assert found.hue == pytest.approx(np.angle(hues) / 2 / np.pi % 1, abs=0.01)


def _scans(times):
    """Give a progressive JPEG file whose last scan comes so many times."""
    data = encode(noise_poster(1, 500, 750), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * times + data[-2:]


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (encode(noise_poster(1, 500, 750)), 375_000),
        (_scans(0), 375_000),
        (_scans(100), math.inf),
        (encode(noise_poster(1), "PNG"), math.inf),
        (b"\xff\xd8 no more", math.inf),
        (b"", math.inf),
    ],
    ids=["poster", "progressive", "many scans", "PNG", "damaged", "nothing"],
)
def test_pixels_are_told_of_jpegs_that_take_no_longer_than_these(data, pixels):
    assert jpeg_pixels(data) == pixels
