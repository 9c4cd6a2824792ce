"""What each of the processes that train together runs: `python -m components.train.worker URI`.

torchrun starts it, on a laptop and in every pod of a TrainJob.
"""

import os
import sys

from components.train.exchange import Exchange
from components.train.train import train
from marquee import log
from marquee.errors import explain


def main(uri: str) -> None:
    """Train as one of several processes.

    Args:
        uri: Where the specification is; the report, or what went wrong, is written there.
    """
    rank = int(os.environ.get("RANK", "0"))
    log.configure("INFO" if rank == 0 else "WARNING")
    exchange = Exchange(uri)
    try:
        report = train(*exchange.specification())
    except Exception as fault:
        error = explain(fault)
        if error is None:
            raise
        exchange.write_error(rank, error)
        sys.exit(error.exit_code)
    if rank == 0:
        exchange.write_report(report)


if __name__ == "__main__":
    main(sys.argv[1])
