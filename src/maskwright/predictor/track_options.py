"""What a caller may choose when a video is followed. The command line makes its options of these fields and of what is
said of them here, so this module imports nothing that takes long."""

from dataclasses import dataclass, field
from typing import Literal

from maskwright.codec import Section, ranged


@dataclass(frozen=True)
class LinkOptions(Section):
    """How instances become tracks.

    overlap: least IoU of masks, or of boxes, of one object in two frames. memory: frames for which an object that is
    not found is remembered. vote: an instance gets the class that its track had most, by the sum of scores. divisions:
    two instances where one was before are its daughters, as of a cell that divides; needs masks.
    """

    overlap: float = ranged(0.3, low=0, high=1, open_low=True)
    memory: int = ranged(15, low=0, high=10**6)
    vote: bool = True
    divisions: bool = False


@dataclass(frozen=True)
class TrackOptions(Section):
    """How the frames of a video are worked on.

    interval: frames from one key frame, which goes through the whole network, to the next; where key frames are
    adaptive, the most; None: as the model or the mode has it. mode: "frames" runs the whole network on every frame;
    "faithful" carries features from key frames, as YolactEdge does; "fast" carries the instances of key frames, each
    moved by its own motion, with any model; "auto" is "faithful" for models that carry features and "frames" for the
    others. key_frames: "fixed" at the interval, or "adaptive" where what is carried no longer fits; a scene cut and a
    frame of another size are always key frames. lookahead: in mode "fast" a key frame also serves the frames before it,
    which wait for it, half the interval at most; live sources never wait. link: how instances become tracks.
    """

    interval: int | None = ranged(None, low=1, high=10**6)
    mode: Literal["auto", "frames", "faithful", "fast"] = "auto"
    key_frames: Literal["fixed", "adaptive"] = "fixed"
    lookahead: bool = True
    link: LinkOptions = field(default_factory=LinkOptions)
