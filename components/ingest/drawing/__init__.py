"""Film posters drawn from a few numbers: licence-free stand-ins for real ones.

A poster is laid out on a sheet one unit wide and 1.5 high and drawn at twice its size, so
that it has the same composition at every width. Its look has three sources: the era gives
backdrop, print and lettering (`eras`), the first genre hints at the palette (`palettes`), and
every genre on the poster gives a motif (`motifs`). Colour only hints at a genre, because
genres share palettes and eras bleach them; the motif tells.
"""

from components.ingest.drawing.poster import draw_poster

__all__ = ["draw_poster"]
