"""The paper of a poster: areas of colour, light and grain."""

import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from components.ingest.drawing.colour import Colour, clip
from components.ingest.drawing.palettes import Palette

Points = Sequence[tuple[float, float]]

HEIGHT = 1.5
"""Height of a sheet, in units of its width."""

OVERSAMPLING = 2
JPEG_QUALITY = 88


class Sheet:
    """The paper of a poster, one unit wide and 1.5 high.

    Args:
        width: Width of the finished poster in pixels.
        palette: Its colours; the sheet starts in the ground colour.
    """

    def __init__(self, width: int, palette: Palette) -> None:
        self.palette = palette
        self.unit = width * OVERSAMPLING
        self.size = (self.unit, round(width * HEIGHT) * OVERSAMPLING)
        self.image = Image.new("RGB", self.size, palette.ground)
        self.draw = ImageDraw.Draw(self.image)

    def px(self, length: float) -> int:
        """Turn a length in units into whole pixels, at least one."""
        return max(1, round(length * self.unit))

    def at(self, x: float, y: float) -> tuple[int, int]:
        """Turn a point in units into pixels."""
        return round(x * self.unit), round(y * self.unit)

    def area(self, x: float, y: float, reach: float) -> tuple[int, int, int, int]:
        """Turn the square around a point into pixels."""
        return *self.at(x - reach, y - reach), *self.at(x + reach, y + reach)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fill a rectangle."""
        self.draw.rectangle((*self.at(x0, y0), *self.at(x1, y1)), fill=fill)

    def polygon(self, points: Points, fill: Colour) -> None:
        """Fill a polygon."""
        self.draw.polygon([c * self.unit for point in points for c in point], fill=fill)

    def line(self, points: Points, width: float, fill: Colour) -> None:
        """Draw a line through the points."""
        self.draw.line([self.at(*point) for point in points], fill=fill, width=self.px(width))

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """Fill a circle."""
        self.draw.ellipse(self.area(x, y, radius), fill=fill)

    def fade(self, colour: Colour, start: float, end: float, strength: float = 1.0) -> None:
        """Lay a colour on from nothing at height `start` to `strength` at `end` and beyond."""
        self.image.paste(colour, mask=_fade_mask(self.size, start, end, strength))

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float) -> None:
        """Lay a soft spot of light or darkness on."""
        mask = _glow_mask(self.px(2 * radius), strength)
        self.image.paste(colour, self.at(x - radius, y - radius), mask)

    def colour_at(self, x: float, y: float, reach: float) -> Colour:
        """Measure the mean colour of a square around a point."""
        region = self.image.crop(self.area(x, y, reach))
        pixel = region.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        return clip(pixel) if isinstance(pixel, tuple) else self.palette.ground

    def jpeg(self, grain: float) -> bytes:
        """Shrink to the finished size, add grain and encode."""
        image = self.image.reduce(OVERSAMPLING)
        if grain:
            image = ImageChops.soft_light(image, _grain(image.size, grain))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()


@lru_cache(maxsize=64)
def _fade_mask(size: tuple[int, int], start: float, end: float, strength: float) -> Image.Image:
    heights = (np.arange(size[1]) + 0.5) / size[0]
    ramp = np.clip((heights - start) / (end - start), 0, 1) * 255 * strength
    return Image.fromarray(ramp.astype(np.uint8)[:, None]).resize(size)


@lru_cache(maxsize=64)
def _glow_mask(side: int, strength: float) -> Image.Image:
    spot = ImageChops.invert(Image.radial_gradient("L")).resize((side, side))
    return spot.point([round(255 * strength * (v / 255) ** 2.2) for v in range(256)])


@lru_cache(maxsize=16)
def _grain(size: tuple[int, int], amount: float) -> Image.Image:
    noise = np.random.default_rng(0).normal(128, 255 * amount, (450, 300))
    tile = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    return Image.merge("RGB", [tile.resize(size, Image.Resampling.BILINEAR)] * 3)
