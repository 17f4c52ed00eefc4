"""Threads that read ahead, keep the newest and write behind: order, errors, and an end that leaves no thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from maskwright.tracking.pipeline import Behind, Latest, ahead


def threads() -> set[str]:
    return {t.name for t in threading.enumerate()} & {"read", "write"}


def test_items_come_in_order_and_few_are_fetched_ahead() -> None:
    fetched = []

    def source() -> Iterator[int]:
        for i in range(20):
            fetched.append(i)
            yield i

    items = ahead(source(), depth=2)
    assert next(items) == 0
    time.sleep(0.1)
    assert len(fetched) <= 4  # one taken, two that wait, one that is held
    assert [0, *items] == list(range(20))
    assert not threads()


def test_an_error_comes_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    items = ahead(source())
    assert next(items) == 1
    with pytest.raises(KeyError, match="two"):
        next(items)


def test_closing_ends_the_thread_and_the_source() -> None:
    ended = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.append(True)

    items = ahead(endless())
    next(items)
    items.close()
    assert not threads()
    assert ended


def test_the_newest_is_given_and_the_others_are_counted() -> None:
    go = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        go.wait()
        yield from range(1, 10)

    latest = Latest(source())
    items = iter(latest)
    assert next(items) == 0
    go.set()
    while latest._end is None:
        time.sleep(0.001)
    assert list(items) == [9]
    assert latest.dropped == 8


def test_the_error_of_a_live_source_comes_through() -> None:
    def source() -> Iterator[int]:
        yield 0
        raise OSError("unplugged")

    found = []
    with pytest.raises(OSError, match="unplugged"):
        found += list(Latest(source()))


def test_jobs_are_done_in_order_and_all_of_them() -> None:
    done: list[int] = []
    with Behind() as behind:
        for i in range(20):
            behind.do(lambda i=i: done.append(i))
    assert done == list(range(20))
    assert not threads()


def test_after_an_error_no_job_is_done() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError("the disk is full")

    def run() -> None:
        with Behind() as behind:
            behind.do(fail)
            for i in range(10):
                behind.do(lambda i=i: done.append(i))

    with pytest.raises(OSError, match="the disk is full"):
        run()
    assert done == []
    assert not threads()


def test_jobs_that_were_given_are_done_when_an_error_ends_the_block() -> None:
    done: list[int] = []

    def run() -> None:
        with Behind() as behind:
            for i in range(2):
                behind.do(lambda i=i: done.append(i))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == [0, 1]
