"""Fetch a file from its publisher once: progress, hash check, cache; nothing half-written ever stays.

The cache is `$MASKWRIGHT_CACHE`, else `$XDG_CACHE_HOME/maskwright`, else `~/.cache/maskwright`; inside it a file lies
under its host and path, so that it can be found, copied and deleted by hand. A file appears there only after its
length and hash were checked. A broken connection goes on from where it stopped, within one call.

Of a file whose publisher gives no hash nobody can say that it is the one that was published. What can be checked is:
that all bytes came, that it has the hash which the server announces (hubs do), that it reads as what it should be,
and that it is what came here before: its sha256 stays beside it in FILE.sha256, where `sha256sum -c` reads it.
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
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from maskwright.atomic import replacing
from maskwright.errors import DownloadError, MaskwrightError

Report = Callable[[int, int | None], None]
"""Called with the bytes that are here and, where known, the bytes in all."""

Check = Callable[[Path], object]
"""Reads a file that was fetched; raises a MaskwrightError where it is not what it should be."""

_BLOCK = 1 << 18
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP answers worth a second try


@dataclass(frozen=True)
class Digest:
    """The first hexadecimal digits of a file's hash: as many as its publisher gives, at least 6."""

    algorithm: Literal["sha256", "md5"]
    digits: str

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """From "sha256:..." or "md5:..."; bare digits are sha256. DownloadError where it is neither."""
        name, _, digits = text.lower().rpartition(":")
        name = name or "sha256"
        if not re.fullmatch(r"[0-9a-f]{6,64}", digits) or name not in ("sha256", "md5"):
            raise DownloadError(f"A hash is 'sha256:' or 'md5:' and at least 6 hexadecimal digits, got {text!r}.")
        return cls("md5" if name == "md5" else "sha256", digits)


@dataclass(frozen=True)
class Unnamed:
    """In place of a digest, where the publisher gives none."""

    check: Check | None = None


def cache_folder() -> Path:
    """Where fetched files are kept."""
    if own := os.environ.get("MASKWRIGHT_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "maskwright"


def cache_path(url: str, cache: Path | None = None) -> Path:
    """Where the file of `url` lies, or will lie, in the cache. DownloadError where the address is not http(s)."""
    parts = urlsplit(url)
    names = [re.sub(r"[^\w.-]", "_", p) for p in parts.path.split("/") if p not in ("", ".", "..")]
    if parts.scheme not in ("http", "https") or not parts.netloc or not names:
        raise DownloadError(f"Cannot fetch {url!r}: expected an address like https://host/folder/file.")
    if parts.query:
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}-{names[-1]}"
    return (cache or cache_folder()).joinpath(re.sub(r"[^\w.-]", "_", parts.netloc.rpartition("@")[2]), *names)


def fetch(
    url: str,
    digest: str | None,
    *,
    cache: Path | None = None,
    check: Check | None = None,
    progress: bool | Report = True,
    timeout: float = 30.0,
    attempts: int = 4,
) -> Path:
    """The file at `url`, from the cache if it is there, else downloaded, checked and put there.

    digest: "sha256:" or "md5:" and the digits that are known (a prefix will do); None where the publisher gives none:
        see above for what is checked then, `check` being what reads the file and raises a MaskwrightError.
    progress: a bar on stderr (one line where stderr is no terminal), nothing, or a function that is called instead.
    timeout: seconds without any byte after which an attempt ends. attempts: connections to try, each going on from the
        bytes that are here.
    Raises DownloadError with the address, what was expected, what came and what to do. Calls of several processes or
    threads for one file wait for each other and download once.
    """
    place = cache_path(url, cache)
    expected = Digest.parse(digest) if digest is not None else None
    if place.is_file():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(place.parent, error) from error
    with _alone(place):
        if not place.is_file():
            with _reporter(progress, place.name) as report:
                _Download(url, place, expected or Unnamed(check), timeout, report).run(attempts)
    return place


