"""Every kind of image file a person may bring, good and bad."""

import io
import struct
import zlib

import numpy as np
import pytest
from helpers import encode, noise_poster
from PIL import Image

from marquee.errors import InvalidImage
from marquee.images import Preprocessing, decode, measure, preprocess

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
    assert image.mode == "RGB"
    assert np.allclose(np.asarray(image)[2, 2], colour, atol=6)


def test_transparency_is_laid_on_white():
    assert decode(encode(_transparent(), "PNG")).getpixel((2, 28)) == (255, 255, 255)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encode(_flat(), "JPEG", exif=exif)).size == (30, 20)


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
    pixels = np.asarray(decode(encode(image, format, exif=exif, **options)))
    assert np.array_equal(pixels, np.stack([ORIENTED[orientation]] * 3, axis=-1))


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


def test_attributes_of_plain_colours():
    red = measure(_flat(colour=(255, 0, 0)))
    assert (red.saturation, red.contrast) == (1.0, 0.0)
    assert min(red.hue, 1 - red.hue) < 0.01
    assert red.brightness == pytest.approx(0.299, abs=0.01)
    assert measure(_flat(colour=(0, 0, 255))).hue == pytest.approx(2 / 3, abs=0.01)


def test_decoding_does_not_depend_on_the_file_object():
    data = _whole()
    assert np.array_equal(np.asarray(decode(data)), np.asarray(Image.open(io.BytesIO(data))))
