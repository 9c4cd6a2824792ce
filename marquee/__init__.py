"""Marquee predicts a film's genres from its poster; this package is the shared kernel."""

import os

__version__ = "0.1.0"

# Arrow reads it when it is imported. The allocator that it would choose itself, mimalloc, keeps
# what is freed, in each process that has read a catalog.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
