"""Work beside the main thread that ends with it: nothing goes on after an interrupt."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from netproof.problem import Problem

T = TypeVar("T")


class Background:
    """Starts work in threads. `stop` is set when the main thread leaves, whichever way; long work must look at it."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._pool = ThreadPoolExecutor(thread_name_prefix="netproof-cluster")

    def start(self, work: Callable[[], T]) -> Future[T]:
        return self._pool.submit(work)

    def pause(self, seconds: float) -> None:
        """Sleep in a thread. Raises Problem once the main thread has left."""
        if self.stop.wait(seconds):
            raise Problem("stopped")

    def end(self) -> None:
        self.stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def background() -> Iterator[Background]:
    """A Background whose threads have ended when the block has."""
    threads = Background()
    try:
        yield threads
    finally:
        threads.end()
