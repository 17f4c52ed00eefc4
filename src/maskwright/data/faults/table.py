"""Every fault that `maskwright data check` knows, and a finding of one.

A new fault is one row here and one function in a module `..._checks`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from maskwright.errors import shortened

FileSection = Literal["images", "annotations", "categories", "file"]
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""error: training or evaluation fails or is wrong. warning: probably a mistake. note: good to know."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    summary: what is wrong. repair: what a repair does, empty where only a person can decide. advice: what a person can
    do. after: faults of the same record that explain this one, so that it is not reported beside them.
    """

    name: str
    severity: Severity
    summary: str
    repair: str = ""
    advice: str = ""
    after: frozenset[str] = frozenset()


def _of(severity: Severity) -> Callable[..., Fault]:
    def fault(name: str, summary: str, *, repair: str = "", advice: str = "", after: str = "") -> Fault:
        """after: names with spaces between them."""
        return Fault(name, severity, summary, repair, advice, frozenset(after.split()))

    return fault


error, warning, note = map(_of, SEVERITIES)

# ---- the file, its records, the images ------------------------------------------------------------------------------

FILE = (
    error("unreadable-annotations", "The annotations cannot be read at all, or a section of the file is missing.",
          advice="Export them again, or name their format."),
    error("malformed-record", "A record (a row, a line, a shape) cannot be read, or lacks a required field.",
          repair="annotations of this kind are left out", advice="Add the field or remove the record."),
    error("no-objects", "No object is annotated.",
          advice="Annotate the images; was the right file exported? Crowd regions are no objects."),
)  # fmt: skip

IDS = (
    error("image-id-clash", "Two image records have the same id.", repair="of equal records one is kept",
          advice="Give each image its own id, and its annotations with it."),
    error("annotation-id-clash", "Two annotations have the same id.", repair="the later one gets a new id"),
    error("category-id-clash", "Two classes have the same id.", repair="of equal classes one is kept",
          advice="Find out which class the annotations belong to, and give the classes different ids."),
    error("unknown-category", "An annotation names a class that the file does not list.",
          repair="the class is added under the name 'class ID', to be renamed", advice="Add the class."),
    error("unknown-image", "An annotation belongs to an image that the file does not list.",
          repair="the annotation is left out", advice="Add the image."),
    warning("id-as-text", "Ids are text, names or have a decimal point; other tools do not match them.",
            repair="they become whole numbers"),
    warning("negative-id", "An id is negative; tools use such numbers for 'none'.", repair="a new id"),
    warning("annotation-id-zero",
            "An annotation has the id 0: COCO's own evaluation counts a match with it as a miss.", repair="a new id"),
)  # fmt: skip

IMAGES = (
    error("bad-size", "Height or width of an image record is missing, not a positive whole number or absurdly large.",
          repair="taken from the image", advice="Write the image's size into its record."),
    error("missing-image", "The image file does not exist.",
          repair="renamed to the only file it can be; else left out with its objects, unless over half are missing",
          advice="Bring the file back, or give the right image folder."),
    error("file-name-spelling", "The image file exists under another spelling: case, accents, slashes, percent signs.",
          repair="the name becomes that of the file"),
    warning("unsafe-file-name",
            "A file name is absolute or leaves the image folder with '..'; the set cannot be moved.",
            repair="the copy has the image under a plain name"),
    error("duplicate-file-name",
          "Two image records name the same file, so the objects of one are background for the other.",
          repair="the records become one with the objects of both, if their sizes agree",
          advice="Correct the size of the wrong record.", after="image-id-clash"),
    error("unreadable-image", "The file is empty, not an image, or of a kind that is not read.",
          repair="the image and its objects are left out", advice="Export it again as PNG or JPEG."),
    error("truncated-image", "The image is cut off or damaged after a valid header.",
          repair="the image and its objects are left out", advice="Fetch the file again."),
    error("oversized-image", "The image has more pixels than are read (a guard against decompression bombs).",
          advice="Cut it into tiles."),
    error("exif-rotation", "The annotations were drawn before the image's EXIF rotation was applied.",
          repair="written as PNG without the tag, the pixels as they are stored"),
    error("size-disagrees", "The record states a size that is not the image's.",
          repair="outlines are scaled where the image was resized, or the record is corrected where they fit",
          advice="Find out whether the image was resized, cropped or replaced after it was annotated.",
          after="exif-rotation"),
    warning("exif-tag", "The image is turned by an EXIF tag, which many tools ignore.",
            repair="written upright without the tag, as PNG, where the annotated size is the upright one",
            advice="Look at the image with its annotations, turn its pixels and remove the tag.",
            after="exif-rotation size-disagrees"),
    warning("blank-image", "All pixels of the image are the same.", advice="Was the right image exported?"),
    warning("multi-frame-image", "The file holds several frames or pages; only the first is used.",
            advice="Write the frame that was annotated to a file of its own."),
    warning("dim-image", "A 16-bit image uses little of its range, so it is dark or flat where that is scaled.",
            advice="Choose an intensity where it is used: percentiles, or the bits of the camera."),
    warning("duplicate-image", "Two files hold the same image (same bytes, or same pixels).",
            repair="the later one is left out where both have the same annotations",
            advice="Keep one of them, with the better annotations."),
    note("empty-image", "An image has no objects; it is used as background.", advice="Fine if that is what it shows.",
         after="image-id-clash"),
    note("unlisted-image", "An image lies in the folder but not in the file.", advice="Annotate it or leave it."),
    note("alpha-channel", "The image has transparency; it is laid over white.", advice="Fine if white is right."),
    note("deep-image", "The image has more than 8 bits a channel; it is scaled to 8 by the model's intensity.",
         advice="Choose an intensity where signed or float values have a known black and white."),
    note("cut-depth", "The image has more than 8 bits a channel, of which 8 can be read.",
         advice="Write it as TIFF or PNG of 16 bits where the finer steps matter."),
    note("cmyk-image", "The image is in printing colours (CMYK).", advice="Convert it to RGB and look at it."),
    note("mixed-colour", "Some images are grey, others coloured.", advice="Fine if both kinds occur in use."),
    note("large-image", "The image is large; it is shrunk for training.",
         advice="Cut it into tiles where small objects matter."),
    note("wrong-suffix", "The file's suffix names another format than its content.",
         advice="Rename it where a tool needs that."),
)  # fmt: skip

