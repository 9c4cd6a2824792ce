"""A server of our own that speaks TMDB's API v3, over a catalogue of drawn films.

`server.TmdbServer` runs it from Python, `server.run` on the command line.
"""
