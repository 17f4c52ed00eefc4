"""Download a file once into the cache: with progress, resumed connections and a check of its hash.

The cache is `$MASKWRIGHT_CACHE`, else `$XDG_CACHE_HOME/maskwright`, else `~/.cache/maskwright`. A file lies in it under
its host and path, so that people can find, copy and delete it. It appears there only after its length and hash were
checked; a partial file never stays. A broken connection is resumed within one call.

Where the publisher gives no hash, nothing can prove that a file is the published one. What is checked instead: all
bytes arrived; the sha256 is the one that the server announces, if it does (hubs do); the file can be read; and it
equals an earlier download, whose sha256 is kept in FILE.sha256, in the format of `sha256sum -c`.

Most publishers use plain web servers, so a hub's own client could not replace this module.
"""

import hashlib
import http.client
import os
import re
import secrets
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from maskwright import web
from maskwright.atomic import replacing
from maskwright.errors import DownloadError, MaskwrightError

OnBytes = Callable[[int, int | None], None]
"""Progress callback: called with the number of bytes received so far and, if known, the total."""

FileCheck = Callable[[Path], object]
"""Reads a downloaded file; raises a MaskwrightError if it is not what it should be."""

LARGEST = 4_000_000_000
"""Bytes of a file at most where its publisher does not say how large it is."""

_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # HTTP status codes after which another attempt makes sense
_NETWORK = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Digest:
    """The leading hexadecimal digits of a file's hash: as many as its publisher gives, at least 6."""

    algorithm: Literal["sha256", "md5"]
    digits: str

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """From "sha256:..." or "md5:..."; digits alone are sha256. Raises DownloadError for anything else."""
        name, _, digits = text.lower().rpartition(":")
        name = name or "sha256"
        if not re.fullmatch(r"[0-9a-f]{6,64}", digits) or name not in ("sha256", "md5"):
            raise DownloadError(f"A hash is 'sha256:' or 'md5:' and at least 6 hexadecimal digits, got {text!r}.")
        return cls("md5" if name == "md5" else "sha256", digits)


def cache_folder() -> Path:
    """The folder of downloaded files."""
    if own := os.environ.get("MASKWRIGHT_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "maskwright"


def cache_path(url: str, cache: Path | None = None) -> Path:
    """The place of the file of `url` in the cache, present or not. DownloadError if the address is not http(s)."""
    parts = urlsplit(url)
    names = [re.sub(r"[^\w.-]", "_", p) for p in parts.path.split("/") if p not in ("", ".", "..")]
    if parts.scheme not in ("http", "https") or not parts.netloc or not names:
        raise DownloadError(f"Cannot fetch {url!r}: expected an address like https://host/folder/file.")
    if parts.query:
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}-{names[-1]}"
    return (cache or cache_folder()).joinpath(re.sub(r"[^\w.-]", "_", parts.netloc.rpartition("@")[2]), *names)


def record_of(place: Path) -> Path:
    """The file that keeps the sha256 of a downloaded file without a publisher's hash."""
    return place.with_name(f"{place.name}.sha256")


def fetch(
    url: str,
    digest: str | None,
    *,
    cache: Path | None = None,
    check: FileCheck | None = None,
    progress: bool | OnBytes = True,
    timeout: float = 30.0,
    attempts: int = 4,
    most: int = LARGEST,
) -> Path:
    """The file at `url`: from the cache if it is there, else downloaded, checked and stored there.

    digest: "sha256:" or "md5:" and the known leading digits; None if the publisher gives none. check: reads the file,
        used only without a digest.
    progress: True shows a bar on stderr (one line where stderr is no terminal), or a callback.
    timeout: seconds without any byte after which an attempt fails; one that only drips fails too, see `web.blocks`.
    attempts: connections to try, each resuming the one before. most: bytes of the file at most.
    Raises DownloadError with the address, what was expected, what was found and what to do. Concurrent calls for one
    file, of several processes or threads, wait for each other and download once.
    """
    place = cache_path(url, cache)
    expected = None if digest is None else Digest.parse(digest)
    if place.is_file():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(place.parent, error) from error
    with _locked(place):
        if not place.is_file():
            with _reporter(progress, place.name) as report:
                _Download(url, place, expected, check, timeout, report, most).run(attempts)
    return place


