"""The faults of annotated objects: entries of `table.FAULTS`."""

from maskwright.data.faults.fault import error, note, warning

OUTLINES = (
    error("no-geometry", "An annotation has neither box nor outline.", repair="the annotation is left out"),
    error(
        "bad-box",
        "A box is not four numbers, or its width or height is negative.",
        repair="computed from the outline; without one the corners are sorted, or it is left out",
    ),
    error(
        "bad-outline",
        "An outline is not a list of polygons nor run lengths.",
        repair="pairs and bare rows of coordinates are rewritten; else a crowd region over its box, or left out",
        advice="Draw it again.",
    ),
    error(
        "non-finite-coordinate",
        "A coordinate is not a number, infinite or extremely large.",
        repair="the box is computed again, the polygon loses the point; of under 3 points as few-points",
        advice="Draw it again.",
    ),
    error(
        "few-points",
        "A polygon has fewer than three points.",
        repair="the polygon is removed; the last one becomes a crowd region over its box, or is left out",
        advice="Draw it again.",
    ),
    error(
        "odd-count",
        "A polygon has an odd number of coordinates.",
        repair="the last number is dropped where the rest fits the box; else as few-points",
        advice="Draw it again.",
    ),
    error(
        "rle-size",
        "Run lengths are for a size that is not the image's.",
        repair="the size is corrected where the mask then fits the box",
        advice="Make the mask again.",
        after="exif-rotation size-disagrees",
    ),
    error(
        "rle-length",
        "Run lengths are damaged or do not add up to the image.",
        repair="a missing end is filled with background where that fits the box; else a crowd region over it",
        advice="Make the mask again.",
    ),
    error(
        "normalised-coordinates",
        "All coordinates lie in 0..1: they are fractions of the image, not pixels.",
        repair="multiplied by the image's width and height",
    ),
    error(
        "box-as-corners",
        "A box holds two corners (x1, y1, x2, y2) instead of x, y, width, height.",
        repair="written as x, y, width, height",
    ),
    warning(
        "exchanged-axes",
        "Objects lie outside their image but fit once x and y are exchanged.",
        advice="ImageLook at the image; export again with x before y.",
        after="exif-rotation size-disagrees",
    ),
    error(
        "outline-outside",
        "An outline lies entirely outside its image.",
        repair="the annotation is left out",
        after="exchanged-axes",
    ),
    error(
        "box-outside",
        "A box lies entirely outside its image.",
        repair="computed from the outline; without one the annotation is left out",
        after="exchanged-axes outline-outside",
    ),
    error(
        "zero-area",
        "An object has no area: no pixel in its mask, or a box without width or height.",
        repair="the annotation is left out",
        after="bad-box exchanged-axes outline-outside box-outside",
    ),
    error(
        "box-only-object",
        "An object has a box only, though others have masks; masks cannot be learned from the set.",
        repair="a crowd region gets run lengths of its box",
        advice="Draw its outline, or mark it as a crowd region.",
        after="bad-outline non-finite-coordinate few-points odd-count rle-size rle-length",
    ),
    error(
        "bad-area",
        "'area' is not a number, or negative.",
        repair="the pixels of the mask are counted, or of the box",
    ),
    error(
        "bad-crowd",
        "'iscrowd' is neither 0 nor 1.",
        repair="true, false and text become 0 or 1",
        advice="Write 0 for an object, 1 for a crowd region.",
    ),
    error(
        "keypoint-count",
        "The number of keypoints is not that of the class.",
        advice="Correct the class's list of keypoints or annotate again.",
    ),
    error(
        "keypoint-visibility",
        "A keypoint's visibility is not 0, 1 or 2, or a keypoint is not three numbers.",
        repair="0 where the point has no place, else 2",
        after="keypoint-count",
    ),
    warning(
        "keypoint-outside",
        "An annotated keypoint lies outside the image.",
        repair="becomes 'not annotated'",
        after="keypoint-count",
    ),
    warning(
        "keypoint-number",
        "'num_keypoints' is not the number of annotated keypoints.",
        repair="counted again",
        after="keypoint-count keypoint-visibility keypoint-outside",
    ),
    warning(
        "outline-beyond",
        "An outline reaches beyond its image by more than a pixel.",
        repair="cut at the border",
        after="exchanged-axes outline-outside",
    ),
    warning(
        "box-beyond",
        "A box reaches beyond its image by more than a pixel.",
        repair="computed from the outline or cut at the border",
        after="exchanged-axes outline-outside box-outside outline-beyond",
    ),
    warning(
        "self-crossing",
        "A polygon crosses itself.",
        repair="replaced by the exact outline of its mask, which stays the same",
        after="zero-area",
    ),
    warning(
        "box-mask-disagree",
        "The box is not that of the outline.",
        repair="computed from the outline",
        after="exchanged-axes outline-outside box-outside zero-area outline-beyond box-beyond",
    ),
    warning(
        "area-disagrees",
        "The stated area is neither that of the mask nor of the outline; it decides what counts as small or large.",
        repair="the pixels of the mask are counted",
        after="exchanged-axes outline-outside box-outside zero-area outline-beyond",
    ),
    warning(
        "crowd-as-polygon",
        "A crowd region has polygons; the COCO format has run lengths there.",
        repair="encoded",
    ),
    note("missing-field", "'bbox', 'area' or 'iscrowd' is missing; other tools need it.", repair="filled in"),
    note(
        "repeated-points",
        "A polygon has the same point twice in a row.",
        repair="removed where the mask stays the same",
        after="few-points zero-area self-crossing",
    ),
    note(
        "tiny-object",
        "An object has fewer than 4 pixels; it can hardly be learned.",
        advice="Remove specks; annotate larger images.",
        after="exchanged-axes outline-outside box-outside zero-area",
    ),
)

SCENES = (
    warning(
        "duplicate-object",
        "Two objects of one class cover the same pixels (IoU above 0.95).",
        repair="the later one is left out",
    ),
    warning(
        "two-classes-one-object",
        "Two objects of different classes cover the same pixels (IoU above 0.95).",
        advice="Keep the right class.",
    ),
    warning(
        "whole-image-mask",
        "One object covers the whole image (99% of it or more).",
        advice="Is the background annotated, or the mask inverted?",
    ),
    note(
        "covered-object",
        "An object lies entirely inside another's mask.",
        advice="Fine where one object lies on the other.",
    ),
)
