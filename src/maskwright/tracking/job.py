"""One video of a run: its frames are followed and written in segments, then the other files are made of the results."""

import hashlib
import os
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from maskwright import __version__
from maskwright.codec import encode
from maskwright.draw import MOST_LABELS
from maskwright.errors import ConfigError, ImageError
from maskwright.media.live import is_stream
from maskwright.media.video import VideoFrame, join_videos
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.options import intensity_of
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.session import TrackedFrame, VideoSession
from maskwright.predictor.timing import StageTimer, stage
from maskwright.results.prediction import MISSING, remedy
from maskwright.results.video import VideoResults, frame_line, head_line
from maskwright.runtimes.detector import RuntimeDetector
from maskwright.tracking.options import TrackRunOptions, VideoDone
from maskwright.tracking.outputs import KINDS
from maskwright.tracking.overlay import OverlayPieces
from maskwright.tracking.pipeline import Behind
from maskwright.tracking.sources import FrameSource, opened
from maskwright.tracking.work import SEGMENT, Work
from maskwright.tracking.writing import VideoRun
from maskwright.wording import counted

Progress = Callable[[int, int | None], None]
"""Called after each frame with the number of frames done, and of those in all where that is known."""


class Job:
    """One video of a run."""

    def __init__(
        self,
        predictor: Predictor,
        source: str,
        out: Path,
        number: int,
        options: TrackRunOptions,
        timer: StageTimer | None,
    ) -> None:
        self.predictor, self.source, self.out, self.number = predictor, source, out, number
        self.options, self.timer = options, timer
        self.work = Work(out)

    def check(self) -> None:
        """Refuse to replace results, finished or not."""
        if self.options.overwrite or self.options.resume:
            return
        places = [self.work.folder, *(self.out / KINDS[kind].place for kind in self.options.save)]
        if taken := [place for place in places if place.exists()]:
            raise ConfigError(
                f"{taken[0]} exists already. Name another folder, let it be replaced, or finish an interrupted run.",
                options=("out", "overwrite", "resume"),
            )

    def run(self, on_frame: Progress | None) -> VideoDone:
        """All of it."""
        done = VideoDone(self.source, self.out)
        finished = all((self.out / KINDS[kind].place).exists() for kind in self.options.save)
        if self.options.resume and finished and not self.work.folder.exists():
            done.notes.append("It was finished already.")
            return done
        again = self.options.resume and self.work.folder.exists()
        source = None
        if again:
            self.work.resume(self.settings())
        if not self.work.done and not (again and is_stream(self.source)):
            source = opened(self.source, intensity_of(self.predictor, self.options.find))
        if not again:
            self.work.begin(self.settings())
        try:
            if source is not None:
                self._follow(source, done, on_frame)
            self._finish(done)
        finally:
            self.work.close()
        return done

    def settings(self) -> dict[str, Any]:
        """What the results depend on."""
        p, options = self.predictor, self.options
        about = Path(self.source).stat() if os.path.isfile(self.source) else None
        return {
            "maskwright": __version__,
            "source": self.source if is_stream(self.source) else os.path.abspath(self.source),
            "size": about.st_size if about is not None else None,
            "model": [p.name, _digest(p), str(p.spec), p.precision, str(p.device)],
            "find": encode(options.find),
            "track": encode(options.track),
            "frames": [options.every, options.start, options.end],
            "overlay": [options.rate, options.colour] if "overlay" in options.save else None,
        }

    # ---- frames -------------------------------------------------------------------------------------------------

    def _follow(self, source: FrameSource, done: VideoDone, on_frame: Progress | None) -> None:
        """All frames that are not done yet."""
        track = replace(self.options.track, lookahead=self.options.track.lookahead and not source.live)
        session = VideoSession(self.predictor, self.options.find, track, self.timer)
        state, begun = self.work.state, time.perf_counter()
        if state:
            session.linker.resume(state["linker"])
        writer = _Writer(self, source.rate)
        first = writer.count
        try:
            self._frames(source, session, writer, on_frame)
        except KeyboardInterrupt:
            if not source.live:
                writer.drop()
                raise
            done.stopped = True
        except BaseException:
            writer.drop()
            raise
        if not writer.count:
            self.work.remove()
            raise ImageError(f"{self.source}: there is no frame to look at.")
        done.seconds, done.computed = time.perf_counter() - begun, writer.count - first
        notes = [f"{remark[0].upper()}{remark[1:].rstrip('.')}." for remark in source.remarks()]
        notes += ["It was stopped."] if done.stopped else []
        writer.save({"done": True, "notes": notes, "unread": bool(source.unread), "tracks": session.linker.born})

    def _frames(self, source: FrameSource, session: VideoSession, writer: "_Writer", on_frame: Progress | None) -> None:
        span, count = self.options.span, writer.count
        total = span.count(source.frames, source.rate)
        frames = source.read(replace(span, after=self.work.state.get("index", -1)))
        with closing(_timed(frames, self.timer)) as waited, Behind() as behind:
            begun = -1
            while count != begun and count % SEGMENT == 0:
                begun = count
                for tracked in session.run(islice(waited, SEGMENT)):  # so that a segment needs nothing of the next
                    behind.do(partial(writer.write, tracked))
                    index, count = tracked.frame.index, count + 1
                    if on_frame is not None:
                        on_frame(count, total)
                if count != begun and count % SEGMENT == 0:
                    state = {"index": index, "linker": session.linker.state, "tracks": session.linker.born}
                    behind.do(partial(writer.save, state))

    # ---- the other files ----------------------------------------------------------------------------------------

    def _finish(self, done: VideoDone) -> None:
        """Make of the results what was asked for, each file in one step, and remove the folder of the work."""
        state, work = self.work.state, self.work
        done.frames, done.tracks = state.get("frames", 0), state.get("tracks", 0)
        done.notes, done.unread = list(state.get("notes", ())), bool(state.get("unread"))
        work.close()
        if not done.frames:
            work.remove()
            raise ImageError(f"{self.source}: nothing was done before the run was interrupted.")
        if "labels" in self.options.save and done.tracks > MOST_LABELS:
            raise ConfigError(
                f"{self.source} has {done.tracks} tracks, and label images of 16 bits hold {MOST_LABELS}. Resume the "
                "run without labels; nothing has to be computed again.",
                options=("save",),
            )
        if work.frames.exists():
            results = VideoResults.open(work.frames)
            with stage(self.timer, "files"), ExitStack() as stack:
                chosen = [(k, KINDS[k].open, self.out / KINDS[k].place) for k in self.options.save]
                again = None if is_stream(self.source) else self._again
                every = (results, self.number, done.frames, done.notes, again)
                runs = [(make, VideoRun(place, *every)) for _, make, place in chosen if make]
                writers = [stack.enter_context(make(run)) for make, run in runs]
                limited, limits = 0, set[str]()
                for frame in results:
                    limited += "limits" in frame.document
                    limits.update(frame.document.get("limits", ()))
                    for write in writers:
                        write(frame)
            if limited:
                done.notes.append(f"{MISSING} in {counted(limited, 'frame')}. {remedy(limits)}")
            if "overlay" in self.options.save:
                join_videos(work.piece_files(), self.out / KINDS["overlay"].place)
            if "jsonl" in self.options.save:
                os.replace(work.frames, self.out / KINDS["jsonl"].place)
        work.remove()

    def _again(self) -> Generator[VideoFrame]:
        """The frames of the source once more."""
        return opened(self.source, intensity_of(self.predictor, self.options.find)).read(self.options.span)


