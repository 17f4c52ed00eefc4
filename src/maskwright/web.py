"""Reading from addresses: over http and https alone, also behind a redirect, and not from a server that only drips."""

import contextlib
import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

SLOWEST, WINDOW = 1000, 30.0
"""Bytes a second that a server has to send, measured over this many seconds."""

ANSWER = 60.0
"""Seconds in which a server has to send the head of its answer, however its bytes are spread."""

_BLOCK = 1 << 18


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https; ValueError for another, such as ftp, which urllib would follow."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_address(newurl):
            raise ValueError(f"the server redirects to {newurl[:200]!r}, which is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _InTime(http.client.HTTPConnection):
    """A connection whose answer has to begin within `ANSWER` seconds: a timeout of the socket starts anew with each
    byte."""

    def getresponse(self) -> http.client.HTTPResponse:
        late = threading.Event()
        timer = threading.Timer(ANSWER, self._hang_up, (late, self.sock))
        timer.daemon = True
        timer.start()
        try:
            answer = super().getresponse()
        except (OSError, http.client.HTTPException):
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        if late.is_set():  # what came until then may look like a whole head
            self.close()
            raise TimeoutError(f"the head of the answer did not come in {ANSWER:g} s")
        return answer

    @staticmethod
    def _hang_up(late: threading.Event, sock: socket.socket) -> None:
        late.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class _InTimeSecure(http.client.HTTPSConnection, _InTime):
    """The same over TLS."""


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_InTime, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_InTimeSecure, req)


def is_address(text: str) -> bool:
    """Whether it begins as an address that is read from here."""
    return text.lower().startswith(("http://", "https://"))


def open_address(url: str | urllib.request.Request, timeout: float, redirects: Redirects | None = None) -> Any:
    """The answer of a server; see `urllib.request.urlopen` for errors, and `Redirects`.

    timeout: seconds without any byte. TimeoutError, or URLError of one, where the head takes longer than `ANSWER`.
    """
    return urllib.request.build_opener(redirects or Redirects(), _Http, _Https).open(url, timeout=timeout)


def blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives. TimeoutError where less than `SLOWEST` bytes a second come in `WINDOW` seconds."""
    since, count = time.monotonic(), 0
    while block := answer.read1(_BLOCK):
        yield block
        count += len(block)
        took = time.monotonic() - since
        if took >= WINDOW:
            if count < SLOWEST * took:
                raise TimeoutError(f"{count} bytes in {took:.0f} s, expected at least {SLOWEST} a second")
            since, count = time.monotonic(), 0
