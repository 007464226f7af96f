import os
import signal

from cifl_tf.cli.cohort.processes import THREADS, ProcessDied, each_result, limit_threads


def square(number):
    """The square, in a process that does not survive 3."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2, os.getpid()


def test_every_item_is_done_once_although_a_process_dies():
    results = dict(each_result(square, range(7), 2))
    died = results.pop(3)
    assert isinstance(died, ProcessDied)
    assert "ended by SIGKILL" in str(died)
    assert {item: result[0] for item, result in results.items()} == {
        item: item**2 for item in (0, 1, 2, 4, 5, 6)
    }
    pids = {result[1] for result in results.values()}
    assert os.getpid() not in pids
    assert len(pids) <= 3  # two, and the one after the death


def test_one_process_is_this_one():
    assert list(each_result(square, [2], 1)) == [(2, (4, os.getpid()))]
    assert list(each_result(square, [], 2)) == []


def test_threads_are_shared_by_processes(monkeypatch):
    def threads():
        return [os.environ.get(name) for name in THREADS]

    for name in THREADS:
        monkeypatch.setenv(name, "")  # back as it was afterwards
        monkeypatch.delenv(name)
    limit_threads(None, 1)
    assert threads() == [None, None]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for count, processes, expected in (None, 3, "2"), (None, 20, "1"), (5, 1, "5"):
        limit_threads(count, processes)
        assert threads() == [expected, expected]
