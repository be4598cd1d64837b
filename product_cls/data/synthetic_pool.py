"""Makes synthetic pictures in several processes, with one progress bar."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import cv2

from product_cls.core.progress import progress_bar


def make_all(
    make: Callable[..., Iterator[int]],
    work: Sequence[tuple[Any, ...]],
    *,
    out: Path,
    total: int,
    missing: int,
    processes: int,
    progress: bool,
) -> None:
    """Call ``make(*task)`` for each task in ``work``, in up to ``processes`` processes.

    With more than one process, each imports the caller's main module (Python's "spawn").

    Args:
        make: a module-level function that makes the pictures of a task and yields, again and again,
            the number of pictures finished since.
        work: arguments of ``make``; they are pickled.
        out: label of the progress bar.
        total: pictures in the set.
        missing: pictures that ``work`` will make.
        processes: maximum number of processes; 1 is this process.
        progress: show the bar.
    """
    with progress_bar(
        total=total, initial=total - missing, unit=" pictures", desc=str(out), disable=not progress
    ) as bar:
        if min(processes, len(work)) < 2:
            threads = cv2.getNumThreads()
            cv2.setNumThreads(0)  # a single picture is too small to share among threads
            try:
                for task in work:
                    for count in make(*task):
                        bar.update(count)
            finally:
                cv2.setNumThreads(threads)
            return
        spawn = multiprocessing.get_context("spawn")
        counter, stop = spawn.Value("q", 0), spawn.Event()
        with ProcessPoolExecutor(
            min(processes, len(work)), spawn, _start_worker, (counter, stop)
        ) as pool:
            futures, shown = {pool.submit(_work, make, *task) for task in work}, 0
            try:
                while futures:
                    done, futures = wait(futures, timeout=0.2, return_when=FIRST_EXCEPTION)
                    finished = counter.value
                    bar.update(finished - shown)
                    shown = finished
                    for future in done:
                        future.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise


# Set in worker processes: pictures finished by all workers, and whether to stop.
_counter: Any = None
_stop: Any = None


def _start_worker(counter: Any, stop: Any) -> None:
    """Set up a worker: the parent handles Ctrl-C, and the parent's death ends the worker."""
    global _counter, _stop
    _counter, _stop = counter, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)  # there is already one process per CPU
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow(sentinel: int) -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=follow, args=(parent.sentinel,), daemon=True).start()


def _work(make: Callable[..., Iterator[int]], *task: Any) -> None:
    for count in make(*task):
        with _counter.get_lock():
            _counter.value += count
        if _stop.is_set():
            return
