"""Posters as pixels: the one place where image bytes are decoded, resized and measured.

Training, evaluation, `marquee predict` and the server all come through here, so that a model
sees in production what it saw in training. Nothing here needs torch.
"""

import io
import math
import threading
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from simplejpeg import decode_jpeg, decode_jpeg_header

from marquee.errors import InvalidImage, UsageError

MAX_PIXELS = 50_000_000
"""Larger images are refused before they are decoded (TMDB's largest posters have 24 million)."""

MIN_SIDE = 16
"""Posters with a shorter side (px) are refused: a tracking pixel is no poster."""

REVISION = 2
"""Raised when the same bytes and preprocessing give other pixels: cached features depend on it."""

FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP")

# Pillow warns of large images; ours are refused by our own, lower bound.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Training, ingestion and the server decode on every core already; threads below would only wait.
cv2.setNumThreads(1)

_STRIP = 256
"""Rows of an image that are converted at a time."""

_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION

_PLAIN_SCANS, _SCAN = 16, b"\xff\xda"
"""No JPEG file needs more scans; each takes time."""

_LARGE = 12_000_000
_one_large = threading.Lock()
"""Pillow takes up to 16 bytes a pixel while it decodes: images of more than that take turns."""

_HUE_ANGLES = 2 * np.pi * np.arange(256) / 256
_HUES = np.sin(_HUE_ANGLES), np.cos(_HUE_ANGLES)
"""Sine and cosine of each of the 256 hues."""

_ACCEPTED = "give a JPEG, PNG or WebP file"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML document"),
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a poster becomes a model's input.

    The whole poster is stretched to `height` x `width`: a crop would cut title and faces.
    Normalisation is no part of it: the model's graph takes bytes and normalises them itself.
    """

    height: int
    """Input height in px."""
    width: int
    """Input width in px."""

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            if not 8 <= value <= 2048:
                raise UsageError(f"preprocessing.{name} is {value}", remedy="use 8 to 2048 px")


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What a poster looks like in four numbers, each in 0..1."""

    brightness: float
    """Mean luma (ITU-R BT.601)."""
    contrast: float
    """Standard deviation of luma; near 0 for a blank image."""
    saturation: float
    """Mean HSV saturation."""
    hue: float
    """Circular mean of the HSV hue, weighted by saturation (0 and 1 are both red)."""


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a poster to 8-bit RGB.

    CMYK, 16-bit, palette and grey images are converted; transparency is laid on white; the EXIF
    orientation is applied; of an animation the first frame counts.

    Args:
        data: The bytes of a JPEG, PNG or WebP file.

    Returns:
        Bytes of shape [H, W, 3].

    Raises:
        InvalidImage: The bytes are no such image, are damaged, or have too many or too few pixels.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(str(error)) from error
    except Exception as error:
        raise InvalidImage(f"not an image but {describe(data)}", remedy=_ACCEPTED) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width} x {height} px")
    if min(width, height) < MIN_SIDE:
        raise InvalidImage(
            f"the image is {width} x {height} px",
            remedy=f"give a poster with sides of {MIN_SIDE} px or more",
        )
    try:
        pixels = _plain(data, image)
        if pixels is None:
            with _one_large if width * height > _LARGE else nullcontext():
                ImageOps.exif_transpose(image, in_place=True)
                pixels = _pixels(image)
        return pixels
    except Exception as error:
        # Pillow's decoders raise a dozen types for damaged files, SyntaxError among them.
        raise InvalidImage(
            f"the {image.format} data is damaged ({error})", remedy="fetch the file again"
        ) from error


def jpeg_pixels(data: bytes) -> float:
    """Tell how many pixels a JPEG file has, if decoding takes no longer than they let expect.

    Args:
        data: Any bytes.

    Returns:
        Width times height; infinity if it has too many scans or is no JPEG file: none can tell.
    """
    try:
        height, width, *_ = decode_jpeg_header(data)
    except ValueError:
        return math.inf
    return int(height) * int(width) if data.count(_SCAN) <= _PLAIN_SCANS else math.inf


