"""Work in several processes, of which one may die without the others."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# Of NumPy and of TensorFlow, which read them when they are imported.
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


class ProcessDied(OSError):
    """A process ended in the middle of its work."""


def limit_threads(count: int | None, processes: int) -> None:
    """Set the threads of this process, and of those that it starts.

    Args:
        count: of each process; None for a share of the processors, where there are several.
        processes: at work at the same time.
    """
    if count is None and processes > 1:
        affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
        processors = len(affinity(0)) if affinity else os.cpu_count() or 1
        count = max(1, processors // processes)
    if count is not None:
        os.environ.update(dict.fromkeys(THREADS, str(count)))


def each_result(
    work: Callable[[Item], Result], items: Iterable[Item], processes: int
) -> Iterator[tuple[Item, Result | ProcessDied]]:
    """What some work gives for each of many items, in the order in which it is done.

    Args:
        work: to be had by other processes; raises nothing.
        items: in the order in which they are begun.
        processes: at work at the same time; with 1 it is this one.

    Yields:
        The item, and the result; or what became of the process.
    """
    if processes == 1:
        for item in items:
            yield item, work(item)
        return
    waiting = iter(items)
    busy: dict[_Worker, Item] = {}
    ended: list[_Worker] = []
    try:
        for item in itertools.islice(waiting, processes):
            worker = _Worker(work)
            busy[worker] = item
            worker.give(item)
        while busy:
            ready = wait([worker.connection for worker in busy])
            for worker in [worker for worker in busy if worker.connection in ready]:
                item, result = busy.pop(worker), worker.result()
                following = next(waiting, None)
                if following is None:
                    worker.connection.close()
                    ended.append(worker)
                else:
                    worker = _Worker(work) if isinstance(result, ProcessDied) else worker
                    busy[worker] = following
                    worker.give(following)
                yield item, result
        for worker in ended:
            worker.process.join()
    finally:
        for worker in busy:
            worker.process.terminate()


class _Worker:
    """A process that does items as they come."""

    def __init__(self, work):
        context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is noticed

    def give(self, item):
        with contextlib.suppress(BrokenPipeError):  # noticed when the result is awaited
            self.connection.send(item)

    def result(self):
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return ProcessDied(_how(self.process.exitcode))


def _serve(connection, work):
    """Do items as they come, to the end of the connection or of the process that began this one."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of several processes overwrite each other
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            connection.send(work(connection.recv()))


def _end_with_parent():
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _how(status):
    """How a process ended, in words."""
    if status is not None and status < 0:
        return (
            f"the process was ended by {signal.Signals(-status).name}, as for lack of memory; give "
            "fewer --n-procs, or a smaller --mem-mb"
        )
    return f"the process ended with status {status}"
