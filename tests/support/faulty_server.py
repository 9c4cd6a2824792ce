"""`marquee serve` with something wrong with it: run as `python faulty_server.py serve BUNDLE ...`.

`FAULT_VERSION` names the bundle's version that is to be faulty; `FAULT_ERRORS` is the share of
predictions that fail, `FAULT_SLOWER` how many times as long they take.
"""

import asyncio
import os
import random
import time

from marquee.cli import main
from serving.predictor import PosterGenreModel

VERSION = os.environ.get("FAULT_VERSION", "")
ERRORS = float(os.environ.get("FAULT_ERRORS", "0"))
SLOWER = float(os.environ.get("FAULT_SLOWER", "1"))

predict = PosterGenreModel.predict


async def faulty(self, payload, headers=None):
    if self.version != VERSION:
        return await predict(self, payload, headers)
    start = time.perf_counter()
    if random.random() < ERRORS:
        raise RuntimeError("it is broken")
    answer = await predict(self, payload, headers)
    # Nothing is as quick as a tiny model: what is waited is some ms at least.
    await asyncio.sleep((SLOWER - 1) * max(time.perf_counter() - start, 0.005))
    return answer


PosterGenreModel.predict = faulty
main()
