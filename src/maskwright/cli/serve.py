"""`maskwright serve`: Models behind HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.app import app
from maskwright.cli.options import Bits, Debug, Device, IntensityText, Precision, say


@app.command(
    epilog="""Examples:

`maskwright serve`

`maskwright serve --model nuclei --model runs/leaf/best.safetensors --port 8080`

`maskwright serve --host 0.0.0.0 --api-key-file keys.txt`

`curl --data-binary @cells.png http://127.0.0.1:8000/predict`

Needs `pip install 'maskwright[serve]'`. SIGTERM and Ctrl-C stop it when the requests that it has are answered. Of
several API keys each is good; one may also be in the variable MASKWRIGHT_API_KEY."""
)
def serve(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="A model to answer by, as in `maskwright predict`; again for more. The first is the default of "
            "requests; a file is called by its name without suffix.",
        ),
    ] = ["nuclei"],  # noqa: B006
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0: on all networks.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0: any free one.")] = 8000,
    queue: Annotated[
        int, typer.Option(min=0, metavar="N", help="Requests that may wait; more are refused with status 429.")
    ] = 16,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="Longest time of a request, waiting included.")
    ] = 60.0,
    max_bytes: Annotated[int, typer.Option(min=1, metavar="N", help="Largest body of a request.")] = 64 * 2**20,
    max_pixels: Annotated[int, typer.Option(min=1, metavar="N", help="Largest image, height x width.")] = 200_000_000,
    max_images: Annotated[int, typer.Option(min=1, metavar="N", help="Most images of a request.")] = 32,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="A web site whose pages may use the server, such as https://example.org; again for more.  "
            "[default: none]",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="API keys, one a line; requests need one of them.  [default: no keys]"),
    ] = None,
    intensity: IntensityText = None,
    bits: Bits = None,
    device: Device = "auto",
    precision: Precision = "float32",
    debug: Debug = False,
) -> None:
    """Answer HTTP requests: images in, instances out."""
    from maskwright.media import chosen_intensity
    from maskwright.predictor.load import load
    from maskwright.serving.serve import request_names, require_packages
    from maskwright.serving.serve import serve as run
    from maskwright.serving.settings import ServeOptions, read_keys

    require_packages()
    options = ServeOptions(
        host=host,
        port=port,
        queue=queue,
        timeout=timeout,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_images=max_images,
        cors=tuple(cors or ()),
        keys=read_keys(api_key_file),
    )
    names, how = request_names(model), chosen_intensity(intensity, bits)
    models = {name: load(given, intensity=how, device=device, precision=precision) for name, given in names.items()}
    run(models, options, say)
