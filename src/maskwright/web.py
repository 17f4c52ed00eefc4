"""Reading from addresses: over http and https alone, also behind a redirect, and not from a server that only drips."""

import http.client
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

SLOWEST, WINDOW = 1000, 30.0
"""Bytes a second that a server has to send, measured over this many seconds."""

_BLOCK = 1 << 18


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https; ValueError for another, such as ftp, which urllib would follow."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_address(newurl):
            raise ValueError(f"the server redirects to {newurl[:200]!r}, which is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_address(text: str) -> bool:
    """Whether it begins as an address that is read from here."""
    return text.lower().startswith(("http://", "https://"))


def open_address(url: str | urllib.request.Request, timeout: float, redirects: Redirects | None = None) -> Any:
    """The answer of a server; see `urllib.request.urlopen` for errors, and `Redirects`."""
    return urllib.request.build_opener(redirects or Redirects()).open(url, timeout=timeout)


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
