"""Colours and what is done to them."""

from collections.abc import Sequence

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

WHITE: Colour = (250, 247, 240)
BLACK: Colour = (14, 13, 16)


def clip(channels: Sequence[float]) -> Colour:
    """Round channels and keep them within 0 to 255."""
    red, green, blue = (min(255, max(0, round(c))) for c in channels)
    return red, green, blue


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Mix a share of colour `b` into colour `a`."""
    return clip([x + (y - x) * share for x, y in zip(a, b, strict=True)])


def luminance(colour: Colour) -> float:
    """Measure how bright a colour looks, 0 to 1."""
    red, green, blue = colour
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def distance(a: Colour, b: Colour) -> float:
    """Measure how far two colours are apart: the mean difference of a channel."""
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 3


def legible(colour: Colour, ground: Colour, contrast: float = 0.3) -> Colour:
    """Lighten or darken a colour until it stands off from its ground.

    Args:
        colour: The colour.
        ground: What it is seen against.
        contrast: Smallest difference in luminance.

    Returns:
        The colour, changed no more than it takes; white or black at the worst.
    """
    base = luminance(ground)
    goal = BLACK if base > 0.55 or (base > 0.4 and luminance(colour) < base) else WHITE
    for share in (0.0, 0.25, 0.5, 0.75):
        candidate = mix(colour, goal, share)
        if abs(luminance(candidate) - base) >= contrast:
            return candidate
    return goal