class _Download:
    """One file on its way: `done` bytes are in `part`, beside `place`, and in the hash."""

    def __init__(self, url: str, place: Path, expected: Digest | Unnamed, timeout: float, report: Report) -> None:
        self.url, self.place, self.expected, self.timeout, self.report = url, place, expected, timeout, report
        self.redirects = _Redirects()
        self.part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
        self.done, self.validator = 0, ""
        self.total: int | None = None
        self.hash = self._new_hash()

    def run(self, attempts: int) -> None:
        """Download, check, move into place; the partial file is removed whatever happens."""
        try:
            with self.part.open("wb") as stream:
                for attempt in range(1, attempts + 1):
                    failure = self._attempt(stream)
                    if failure is None:
                        break
                    if attempt == attempts:
                        raise DownloadError(f"{failure} Tried {attempts} times. Check the connection and try again.")
                    time.sleep(0.5 * 2 ** (attempt - 1))
            self._check()
            self.part.replace(self.place)
        except OSError as error:
            if isinstance(error, DownloadError):
                raise
            raise _cannot_write(self.place.parent, error) from error
        finally:
            self.part.unlink(missing_ok=True)

    def _attempt(self, stream: BinaryIO) -> str | None:
        """One connection; None when all bytes are here, else what went wrong and may pass."""
        try:
            opener = urllib.request.build_opener(self.redirects)
            with opener.open(self._request(), timeout=self.timeout) as response:
                self._begin(response, stream)
                self._copy(response, stream)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:  # the server will not go on from here: begin again
                    self.validator, self.total = "", None
                    self._restart(stream)
                elif error.code not in _PASSING:
                    raise self._gone(error) from error
                return f"Cannot fetch {self.url}: the server answered {error.code} ({error.reason})."
        except (_DiskError, DownloadError):
            raise
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            return f"Cannot fetch {self.url}: {type(error).__name__}: {reason}; {self._so_far()}."
        if self.total is not None and self.done < self.total:
            return f"Cannot fetch {self.url}: the connection ended early; {self._so_far()}."
        return None

    def _request(self) -> urllib.request.Request:
        headers = {"User-Agent": "maskwright", "Accept-Encoding": "identity"}
        if self.done and (self.validator or isinstance(self.expected, Digest)):
            headers["Range"] = f"bytes={self.done}-"
            if self.validator:
                headers["If-Range"] = self.validator
        return urllib.request.Request(self.url, headers=headers)

    def _begin(self, response: http.client.HTTPResponse, stream: BinaryIO) -> None:
        """Read the answer's headers: go on from `done`, or begin again; see whether the disk has room."""
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        goes_on = response.status == 206 and span is not None and int(span[1]) == self.done
        if response.status == 206 and not goes_on:
            self._restart(stream)
            raise http.client.HTTPException("the server sent another part of the file than was asked for")
        if not goes_on:
            self._restart(stream)
            length = response.headers.get("Content-Length", "")
            self.total = int(length) if length.isdigit() else None
            tag = response.headers.get("ETag", "")
            self.validator = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
        if self.total is not None:
            free = shutil.disk_usage(self.place.parent).free
            if free < self.total - self.done:
                raise DownloadError(
                    f"Cannot fetch {self.url}: it has {_mb(self.total)}, the disk of {self.place.parent} has "
                    f"{_mb(free)} free. Make room, or set MASKWRIGHT_CACHE to another folder."
                )

    def _copy(self, response: http.client.HTTPResponse, stream: BinaryIO) -> None:
        while block := response.read1(_BLOCK):
            try:
                stream.write(block)
            except OSError as error:
                raise _DiskError(error.errno, error.strerror) from error
            self.hash.update(block)
            self.done += len(block)
            self.report(self.done, self.total)

    def _restart(self, stream: BinaryIO) -> None:
        if self.done:
            try:
                stream.seek(0)
                stream.truncate()
            except OSError as error:
                raise _DiskError(error.errno, error.strerror) from error
        self.done, self.hash = 0, self._new_hash()

    def _new_hash(self) -> "hashlib._Hash":
        algorithm = self.expected.algorithm if isinstance(self.expected, Digest) else "sha256"
        return hashlib.new(algorithm, usedforsecurity=False)

    def _check(self) -> None:
        found, expected = self.hash.hexdigest(), self.expected
        if isinstance(expected, Unnamed):
            self._check_unnamed(found, expected)
        elif not found.startswith(expected.digits):
            with self.part.open("rb") as stream:
                page = stream.read(64).lstrip().startswith(b"<")
            raise DownloadError(
                f"{self.url} is not the file that was published: {expected.algorithm} should begin with "
                f"{expected.digits}, found {found[: max(16, len(expected.digits))]} ({self.done} bytes"
                f"{', a web page' if page else ''}). It was thrown away. Try again; if it stays so, fetch the file "
                "another way and give its path."
            )

    def _check_unnamed(self, found: str, expected: Unnamed) -> None:
        """Compare with what the server announced and with an earlier download, read the file, remember its hash."""
        record = record_of(self.place)
        before = record.read_text(encoding="utf-8").split(maxsplit=1)[:1] if record.is_file() else []
        if (announced := self.redirects.announced) not in ("", found):
            raise DownloadError(
                f"{self.url} is not the file that its server announced: sha256 should be {announced}, found {found} "
                f"({self.done} bytes). It was thrown away. Try again."
            )
        if before not in ([], [found]):
            raise DownloadError(
                f"{self.url} is not the file that it was before: sha256 should be {before[0]}, as {record} has it, "
                f"found {found}. It was thrown away. If its publisher replaced it and you trust that, delete {record} "
                "and try again."
            )
        if expected.check is not None:
            try:
                expected.check(self.part)
            except MaskwrightError as error:
                reason = str(error).replace(str(self.part), self.place.name)
                raise DownloadError(
                    f"{self.url} was fetched, but cannot be used and was thrown away: {reason}"
                ) from error
        with replacing(record) as part:
            part.write_text(f"{found}  {self.place.name}\n", encoding="utf-8")

    def _gone(self, error: urllib.error.HTTPError) -> DownloadError:
        return DownloadError(
            f"Cannot fetch {self.url}: the server answered {error.code} ({error.reason}); expected the file. "
            "Check the address, or fetch the file another way and give its path."
        )

    def _so_far(self) -> str:
        return f"expected {self.total if self.total is not None else 'an unknown number of'} bytes, got {self.done}"


def record_of(place: Path) -> Path:
    """Where the sha256 of a fetched file without a publisher's hash is kept."""
    return place.with_name(f"{place.name}.sha256")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, and notes the sha256 that a hub announces in them."""

    announced = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        tag = headers.get("X-Linked-ETag", "").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            self.announced = tag
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _DiskError(OSError):
    """Writing failed, as opposed to the connection."""


def _cannot_write(folder: Path, error: OSError) -> DownloadError:
    reason = error.strerror or str(error)
    return DownloadError(
        f"Cannot write into the cache folder {folder}: {reason}. Make room or give access, or set MASKWRIGHT_CACHE "
        "to a folder that can be written."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold the lock of one cached file; on file systems without locks go on (each call has its own partial file)."""
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
def _reporter(progress: bool | Report, name: str) -> Iterator[Report]:
    """The function that is told the bytes: the caller's, a bar on stderr, or nobody."""
    console = Console(stderr=True)
    if callable(progress) or not progress:
        yield progress if callable(progress) else lambda done, total: None
        return
    if not console.is_terminal:
        console.print(f"Fetching {name} ...", highlight=False, soft_wrap=True)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=False)
    with bar if console.is_terminal else nullcontext():
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