# ---- objects --------------------------------------------------------------------------------------------------------

OUTLINES = (
    error("no-geometry", "An annotation has neither box nor outline.", repair="the annotation is left out"),
    error("number-as-text", "Numbers are written as text, or run lengths as b'...'.", repair="written as numbers",
          advice="Write them as numbers."),
    error("bad-box", "A box is not four numbers, or its width or height is negative.",
          repair="computed from the outline; without one the corners are sorted, or it is left out",
          after="number-as-text"),
    error("bad-outline", "An outline is not a list of polygons nor run lengths.",
          repair="pairs and bare rows of coordinates are rewritten; else a crowd region over its box, or left out",
          advice="Draw it again.", after="number-as-text"),
    error("non-finite-coordinate", "A coordinate is not a number, infinite or extremely large.",
          repair="the box is computed again, the polygon loses the point; of under 3 points as few-points",
          advice="Draw it again.", after="number-as-text"),
    error("few-points", "A polygon has fewer than three points.",
          repair="the polygon is removed; the last one becomes a crowd region over its box, or is left out",
          advice="Draw it again.", after="number-as-text"),
    error("odd-count", "A polygon has an odd number of coordinates.",
          repair="the last number is dropped where the rest fits the box; else as few-points", advice="Draw it again.",
          after="number-as-text"),
    error("rle-size", "Run lengths are for a size that is not the image's.",
          repair="the size is corrected where the mask then fits the box", advice="Make the mask again.",
          after="exif-rotation size-disagrees number-as-text"),
    error("rle-length", "Run lengths are damaged or do not add up to the image.",
          repair="a missing end is filled with background where that fits the box; else a crowd region over it",
          advice="Make the mask again.", after="number-as-text"),
    error("normalised-coordinates",
          "The coordinates of a box, an outline or keypoints lie in 0..1: they are fractions of the image, not pixels.",
          repair="multiplied by the image's width and height"),
    error("box-as-corners", "A box holds two corners (x1, y1, x2, y2) instead of x, y, width, height.",
          repair="written as x, y, width, height"),
    warning("exchanged-axes", "Objects lie outside their image but fit once x and y are exchanged.",
            advice="Look at the image; export again with x before y.", after="exif-rotation size-disagrees"),
    error("outline-outside", "An outline lies entirely outside its image.", repair="the annotation is left out",
          after="exchanged-axes"),
    error("box-outside", "A box lies entirely outside its image.",
          repair="computed from the outline; without one the annotation is left out",
          after="exchanged-axes outline-outside"),
    error("zero-area", "An object has no area: no pixel in its mask, or a box without width or height.",
          repair="the annotation is left out",
          after="number-as-text bad-box exchanged-axes outline-outside box-outside"),
    error("box-only-object",
          "An object has a box only, though others have masks; masks cannot be learned from the set.",
          repair="a crowd region gets run lengths of its box",
          advice="Draw its outline, or mark it as a crowd region.",
          after="number-as-text bad-outline non-finite-coordinate few-points odd-count rle-size rle-length"),
    error("bad-area", "'area' is not a number, or negative.",
          repair="the pixels of the mask are counted, or of the box", after="number-as-text"),
    error("bad-crowd", "'iscrowd' is neither 0 nor 1.", repair="true, false and text become 0 or 1",
          advice="Write 0 for an object, 1 for a crowd region."),
    error("keypoint-count", "The number of keypoints is not that of the class.",
          advice="Correct the class's list of keypoints or annotate again.", after="number-as-text"),
    error("keypoint-visibility", "A keypoint's visibility is not 0, 1 or 2, or a keypoint is not three numbers.",
          repair="0 where the point has no place, else 2", after="keypoint-count number-as-text"),
    warning("keypoint-outside", "An annotated keypoint lies outside the image.", repair="becomes 'not annotated'",
            after="keypoint-count"),
    warning("keypoint-number", "'num_keypoints' is not the number of annotated keypoints.", repair="counted again",
            after="number-as-text keypoint-count keypoint-visibility keypoint-outside"),
    warning("outline-beyond", "An outline reaches beyond its image by more than a pixel.", repair="cut at the border",
            after="exchanged-axes outline-outside"),
    warning("box-beyond", "A box reaches beyond its image by more than a pixel.",
            repair="computed from the outline or cut at the border",
            after="exchanged-axes outline-outside box-outside outline-beyond"),
    warning("self-crossing", "A polygon crosses itself.",
            repair="replaced by the exact outline of its mask, which stays the same", after="zero-area"),
    warning("box-mask-disagree", "The box is not that of the outline.", repair="computed from the outline",
            after="exchanged-axes outline-outside box-outside zero-area outline-beyond box-beyond"),
    warning("area-disagrees",
            "The stated area is neither that of the mask nor of the outline; it decides what counts as small or large.",
            repair="the pixels of the mask are counted",
            after="exchanged-axes outline-outside box-outside zero-area outline-beyond"),
    warning("crowd-as-polygon", "A crowd region has polygons; the COCO format has run lengths there.",
            repair="encoded"),
    note("missing-field", "'bbox', 'area' or 'iscrowd' is missing; other tools need it.", repair="filled in"),
    note("repeated-points", "A polygon has the same point twice in a row.",
         repair="removed where the mask stays the same", after="few-points zero-area self-crossing"),
    note("tiny-object", "An object has fewer than 4 pixels; it can hardly be learned.",
         advice="Remove specks; annotate larger images.", after="exchanged-axes outline-outside box-outside zero-area"),
)  # fmt: skip

