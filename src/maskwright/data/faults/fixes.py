"""The table of repairs: fault -> function. A fault that is not in it needs a person."""

from collections.abc import Mapping
from types import MappingProxyType

from maskwright.data.faults import fix_objects, fix_records
from maskwright.data.faults.draft import Fix

_ROWS: tuple[tuple[Fix, str], ...] = (
    (fix_records.ids_as_numbers, "id-as-text"),
    (fix_records.drop_annotation, "malformed-record"),
    (fix_records.merge_same, "image-id-clash"),
    (fix_records.renumber, "annotation-id-clash"),
    (fix_records.merge_same, "category-id-clash same-class-name"),
    (fix_records.add_class, "unknown-category"),
    (fix_records.drop_annotation, "unknown-image"),
    (fix_records.renumber, "negative-id annotation-id-zero"),
    (fix_records.spell, "file-name-spelling"),
    (fix_records.size_of_image, "bad-size"),
    (fix_records.find_missing, "missing-image"),
    (fix_records.drop_image, "unreadable-image truncated-image"),
    (fix_records.drop_shared, "in-train-and-val"),
    (fix_records.merge_same, "duplicate-file-name"),
    (fix_records.drop_same_image, "duplicate-image"),
    (fix_records.turn, "exif-rotation exif-tag"),
    (fix_records.settle_size, "size-disagrees"),
    (fix_records.plain_name, "unsafe-file-name"),
    (fix_objects.write_numbers, "number-as-text"),
    (fix_objects.to_pixels, "normalised-coordinates"),
    (fix_objects.corners_to_box, "box-as-corners"),
    (fix_records.drop_annotation, "no-geometry"),
    (fix_objects.drop_polygons, "non-finite-coordinate few-points odd-count bad-outline"),
    (fix_objects.mend_lengths, "rle-size rle-length"),
    (fix_objects.box_of_outline, "bad-box"),
    (fix_objects.region_of_box, "box-only-object"),
    (fix_objects.plain_crowd, "bad-crowd"),
    (fix_records.drop_annotation, "outline-outside"),
    (fix_objects.box_of_outline, "box-outside"),
    (fix_records.drop_annotation, "zero-area"),
    (fix_objects.redraw, "outline-beyond"),
    (fix_objects.box_of_outline, "box-beyond"),
    (fix_objects.redraw, "self-crossing crowd-as-polygon"),
    (fix_objects.without_repeats, "repeated-points"),
    (fix_objects.box_of_outline, "box-mask-disagree"),
    (fix_objects.count_area, "area-disagrees bad-area"),
    (fix_objects.fill_in, "missing-field"),
    (fix_objects.mend_keypoints, "keypoint-visibility keypoint-outside keypoint-number"),
    (fix_records.drop_annotation, "duplicate-object"),
)
"""Each repair and its faults, in the order in which repairs are made: those that others depend on come first."""

FIXES: Mapping[str, Fix] = MappingProxyType({fault: fix for fix, faults in _ROWS for fault in faults.split()})
