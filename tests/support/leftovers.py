"""What a request that failed leaves in memory, while no garbage is collected."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any


class Payload:
    """What a request holds."""


def is_freed(fail: Callable[[Payload], Coroutine[Any, Any, None]]) -> bool:
    """Let a request fail; tell whether what it held is gone without the garbage collector.

    Args:
        fail: Gets what it shall hold, and handles its own error.
    """

    async def fail_and_end() -> "weakref.ref[Payload]":
        payload = Payload()
        reference = weakref.ref(payload)
        request = fail(payload)
        del payload
        await request
        del request
        await asyncio.sleep(0.05)
        return reference

    gc.collect()
    gc.disable()
    try:
        return asyncio.run(fail_and_end())() is None
    finally:
        gc.enable()
