"""The command line, as people have it."""

import subprocess
import sys


def marquee(*words, code=0):
    """Run a command that has to end with a code; give what it says: answers, or its error."""
    command = [sys.executable, "-m", "marquee", "--quiet", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr
