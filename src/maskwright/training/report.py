"""The page of a training run: its curves, and what its best weights reach."""

import sys
from pathlib import Path

from maskwright.data.dataset import Dataset
from maskwright.errors import MaskwrightError
from maskwright.evaluation.classes import of_stuff
from maskwright.evaluation.report import curves, report, setting, write
from maskwright.predictor.load import load
from maskwright.report import page
from maskwright.training.resolved import Resolved


def report_run(weights: Path, data: Dataset | None, settings: Resolved) -> Path | None:
    """Write `report.html` of a training run beside its weights, which are measured on `data` once more; gives its path.

    Where that fails the run has its weights nevertheless: the reason is printed on stderr, and None is returned.
    """
    path, what = weights.with_name("report.html"), str(weights.parent)
    asked = ["coco"]
    try:
        if data is None or not len(data):
            about = page.facts("Settings of the run", [(k, setting(v)) for k, v in settings.values().items()])
            write(path, what, "No images were held out to measure on.", [*curves(weights.parent), about])
            return path
        device = "cuda" if settings.compute.on_gpu else "cpu"
        predictor = load(weights, device=device)
        asked += ["nuclei"] if data.has_masks and predictor.draws_masks else []
        asked += of_stuff(data, predictor.detector.parts)
        report(
            path,
            predictor,
            data,
            title=what,
            config=settings.values(),
            metrics=asked,
            progress=False,
        )
    except (MaskwrightError, OSError) as error:
        print(f"The report {path} could not be written: {error}", file=sys.stderr)
        return None
    return path
