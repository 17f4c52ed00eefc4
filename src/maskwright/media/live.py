"""Cameras, network streams and pipes: videos that can be read once, as they come."""

import re
import sys
from typing import Any

from maskwright.errors import ConfigError, ImageError
from maskwright.media.frame import depth
from maskwright.media.intensity import Readings
from maskwright.media.video import Decoded, Video, VideoFrame
from maskwright.types import FULL, Intensity

PIPE = "-"
"""The name of standard input as a source."""

PROTOCOLS = ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "tcp", "rtp", "srt", "http", "https")

PATIENCE = 10.0
"""Seconds without an answer or a packet after which a stream is taken for broken off."""


def is_stream(source: str) -> bool:
    """Whether a source is a camera (`camera:0`, `/dev/video0`), the address of a stream, or `-`, a pipe."""
    camera = re.fullmatch(r"camera:\d+|/dev/video\d+", source)
    return source == PIPE or camera is not None or (source.lower().partition("://")[0] in PROTOCOLS and "://" in source)


class Stream(Video):
    """A camera, a network stream or a pipe, to be iterated over once; see `is_stream`.

    live: whether frames come at their own pace, so that a frame is lost where it is not waited for; not so a pipe, and
    a file behind an http(s) address, which says how long it is. patience: see `PATIENCE`.
    A stream that breaks off ends: `broken` says why. Raises ImageError where nothing answers, or what does is no video;
    at its first frame ConfigError for an intensity of the whole video, which is not known, where that has a meaning.
    """

    def __init__(
        self,
        address: str,
        patience: float = PATIENCE,
        intensity: Intensity = FULL,
        told: Readings | None = None,
    ) -> None:
        self.address, self.patience, self.told = address, patience, told
        self.intensity = self.applied = intensity
        self.path = re.sub(r"//[^/@]*@", "//", address)  # a password is not for files and messages
        self._reset(None)
        self._held = self._connected()
        self._describe(self._held, self._stream(self._held))
        remote = address.lower().startswith(("http://", "https://"))
        self.live = address != PIPE and not (remote and self._held.duration)
        if self.live:
            self.frames = None

    def _connected(self) -> Any:
        if self.address == PIPE:
            return self._open(sys.stdin.buffer)
        camera = re.fullmatch(r"(?:camera:|/dev/video)(\d+)", self.address)
        if camera is None:
            options = {"rtsp_transport": "tcp"} if self.address.lower().startswith("rtsp") else {}
            return self._open(self.address, timeout=self.patience, options=options)
        if not sys.platform.startswith("linux"):
            raise ConfigError(
                f"{self.address}: cameras are read on Linux alone. Elsewhere let a program that reads the camera send "
                "a stream, and give its address, or a pipe."
            )
        return self._open(f"/dev/video{camera[1]}", format="v4l2")

    def _container(self) -> Any:
        if self._held is None:
            raise ImageError(f"{self.path}: a stream can be read once.")
        held, self._held = self._held, None
        return held

    def _measured(self) -> Intensity:
        return self.intensity

    def shown(self, decoded: Decoded) -> VideoFrame:
        if self.intensity.per == "video" and depth(decoded.frame.format) > 8:
            raise ConfigError(
                f"{self.path}: percentiles of a whole video need its frames twice, and a stream gives them once. "
                "Choose values:LOW..HIGH, or percentiles of each frame.",
                options=("intensity",),
            )
        return super().shown(decoded)

    def close(self) -> None:
        """Give the source back where it was not read."""
        if self._held is not None:
            self._held.close()
