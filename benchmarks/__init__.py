"""What Marquee measures. `python -m benchmarks` runs all; each script also runs alone."""