class _Writer:
    """What the thread behind the network does: results and overlay of each frame, and the state after each segment.

    count: frames that are written.
    """

    def __init__(self, job: Job, rate: float | None) -> None:
        self.work, self.timer, self.source, self.rate = job.work, job.timer, job.source, rate
        self.count: int = self.work.state.get("frames", 0)
        self.pieces: OverlayPieces | None = None
        if "overlay" in job.options.save:
            state = self.work.state
            step = rate or job.options.rate
            before, colour = (state.get("pieces", 0), state.get("overlay")), job.options.colour
            self.pieces = OverlayPieces(self.work.pieces, step, *before, colour)

    def write(self, tracked: TrackedFrame) -> None:
        frame = tracked.frame
        about: dict[str, Any] = {"frame": self.count, "index": frame.index, "time": _rounded(frame), "key": tracked.key}
        about |= {"why": tracked.why} if tracked.key else {"key_frame": tracked.source}
        about |= {} if tracked.fit is None else {"fit": {k: round(v, 4) for k, v in asdict(tracked.fit).items()}}
        about |= {} if tracked.shifts is None else {"shifts": tracked.shifts.round(2).tolist()}
        about |= {"name": frame.name} if frame.name else {}
        about |= {"parents": dict(tracked.parents)} if tracked.parents else {}
        with stage(self.timer, "write"):
            head = head_line(tracked.found, self.source, self.rate) if self.count == 0 else ""
            self.work.write(head + frame_line(tracked.found, about))
        if self.pieces is not None:
            with stage(self.timer, "overlay"):
                self.pieces.write(tracked)
        self.count += 1

    def save(self, state: dict[str, Any]) -> None:
        """End the segment."""
        overlay = {}
        if self.pieces is not None:
            self.pieces.close()
            overlay = {"overlay": self.pieces.state}
        self.work.save({**state, **overlay, "frames": self.count})

    def drop(self) -> None:
        """Leave what is not complete."""
        if self.pieces is not None:
            self.pieces.drop()


def _timed(frames: Generator[VideoFrame], timer: StageTimer | None) -> Generator[VideoFrame]:
    """The frames; the time that is waited for them is a stage, all else of reading being hidden."""
    with closing(frames):
        while True:
            with stage(timer, "wait for frames"):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


def _rounded(frame: VideoFrame) -> float | None:
    return None if frame.time is None else round(frame.time, 6)


def _digest(predictor: Predictor) -> str:
    """Some of the model's weights, so that another model of the same name is recognised."""
    out = hashlib.sha256()
    if isinstance(predictor.detector, NetworkDetector):
        for tensor in predictor.detector.network.parameters():
            out.update(str(tensor.detach().flatten()[:16].tolist()).encode())
    elif isinstance(predictor.detector, RuntimeDetector):
        out.update(predictor.detector.content())
    return out.hexdigest()[:16]
