"""Looks at a cluster before Marquee works there: what is missing, and how to mend it."""