def mode_of(data: bytes) -> str:
    """Name the pixel mode that an image is stored in, such as `RGB`, `L`, `P` or `CMYK`.

    Args:
        data: The bytes of an image that `decode` accepts.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return str(image.mode)


def _too_large(what: str) -> InvalidImage:
    return InvalidImage(
        f"the image is too large ({what}; the limit is {MAX_PIXELS:,} px in all)",
        remedy="scale it down",
    )


def describe(data: bytes) -> str:
    """Say what a file that is no poster seems to be, from its first bytes."""
    if not data:
        return "an empty file"
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, name in _MAGIC:
        if start.startswith(magic.lower()):
            return name
    return "unknown data"


def _plain(data: bytes, image: Image.Image) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG or WebP in half of Pillow's time and memory, to the same pixels.

    Args:
        data: The bytes of any image.
        image: The image as Pillow has opened it.

    Returns:
        Bytes of shape [H, W, 3]; None if this is neither, is not flawless, or needs more than
        decoding: then Pillow has to say what becomes of it.
    """
    if image.format not in ("JPEG", "WEBP") or image.mode not in ("RGB", "L"):
        return None
    if image.getexif().get(ExifTags.Base.Orientation) in range(2, 9):
        return None
    # Both have to see the same size: it is Pillow's that was found small enough.
    size = (image.height, image.width)
    try:
        if image.format == "JPEG":
            return decode_jpeg(data) if decode_jpeg_header(data)[:2] == size else None
        if getattr(image, "is_animated", False):
            return None
        pixels = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), _AS_STORED), np.uint8)
        return pixels if pixels.shape == (*size, 3) else None
    except Exception:
        return None


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Convert an image strip by strip: Pillow would hold all of a large one several times more."""
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        pixels[top : top + _STRIP] = np.asarray(_to_rgb(strip))
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # `convert` would clip 16-bit values at 255 instead of scaling them.
        grey = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey, mode="L").convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def resize(image: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Stretch an RGB image to a model's input.

    Of a side that shrinks, each new pixel is the mean of what it covers, so that fine patterns turn
    grey. It covers two pixels at least: a side that shrinks by less is enlarged first (cubic). A
    side that grows is interpolated linearly.

    Args:
        image: A decoded poster [h, w, 3].
        preprocessing: The model's input.

    Returns:
        Bytes of shape [H, W, 3].
    """
    new = (preprocessing.width, preprocessing.height)
    sides = list(zip(image.shape[1::-1], new, strict=True))
    dense = [max(old, 2 * new) if old > new else old for old, new in sides]
    # Averaged in a step of its own: OpenCV would average neither side if one of them grew.
    steps = (
        (dense, cv2.INTER_CUBIC),
        ([min(side) for side in sides], cv2.INTER_AREA),
        (list(new), cv2.INTER_LINEAR),
    )
    resized = image
    for size, interpolation in steps:
        if [*resized.shape[1::-1]] != size:
            resized = _resize(resized, size, interpolation)
    return image.copy() if resized is image else resized


def _resize(image: NDArray[np.uint8], size: Sequence[int], interpolation: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def preprocess(data: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode and resize a poster.

    Args:
        data: The bytes of a JPEG, PNG or WebP file.
        preprocessing: The model's input.

    Returns:
        Bytes of shape [H, W, 3].

    Raises:
        InvalidImage: As `decode`.
    """
    return resize(decode(data), preprocessing)


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a decoded poster to 64 x 96 px: by halves as long as that goes, which is quickest."""
    while image.shape[0] >= 2 * 96 and image.shape[1] >= 2 * 64:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        even = image[: 2 * height, : 2 * width]
        image = _resize(even, (width, height), cv2.INTER_AREA)
    return _resize(image, (64, 96), cv2.INTER_AREA)


def measure(image: NDArray[np.uint8]) -> Attributes:
    """Measure a decoded poster, on a thumbnail of 64 x 96 px.

    Each step that lets go of Python's lock makes a thread of a busy server wait for it again, so
    there are few.

    Args:
        image: A decoded poster [H, W, 3].

    Returns:
        Its attributes.
    """
    thumbnail = _thumbnail(image)
    luma, spread = cv2.meanStdDev(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY))
    hsv = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV_FULL)
    hue, saturation = hsv[..., 0].ravel(), hsv[..., 1].ravel()
    by_hue = np.bincount(hue, weights=saturation, minlength=256)
    sines, cosines = _HUES
    angle = math.atan2(float(sines @ by_hue), float(cosines @ by_hue))
    return Attributes(
        brightness=round(float(luma[0, 0]) / 255, 6),
        contrast=round(float(spread[0, 0]) / 255, 6),
        saturation=round(float(by_hue.sum()) / hue.size / 255, 6),
        hue=round(angle / (2 * np.pi) % 1.0, 6),
    )
