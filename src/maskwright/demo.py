"""`python -m maskwright.demo --out demo`: outline the nuclei of a real microscopy image.

The image, stained colon tissue, comes with scikit-image (the `demo` extra). Its blue stain, which marks nuclei, is
separated from the brown one by colour and rendered like fluorescence, the kind that the model has seen most. The
weights are in this package.

With `--track` it follows the nuclei of a video that it generates.
"""

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.errors import MaskwrightError, MissingExtraError

if TYPE_CHECKING:
    from maskwright.results.prediction import Prediction


SCORE = 0.4
"""Score threshold, lower than the model's default: it was not trained on this stain, so its scores are lower."""

FRAMES = 40
"""Of the generated video."""

BRIGHT = 200
"""Grey value of the strongest stain."""


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and run `outline`."""
    parser = argparse.ArgumentParser(prog="python -m maskwright.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.add_argument("--track", action="store_true", help="follow the nuclei of a generated video instead")
    chosen = parser.parse_args(arguments)
    try:
        follow(chosen.out) if chosen.track else outline(chosen.out)
    except MaskwrightError as error:
        parser.exit(2, f"error: {error}\n")


def outline(out: Path) -> None:
    """Outline the nuclei, write overlay and JSON into the folder `out` (made if missing), and print a summary."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch is imported: see cli.main
    from maskwright.media import write_image
    from maskwright.predictor.load import load

    image = nuclei_image()
    predictor = load("nuclei")
    start = time.perf_counter()
    prediction = predictor.predict(blue_stain(image), score_threshold=SCORE)
    seconds = time.perf_counter() - start
    out.mkdir(parents=True, exist_ok=True)
    overlay, result = out / "nuclei_overlay.png", out / "nuclei.json"
    write_image(overlay, prediction.draw(image))
    prediction.save(result, image="skimage.data.immunohistochemistry()")
    print(found(prediction, seconds))
    print(f"Overlay: {overlay}\nJSON:    {result}")


def follow(out: Path) -> None:
    """Generate a video of moving nuclei, follow them, write what was found beside it, and print a summary."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from maskwright.data.synthetic.nuclei import moving_nuclei
    from maskwright.media.video import write_video
    from maskwright.predictor.load import load
    from maskwright.predictor.track_options import TrackOptions
    from maskwright.tracking.options import TrackRunOptions
    from maskwright.tracking.track import track_videos

    out.mkdir(parents=True, exist_ok=True)
    video = out / "nuclei.mp4"
    with write_video(video, 10) as writer:
        for image, _ in moving_nuclei(2, FRAMES, 1.0):
            writer.write(image)
    options = TrackRunOptions(
        ("overlay", "csv", "page"), track=TrackOptions(mode="fast", key_frames="adaptive"), overwrite=True
    )
    print(track_videos(load("nuclei_fast"), [video], out / "tracks", options).summary())
    for name in ("overlay.mp4", "tracks.csv", "page.html"):
        print(out / "tracks" / name)


def nuclei_image() -> Any:
    """The (512, 512, 3) uint8 RGB image; raises MissingExtraError if scikit-image is not installed."""
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError("scikit-image", "demo", "The demo image") from error
    return data.immunohistochemistry()


def blue_stain(image: Any) -> Any:
    """The haematoxylin of a haematoxylin-DAB image (H, W, 3) as grey uint8 (H, W, 3), bright where there is much.

    Colour deconvolution (Ruifrok and Johnston 2001), smoothed by a Gaussian of one pixel; scaled so that the 40th
    percentile becomes black and the 99.7th `BRIGHT`, the typical brightness of nuclei in fluorescence.
    """
    import numpy as np
    from scipy.ndimage import gaussian_filter
    from skimage.color import rgb2hed

    amount = gaussian_filter(rgb2hed(image)[..., 0], 1.0)
    low, high = np.percentile(amount, [40, 99.7])
    grey = np.clip((amount - low) / (high - low), 0, 1) * BRIGHT
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def found(prediction: "Prediction", seconds: float) -> str:
    """One sentence: number of nuclei, mean area, seconds."""
    masks = prediction.crops
    mean = float(masks.areas().mean()) if masks is not None and len(masks) else 0.0
    height, width = prediction.size
    return (
        f"Found {len(prediction)} nuclei in a {width} x {height} image, mean area {mean:.0f} pixels, "
        f"in {seconds:.2f} s."
    )


if __name__ == "__main__":
    main()
