"""Ground truth of the Cell Tracking Challenge, as folders of one data set:

    01/t000.tif ...     01_GT/TRA/man_track000.tif ...  and man_track.txt     02/ ...
                        01_GT/SEG/man_seg000.tif ...    for all or some frames, or not at all

The annotations are those of TRA, which may be but markers of the cells; SEG has their outlines, under labels of its own
(`Dataset.outline_maps`). The table is described in `tracks`. The field "parent" of an annotation has the track from
which its own came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats.ctc.tracks import frames_of, numbered, read_table, values_of
from maskwright.data.formats.shared.fields import Faults, box_tuple, noted
from maskwright.data.formats.shared.image_files import require_folder
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.outlines import label_masks
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Clip, Frame, Masks
from maskwright.wording import counted

TRUTH, TABLE = "_GT", "man_track.txt"
CLASS = "cell"


def recognise(place: Path) -> bool:
    """A folder with 01_GT/TRA/man_track.txt, or 01_GT itself."""
    return bool(_sequences(place))


def _sequences(place: Path) -> list[Path]:
    """The folders of ground truth, 01_GT and so on."""
    if not place.is_dir():
        return []
    folders = [place] if place.name.endswith(TRUTH) else sorted(place.glob(f"*{TRUTH}"))
    return [folder for folder in folders if (folder / "TRA" / TABLE).is_file()]


@dataclass(frozen=True)
class Outlines:
    """Reads the masks of SEG. files: by the id of the image."""

    files: Mapping[int, Path]

    def __call__(self, record: ImageRecord) -> Masks | None:
        """Those of an image, None where it has none. Raises DataError for an image of another size."""
        path = self.files.get(record.id)
        if path is None:
            return None
        masks = label_masks(values_of(path))[1]
        if masks.size != record.size:
            raise DataError(f"{path}: is {masks.size} (H, W), the tracks of this frame are {record.size}.")
        return masks


@dataclass
class _Found:
    """What was read so far."""

    records: list[ImageRecord] = field(default_factory=list)
    annotations: dict[int, tuple[Annotation, ...]] = field(default_factory=dict)
    outlines: dict[int, Path] = field(default_factory=dict)
    bare: list[str] = field(default_factory=list)
    tracks: int = 0
    objects: int = 0


def load(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read all videos of a folder, or one 01_GT.

    images: the folder of the images' folders 01, 02 ..., where it is another. Frames are numbered as the files are, and
    tracks of later videos go on from the highest label of the ones before. Raises DataError, naming the file, where
    images and table disagree. faults: gets those of videos, images and tracks, which are then left out.
    """
    require_folder(images, place)
    sequences, found = _sequences(place), _Found()
    if not sequences:
        raise DataError(f"{place}: expected 01_GT/TRA/{TABLE}, found none.")
    root = images or sequences[0].parent
    for number, folder in enumerate(sequences, 1):
        with noted(faults):
            _read_video(folder, Clip(number, folder.name.removesuffix(TRUTH)), root, found, faults)
    notes = sentence(len(found.bare), "image{s} without an image of tracks left out", found.bare)
    if found.outlines:
        outlined = counted(len(found.outlines), "image")
        notes += (f"The objects are the masks of TRA, maybe but markers; outlines (SEG) of {outlined}.",)
    outlines = Outlines(found.outlines) if found.outlines else None
    return Dataset(Classes([CLASS]), tuple(found.records), found.annotations, root, place, notes, outline_maps=outlines)


def _read_video(folder: Path, clip: Clip, root: Path, found: _Found, faults: Faults) -> None:
    table, files = folder / "TRA" / TABLE, numbered(folder / "TRA", "man_track")
    if not files:
        raise DataError(f"{folder / 'TRA'}: found no man_track000.tif, only {TABLE}.")
    spans = read_table(table, faults)
    outlines, stills = numbered(folder / "SEG", "man_seg"), numbered(root / clip.name, "t")
    found.bare += [f"{clip.name}/{path.name}" for number, path in stills.items() if number not in files]
    for number, labels, masks in frames_of(files, spans, table, faults):
        digits = files[number].stem.removeprefix("man_track")
        name = stills[number].name if number in stills else f"t{digits}.tif"
        record = ImageRecord(len(found.records) + 1, f"{clip.name}/{name}", masks.size, {}, Frame(clip, number))
        found.records.append(record)
        if number in outlines:
            found.outlines[record.id] = outlines[number]
        rows = []
        objects = zip(labels.tolist(), masks.boxes(), mask_ops.encode(masks), masks.areas().tolist(), strict=True)
        for label, box, rle, area in objects:
            found.objects += 1
            parent = spans[label].parent
            rows.append(
                Annotation(
                    id=found.objects,
                    image_id=record.id,
                    label=0,
                    box=box_tuple(box),
                    segmentation=rle,
                    area=float(area),
                    track_id=found.tracks + label,
                    extra={"parent": found.tracks + parent} if parent else {},
                    place=f"{files[number]}: track {label}",
                )
            )
        found.annotations[record.id] = tuple(rows)
    found.tracks += max(spans, default=0)
