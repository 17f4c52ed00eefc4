"""One thread that computes, and the bounded queue in front of it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from math import ceil
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_SHARE = 0.2  # of the newest job in the mean of seconds


class QueueFullError(Exception):
    """No place is left. retry_after: seconds after which there is likely one."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"No place is left; try again in {retry_after} s.")
        self.retry_after = retry_after


class Job(Generic[T]):
    """A call that waits, runs or has run. future: its result. started: it is no longer waiting."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.call: Callable[[], T] | None = call
        self.future: Future[T] = Future()
        self.started = False

    def run(self) -> None:
        """Compute, unless the job was cancelled."""
        call, self.call = self.call, None
        if call is None or not self.future.set_running_or_notify_cancel():
            return
        self.started = True
        try:
            self.future.set_result(call())
        except BaseException as error:  # it belongs to who waits for the result; the thread goes on
            self.future.set_exception(error)

    def cancel(self) -> None:
        """Give up a job that waits, and what it holds in memory; one that runs goes on."""
        if self.future.cancel():
            self.call = None


class Worker:
    """Runs jobs one after the other in a thread of its own.

    waiting: jobs that may wait behind the one that runs. A place is taken before a request is read, so that the memory
    of all requests is bounded, and is given back when its job has ended.
    """

    def __init__(self, waiting: int) -> None:
        self._most = waiting + 1
        self._taken = 0
        self._seconds = 1.0
        self._jobs: deque[Job[Any] | None] = deque()
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="maskwright-worker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread when the jobs that it has are done."""
        with self._change:
            self._jobs.append(None)
            self._change.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether jobs are computed."""
        return self._thread.is_alive()

    @property
    def length(self) -> int:
        """Requests that have a place: they are read, wait or are computed."""
        return self._taken

    def take(self) -> None:
        """Take a place. Raises QueueFullError."""
        with self._change:
            if self._taken >= self._most:
                raise QueueFullError(max(1, ceil(self._seconds)))
            self._taken += 1

    def give_back(self) -> None:
        """Give back the place of a request that has no job."""
        with self._change:
            self._taken -= 1

    def submit(self, call: Callable[[], T]) -> Job[T]:
        """Queue a call for a place that was taken; the place is given back when the call has ended or is cancelled."""
        job = Job(call)
        job.future.add_done_callback(lambda _: self.give_back())
        with self._change:
            self._jobs.append(job)
            self._change.notify()
        return job

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._jobs:
                    self._change.wait()
                job = self._jobs.popleft()
            if job is None:
                return
            start = time.monotonic()
            job.run()
            if job.started:
                self._seconds += _SHARE * (time.monotonic() - start - self._seconds)
