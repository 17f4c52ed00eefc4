"""Work that overlaps: a thread that reads ahead, one that keeps the newest, one that writes behind."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 2
"""Items that wait between two threads."""

_POLL = 0.1  # seconds after which a waiting thread looks whether it is to end


class _End:
    """The end of a source, with the error that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterable[T], depth: int = DEPTH) -> Generator[T]:
    """The items in their order, fetched in a thread of their own up to `depth` ahead; errors come through.

    Closing the iterator ends the thread; an item that is being fetched is waited for.
    """
    waiting: queue.Queue[T | _End] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: T | _End) -> bool:
        while not stop.is_set():
            with suppress(queue.Full):
                waiting.put(item, timeout=_POLL)
                return True
        return False

    def fetch() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:
            put(_End(error))
        else:
            put(_End())

    thread = threading.Thread(target=fetch, name="read", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()


class Latest(Generic[T]):
    """The newest item of a source that does not wait, whenever one is asked for; the end comes after the last.

    dropped: items that were replaced by a newer one before anybody asked. Closing does not wait for a source that
    gives nothing.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self.dropped = 0
        self._items, self._changed = items, threading.Condition()
        self._newest: list[T] = []
        self._end: _End | None = None
        self._stop = False

    def __iter__(self) -> Iterator[T]:
        threading.Thread(target=self._fetch, name="read", daemon=True).start()
        try:
            while True:
                with self._changed:
                    while not self._newest and self._end is None:
                        self._changed.wait(_POLL)
                    if not self._newest:
                        assert self._end is not None
                        if self._end.error is not None:
                            raise self._end.error
                        return
                    item = self._newest.pop()
                yield item
        finally:
            self._stop = True

    def _fetch(self) -> None:
        end = _End()
        try:
            for item in self._items:
                with self._changed:
                    if self._stop:
                        return
                    self.dropped += len(self._newest)
                    self._newest[:] = [item]
                    self._changed.notify()
        except BaseException as error:
            end = _End(error)
        with self._changed:
            self._end = end
            self._changed.notify()


class Behind:
    """Does jobs in their order in a thread of its own; at most `depth` wait.

    An error of a job is raised by the next call of `do` or by leaving the block, and no job is done after it. Leaving
    the block waits for all jobs that were given, also where an error or Ctrl-C ended it.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="write", daemon=True)

    def __enter__(self) -> "Behind":
        self._thread.start()
        return self

    def do(self, job: Callable[[], None]) -> None:
        """Give a job; waits while `depth` others wait."""
        self._check()
        self._jobs.put(job)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._jobs.put(None)
        self._thread.join()
        if error is None:
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._error is None:
                try:
                    job()
                except BaseException as error:
                    self._error = error