SCENES = (
    warning("duplicate-object", "Two objects of one class cover the same pixels (IoU above 0.95).",
            repair="the later one is left out"),
    warning("two-classes-one-object", "Two objects of different classes cover the same pixels (IoU above 0.95).",
            advice="Keep the right class."),
    warning("whole-image-mask", "One object covers the whole image (99% of it or more).",
            advice="Is the background annotated, or the mask inverted?"),
    note("separate-pieces", "An object lies in four or more separate pieces.",
         advice="Fine where something lies across it; else give each piece an annotation of its own."),
    note("covered-object", "An object lies entirely inside another's mask.",
         advice="Fine where one object lies on the other."),
)  # fmt: skip

# ---- whole data sets ------------------------------------------------------------------------------------------------

SETS = (
    error("in-train-and-val", "The same image is in training and validation, so the measured accuracy is too high.",
          repair="left out of the training copy, unless that is more than half of it",
          advice="Is the validation set the same file?"),
    warning("near-duplicate-in-val", "Almost the same image is in training and validation.",
            advice="Split by scene, patient, plate or clip instead of by image.", after="in-train-and-val"),
    error("doubtful-objects", "The objects are probably no single things: masks of another kind were read as objects.",
          advice="Give each thing a value of its own and the background 0, or name the format 'foreground'. If each "
          "really is one object, nothing is wrong."),
    error("val-classes-differ", "Training and validation do not have the same classes.",
          advice="Use the same names and ids in both files."),
    warning("same-class-name", "Two classes have the same name.", repair="they become one"),
    warning("similar-class-names", "Two class names differ only in letter case, spaces, hyphens or underscores.",
            advice="Decide whether they are one class, and rename."),
    warning("crowd-regions", "Many annotations are crowd regions, though each is one thing; no model learns them.",
            advice="Set iscrowd to 0 where each is one object: some tools write 1 for every mask."),
    warning("class-without-objects", "A class has no objects, so it cannot be learned.",
            advice="Annotate it or remove it."),
    note("class-imbalance", "The most frequent class has over 100 times the objects of the rarest.",
         advice="Collect more of the rare class."),
    warning("rectangular-masks", "Most outlines are upright rectangles, that is, boxes.",
            advice="Draw outlines, or train a model of boxes."),
)  # fmt: skip

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {fault.name: fault for fault in (*FILE, *IDS, *IMAGES, *OUTLINES, *SCENES, *SETS)}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault in one place. at: the position in the file's list `section`. detail: facts for repairs and checks."""

    fault: str
    where: str
    message: str
    section: FileSection = "file"
    at: int = -1
    detail: Any = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", shortened(self.where))
        object.__setattr__(self, "message", shortened(self.message))

    @property
    def severity(self) -> Severity:
        return FAULTS[self.fault].severity

    def as_json(self) -> dict[str, Any]:
        """As JSON types."""
        known = {name: getattr(self, name) for name in ("fault", "severity", "where", "message", "section")}
        return {**known, "position": self.at if self.at >= 0 else None}
