"""`maskwright track`: Follow the objects of videos."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from maskwright.cli.app import app
from maskwright.cli.options import (
    Colour,
    Debug,
    MaxInstances,
    OnlyClasses,
    Score,
    Tiles,
    frame_progress,
    joined,
    loader,
    mask_options,
    names,
    say,
    track_options,
)


@app.command(
    epilog="""Examples:

`maskwright track cells.mp4 --out tracks`

`maskwright track frames/ --model nuclei --divisions --save overlay,csv,ctc --out tracks`

`maskwright track camera:0 --model yolact_edge_vid_r50 --end 60s --out tracks`

`maskwright track long.mp4 --resume --out tracks`

Prints one line per video: source, frames, tracks, with tabs between. Ctrl-C ends a camera or a stream and writes what
came so far; a file is finished later with --resume. Exit code 1: some videos or frames could not be read; they are
listed, the others are done."""
)
@joined(load=loader, masks=mask_options, following=track_options)
def track(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Video files, folders or globs of videos or of frames, multi-page TIFFs, camera:0, addresses of "
            "streams (rtsp, udp, http, ...), or - for a pipe.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the results; of several videos a folder each."),
    ],
    load: Callable[[], Any],
    masks: dict[str, Any],
    following: Any,
    save: Annotated[
        list[str],
        typer.Option(
            metavar="KIND,...",
            help="What to write: jsonl (all results, a line per frame), overlay (video), csv (tracks), page (HTML: "
            "what was carried from key frames), coco (results with track ids), youtube-vis (results), labels (16-bit "
            "PNGs), ctc (Cell Tracking Challenge). Joined by commas, or given again.",
        ),
    ] = ["jsonl,csv,overlay"],  # noqa: B006
    score: Score = None,
    only: OnlyClasses = None,
    max_instances: MaxInstances = None,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Take every N-th frame.")] = 1,
    start: Annotated[
        str | None, typer.Option(metavar="PLACE", help="First frame: 250 (frames), 12.5s or 1:30 (time).")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="PLACE", help="Where to end, in the same way.")] = None,
    rate: Annotated[
        float, typer.Option(metavar="FPS", help="Frames per second of the overlay of sources without times.")
    ] = 10.0,
    colour: Colour = None,
    tiles: Tiles = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish what an interrupted run began.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Show how long each stage took.")] = False,
    debug: Debug = False,
) -> None:
    """Follow the objects of videos: outlines, identities and speeds, frame by frame."""
    from maskwright.predictor.options import FindOptions
    from maskwright.predictor.timing import StageTimer
    from maskwright.tracking.options import TrackRunOptions
    from maskwright.tracking.track import track_videos

    options = TrackRunOptions(
        save=save,
        find=FindOptions(score_threshold=score, classes=names(only), max_instances=max_instances, tiles=tiles, **masks),
        track=following,
        every=every,
        start=start,
        end=end,
        colour=colour,
        rate=rate,
        resume=resume,
        overwrite=overwrite,
    )
    timer, predictor = StageTimer() if timing else None, load()
    try:
        with frame_progress("track") as advance:
            result = track_videos(predictor, sources, out, options, advance, timer)
    except KeyboardInterrupt:
        say(f"What was done is in {out}; the same command with --resume finishes it.")
        raise
    for video in result.done:
        print(f"{video.source}\t{video.frames}\t{video.tracks}", flush=True)
    say(result.summary())
    if timer is not None:
        timer.count = sum(video.computed for video in result.done)
        say("Reading, computing and writing overlap:\n" + timer.report())
    if not result.complete:
        raise typer.Exit(1)
