"""Pictures made in several processes, with one bar for all of them."""

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
    """Call ``make(*task)`` for each task of ``work``, in up to ``processes`` processes.

    More than one import the caller's main module (Python's "spawn").

    Args:
        make: a function of a module; makes a task's pictures and yields how many, as it goes.
        work: arguments of ``make``, which are pickled.
        out: names the bar.
        total, missing: pictures of the set, and those of them that ``work`` will make.
        processes: 1 makes them all in this one.
        progress: show the bar.
    """
    with progress_bar(
        total=total, initial=total - missing, unit=" pictures", desc=str(out), disable=not progress
    ) as bar:
        if min(processes, len(work)) < 2:
            threads = cv2.getNumThreads()
            cv2.setNumThreads(0)  # one picture is too small to share
            try:
                for task in work:
                    for made in make(*task):
                        bar.update(made)
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
                    made = counter.value
                    bar.update(made - shown)
                    shown = made
                    for future in done:
                        future.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise


_counter: Any = None  # of a worker process: pictures made by all, and whether to stop


_stop: Any = None


def _start_worker(counter: Any, stop: Any) -> None:
    """Set up a worker: the parent handles Ctrl-C, and its death ends the worker."""
    global _counter, _stop
    _counter, _stop = counter, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)  # there is a process for each CPU
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow(sentinel: int) -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=follow, args=(parent.sentinel,), daemon=True).start()


def _work(make: Callable[..., Iterator[int]], *task: Any) -> None:
    for made in make(*task):
        with _counter.get_lock():
            _counter.value += made
        if _stop.is_set():
            return