class _Download:
    """One download into `part`, a temporary file beside `place`."""

    def __init__(
        self,
        url: str,
        place: Path,
        digest: Digest | None,
        check: FileCheck | None,
        timeout: float,
        report: OnBytes,
        most: int,
    ) -> None:
        self.url, self.place, self.digest, self.check, self.most = url, place, digest, check, most
        self.timeout, self.report = timeout, report
        self.part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
        self.redirects = _Redirects()
        self.total: int | None = None
        self.validator = ""  # ETag or date of the file that `part` is the beginning of

    def run(self, attempts: int) -> None:
        """Download, check, move into place; the partial file is removed in any case."""
        try:
            with self.part.open("wb") as stream:
                self._download(stream, attempts)
            self._verify()
            self.part.replace(self.place)
        except DownloadError:
            raise
        except OSError as error:
            raise _cannot_write(self.place.parent, error) from error
        finally:
            self.part.unlink(missing_ok=True)

    def _download(self, stream: BinaryIO, attempts: int) -> None:
        failure: str | None = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(0.25 * 2**attempt)
            if (failure := self._attempt(stream)) is None:
                return
        raise DownloadError(
            f"Cannot fetch {self.url}: {failure}. Tried {attempts} times. Check the connection and try again."
        )

    def _attempt(self, stream: BinaryIO) -> str | None:
        """One connection: None if the file is complete, else why not, for a reason that may be temporary."""
        try:
            response = web.open_address(self._request(stream.tell()), self.timeout, self.redirects)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:  # the server cannot resume at this byte: start over
                    self._restart(stream)
                elif error.code not in _TEMPORARY:
                    raise DownloadError(
                        f"Cannot fetch {self.url}: the server answered {error.code} ({error.reason}); expected the "
                        "file. Check the address, or fetch the file another way and give its path."
                    ) from error
                return f"the server answered {error.code} ({error.reason})"
        except ValueError as error:
            raise DownloadError(
                f"Cannot fetch {self.url}: {error}. Check the address, or fetch the file another way and give its path."
            ) from error
        except _NETWORK as error:
            return self._broken(error, stream)
        with response:
            if not self._begin(response, stream):
                return "the server sent another part of the file than requested"
            body = web.blocks(response)
            while True:
                try:
                    block = next(body, b"")
                except _NETWORK as error:
                    return self._broken(error, stream)
                if not block:
                    break
                self._check_size(stream.tell() + len(block))
                stream.write(block)
                self.report(stream.tell(), self.total)
        if self.total is not None and stream.tell() < self.total:
            return f"the connection ended early; {self._so_far(stream)}"
        return None

    def _request(self, done: int) -> urllib.request.Request:
        headers = {"User-Agent": "maskwright", "Accept-Encoding": "identity"}
        if done and (self.validator or self.digest):  # else nothing would show that two halves are of one file
            headers["Range"] = f"bytes={done}-"
            if self.validator:
                headers["If-Range"] = self.validator
        return urllib.request.Request(self.url, headers=headers)

    def _begin(self, response: http.client.HTTPResponse, stream: BinaryIO) -> bool:
        """Resume or start over, as the headers say; False for another part of the file. Checks the free space."""
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if response.status != 206 or span is None or int(span[1]) != stream.tell():
            self._restart(stream)
            if response.status == 206:
                return False
            length, tag = response.headers.get("Content-Length", ""), response.headers.get("ETag", "")
            self.total = int(length) if length.isdigit() else None
            self.validator = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
        self._check_size(self.total or 0)
        free = shutil.disk_usage(self.place.parent).free
        if self.total is not None and free < self.total - stream.tell():
            raise DownloadError(
                f"Cannot fetch {self.url}: it has {_mb(self.total)}, the disk of {self.place.parent} has "
                f"{_mb(free)} free. Make room, or set MASKWRIGHT_CACHE to another folder."
            )
        return True

    def _check_size(self, size: int) -> None:
        if size > self.most:
            raise DownloadError(
                f"Cannot fetch {self.url}: expected at most {_mb(self.most)}, the server sends more. Nothing was kept. "
                "Check the address, or fetch the file another way and give its path."
            )

    def _restart(self, stream: BinaryIO) -> None:
        if stream.tell():
            stream.seek(0)
            stream.truncate()
        self.total, self.validator = None, ""

    def _broken(self, error: Exception, stream: BinaryIO) -> str:
        return f"{type(error).__name__}: {getattr(error, 'reason', None) or error}; {self._so_far(stream)}"

    def _so_far(self, stream: BinaryIO) -> str:
        total = self.total if self.total is not None else "an unknown number of"
        return f"expected {total} bytes, got {stream.tell()}"

    def _verify(self) -> None:
        """Compare the hash with the publisher's, or without one with whatever else is known."""
        algorithm = self.digest.algorithm if self.digest else "sha256"
        with self.part.open("rb") as stream:
            page = stream.read(64).lstrip().startswith(b"<")
            stream.seek(0)
            found = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
        size = self.part.stat().st_size
        if self.digest is None:
            self._verify_unpublished(found, size)
        elif not found.startswith(self.digest.digits):
            raise DownloadError(
                f"{self.url} is not the file that was published: {algorithm} should begin with {self.digest.digits}, "
                f"found {found[: max(16, len(self.digest.digits))]} ({size} bytes{', a web page' if page else ''}). It "
                "was deleted. Try again; if that does not help, fetch the file another way and give its path."
            )

    def _verify_unpublished(self, found: str, size: int) -> None:
        """Compare the sha256 with the server's and an earlier download's, read the file, store the sha256."""
        record = record_of(self.place)
        before = record.read_text(encoding="utf-8").split(maxsplit=1)[:1] if record.is_file() else []
        if (announced := self.redirects.announced) not in ("", found):
            raise DownloadError(
                f"{self.url} is not the file that its server announced: sha256 should be {announced}, found {found} "
                f"({size} bytes). It was deleted. Try again."
            )
        if before not in ([], [found]):
            raise DownloadError(
                f"{self.url} is not the file that it was before: sha256 should be {before[0]}, from {record}, found "
                f"{found}. It was deleted. If its publisher replaced it and you trust that, delete {record} and try "
                "again."
            )
        if self.check is not None:
            try:
                self.check(self.part)
            except MaskwrightError as error:
                reason = str(error).replace(str(self.part), self.place.name)
                raise DownloadError(f"{self.url} was fetched, but cannot be used and was deleted: {reason}") from error
        with replacing(record) as part:
            part.write_text(f"{found}  {self.place.name}\n", encoding="utf-8")


class _Redirects(web.Redirects):
    """Follows redirects, and keeps the sha256 that a hub announces in them."""

    announced = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        tag = headers.get("X-Linked-ETag", "").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            self.announced = tag
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _cannot_write(folder: Path, error: OSError) -> DownloadError:
    reason = error.strerror or str(error)
    return DownloadError(
        f"Cannot write into the cache folder {folder}: {reason}. Make room or give access, or set MASKWRIGHT_CACHE "
        "to a folder that can be written."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Hold the lock of one cached file; on file systems without locks continue, as partial files have unique names."""
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        Console(stderr=True).print(f"Waiting for another process that fetches {place.name} ...", highlight=False)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        if not os.access(place.parent, os.W_OK) and isinstance(error, OSError):
            raise _cannot_write(place.parent, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _reporter(progress: bool | OnBytes, name: str) -> Iterator[OnBytes]:
    """The progress callback: the caller's, that of a bar on stderr, or one that does nothing."""
    console = Console(stderr=True)
    if callable(progress) or not progress:
        yield progress if callable(progress) else lambda done, total: None
        return
    if not console.is_terminal:
        console.print(f"Fetching {name} ...", highlight=False, soft_wrap=True)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
