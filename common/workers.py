"""A pool of threads that ends at once when the work is given up."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def workers(jobs: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of `jobs` threads. On an exception, Ctrl-C among them, what was not begun is never begun."""
    pool = ThreadPoolExecutor(jobs, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)
