"""The motifs that tell a genre, by theme."""

from components.ingest.drawing.motifs import danger, faraway, life
from components.ingest.drawing.motifs.motif import Inks, Motif

__all__ = ["MOTIFS", "Inks", "Motif"]

MOTIFS: dict[str, tuple[Motif, ...]] = danger.MOTIFS | faraway.MOTIFS | life.MOTIFS
"""The motifs of each genre."""
