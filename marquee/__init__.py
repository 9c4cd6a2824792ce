"""Marquee predicts a film's genres from its poster; this package is the shared kernel."""

__version__ = "0.1.0"
