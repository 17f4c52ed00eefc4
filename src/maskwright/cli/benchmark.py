"""`maskwright benchmark`: models side by side on your images."""

import json
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.app import app
from maskwright.cli.options import Debug, Device, MaxInstances, Score, check_places, frame_progress, say


@app.command(
    epilog="""Examples:

`maskwright benchmark nuclei nuclei_fast nuclei@bf16 --images cells/`

`maskwright benchmark runs/leaf/best.safetensors leaf.onnx --images "photos/*.jpg" --turns 10 --page speed.html`

The models take turns, image by image, in one process, so that what else the machine does meets all alike. Times are of
an image from its file to the drawn overlay; the memory is the peak of a process of its own."""
)
def benchmark(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL[@PRECISION]", help="Names or files; @float32, @bf16 or @auto behind.")
    ],
    images: Annotated[list[str], typer.Option("--images", metavar="SOURCE", help="Files, folders, globs. Repeatable.")],
    turns: Annotated[int, typer.Option(min=1, help="How often each image is predicted.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor.  [default: as torch has them]")] = None,
    score: Score = None,
    max_instances: MaxInstances = None,
    device: Device = "auto",
    page: Annotated[Path | None, typer.Option("--page", metavar="FILE.html", help="Write a page with charts.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing page.")] = False,
    debug: Debug = False,
) -> None:
    """Compare the speed and memory of models, files and precisions on your images."""
    check_places({"--page": page}, overwrite)
    import torch

    from maskwright.atomic import replacing
    from maskwright.benchmark.compare import Candidate, compare
    from maskwright.predictor.options import FindOptions

    if threads is not None:
        torch.set_num_threads(threads)
    find = FindOptions(score_threshold=score, max_instances=max_instances)
    with frame_progress("benchmark") as move:
        found = compare([Candidate.of(m) for m in models], images, turns=turns, find=find, device=device, on_run=move)
    typer.echo(json.dumps(found.document(), indent=1) if as_json else found.text())
    if page is not None:
        from maskwright.benchmark.page import page as page_of

        with replacing(page) as part:
            part.write_text(page_of(found), encoding="utf-8")
        say(f"Page: {page}")
