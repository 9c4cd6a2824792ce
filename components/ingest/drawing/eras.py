"""How the posters of each era look."""

from dataclasses import dataclass

from components.ingest.drawing.backdrops import (
    Layer,
    arch,
    arcs,
    blinds,
    bokeh,
    cut_paper,
    gradient,
    horizon_glow,
    low_horizon,
    neon_grid,
    plain,
    rays,
    split,
    spotlight,
    stripes,
)
from components.ingest.drawing.overlays import flare, light_above, shade_below, vignette
from components.ingest.drawing.palettes import Grade


@dataclass(frozen=True)
class Era:
    """How the posters of an era look."""

    grade: Grade
    """What print and film stock do to the colours."""

    backdrops: tuple[Layer, ...]
    """One of them is drawn."""

    finishes: tuple[Layer, ...]
    """One of them is drawn over the motifs."""

    letterings: tuple[str, ...]
    """Names in `lettering.LETTERINGS`."""

    title_on_top: float
    """Chance that the title is above the motifs."""

    framed: float
    """Chance of a border."""

    grain: float
    """Strength of the grain; 0 for none."""


ERAS: dict[str, Era] = {
    "silent": Era(
        Grade(0.3, (222, 205, 168), 0.22, 1.0), (arch, plain, rays), (plain,),
        ("engraved", "broadside", "banner"), 0.4, 0.85, 0.08,
    ),
    "golden_age": Era(
        Grade(0.62, (236, 214, 164), 0.16, 1.0), (rays, blinds, arch, gradient),
        (plain, shade_below), ("brush", "banner", "broadside"), 0.5, 0.5, 0.06,
    ),
    "new_hollywood": Era(
        Grade(0.9, (214, 140, 70), 0.1, 0.98), (cut_paper, stripes, arcs, plain), (plain,),
        ("cutout", "swiss", "broadside"), 0.35, 0.2, 0.06,
    ),
    "painted_blockbuster": Era(
        Grade(1.1, (60, 30, 110), 0.08, 1.0), (horizon_glow, neon_grid, gradient),
        (light_above, shade_below, flare), ("airbrush", "impact", "brush"), 0.3, 0.25, 0.04,
    ),
    "photographic": Era(
        Grade(0.85, (30, 26, 24), 0.14, 0.95), (spotlight, bokeh, gradient),
        (vignette, shade_below), ("classic", "engraved", "wide"), 0.1, 0.1, 0.03,
    ),
    "digital": Era(
        Grade(0.95, (20, 50, 80), 0.12, 1.0), (spotlight, split, bokeh),
        (flare, vignette, plain), ("impact", "wide", "classic"), 0.15, 0.0, 0.02,
    ),
    "streaming": Era(
        Grade(1.05, (250, 250, 250), 0.03, 1.0), (plain, low_horizon, split, arcs), (plain,),
        ("quiet", "swiss", "tower"), 0.3, 0.0, 0.0,
    ),
    "current": Era(
        Grade(1.0, (8, 46, 56), 0.16, 0.95), (gradient, plain, horizon_glow),
        (plain, shade_below), ("tower", "wide", "quiet"), 0.35, 0.0, 0.05,
    ),
}  # fmt: skip
"""Backdrop, print and lettering of each era."""
