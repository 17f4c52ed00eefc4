"""The thread that computes: order, places, faults, and stopping."""

import threading

import pytest

from maskwright.serving.worker import QueueFullError, Worker


def test_jobs_run_in_order_and_a_fault_ends_only_its_own() -> None:
    worker, seen = Worker(10), list[int]()
    worker.start()

    def fails() -> None:
        raise KeyError("x")

    for _ in range(4):
        worker.take()
    first, fault, last = worker.submit(lambda: seen.append(1)), worker.submit(fails), worker.submit(lambda: 7)
    assert last.future.result(10) == 7
    assert isinstance(fault.future.exception(10), KeyError)
    assert (seen, first.started, worker.alive) == ([1], True, True)
    worker.give_back()
    worker.stop()
    assert (worker.alive, worker.length) == (False, 0)


def test_places_are_bounded_and_a_cancelled_job_gives_its_own_back() -> None:
    worker, began, go = Worker(1), threading.Event(), threading.Event()
    worker.start()
    worker.take()
    running = worker.submit(lambda: (began.set(), go.wait(10))[1])
    assert began.wait(10)
    worker.take()
    waiting = worker.submit(lambda: 1 / 0)
    with pytest.raises(QueueFullError) as told:
        worker.take()
    assert told.value.retry_after >= 1
    waiting.cancel()
    waiting.cancel()
    assert waiting.call is None  # what it holds is let go at once
    worker.take()
    worker.give_back()
    running.cancel()  # it runs: nothing happens
    go.set()
    assert running.future.result(10) is True
    worker.stop()


def test_stopping_ends_what_waits() -> None:
    worker = Worker(5)
    worker.start()
    for _ in range(5):
        worker.take()
    jobs = [worker.submit(lambda k=k: k) for k in range(5)]
    worker.stop()
    assert [job.future.result(0) for job in jobs] == list(range(5))
