"""The servers that `benchmarks.serving` compares Marquee's with, one file each.

Each serves the bundle at `$BUNDLE` on 127.0.0.1:`$PORT`, with one worker, the settings that its
documentation recommends, and no access log. What they do to a poster is the same for all:
`benchmarks.peers.model`.
"""
