"""Follow the objects of videos and write what was found, holding a few frames in memory."""

import os
from collections.abc import Sequence
from pathlib import Path

from maskwright.errors import ConfigError, ImageError
from maskwright.media.live import is_stream
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.session import VideoSession
from maskwright.predictor.timing import StageTimer
from maskwright.results.outputs import run_images
from maskwright.tracking.job import Job, Progress
from maskwright.tracking.options import TrackResult, TrackRunOptions
from maskwright.tracking.outputs import KINDS
from maskwright.tracking.sources import videos_of


def track_videos(
    predictor: Predictor,
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: TrackRunOptions | None = None,
    on_frame: Progress | None = None,
    timer: StageTimer | None = None,
) -> TrackResult:
    """Follow the objects of each video and write the chosen results into the folder `out`; of several videos each into
    a folder of its own in it.

    sources: video files, folders and patterns of videos or of images, stacks, cameras (`camera:0`), addresses of
    streams, `-` for a pipe (see `sources.videos_of`). Reading, computing and writing overlap. Ctrl-C ends a live source
    with what came so far, and leaves another to be resumed.
    Raises ConfigError before anything is read where an option is wrong or results exist already, ImageError where the
    only source cannot be read; of several the others are done.
    """
    options, out = options or TrackRunOptions(), Path(out)
    _check(predictor, options, out)
    videos = videos_of(sources)
    if not videos:
        raise ImageError("No source was given.")
    names = [image.name for image in run_images([v if is_stream(v) else Path(v) for v in videos])]
    places = [out] if len(videos) == 1 else [out / name for name in names]
    jobs = [Job(predictor, v, p, i, options, timer) for i, (v, p) in enumerate(zip(videos, places, strict=True), 1)]
    for job in jobs:
        job.check()
    result = TrackResult()
    for job in jobs:
        try:
            result.done.append(job.run(on_frame))
        except ImageError as error:
            if len(jobs) == 1:
                raise
            result.failed.append((job.source, str(error).removeprefix(f"{job.source}: ")))
    return result


def _check(predictor: Predictor, options: TrackRunOptions, out: Path) -> None:
    """Refuse before the first frame what cannot work."""
    VideoSession(predictor, options.find, options.track)
    lacking = [kind for kind in options.save if KINDS[kind].needs_masks]
    lacking += ["divisions"] if options.track.link.divisions else []
    if lacking and not predictor.draws_masks:
        raise ConfigError(
            f"{', '.join(lacking)} cannot be made without masks, and this model finds boxes only. Leave that out.",
            options=("save",),
        )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; results need a folder. Name another place.", options=("out",))
