"""`python -m marquee` is `marquee`."""

from marquee.cli import main

main()
