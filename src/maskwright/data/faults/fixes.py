"""The table of repairs: fault -> function. A fault that is not in it needs a person."""

from collections.abc import Mapping
from types import MappingProxyType

from maskwright.data.faults import fix_objects, fix_records
from maskwright.data.faults.draft import Fix

FIXES: Mapping[str, Fix] = MappingProxyType(
    {
        "id-as-text": fix_records.ids_as_numbers,
        "malformed-record": fix_records.drop_annotation,
        "image-id-clash": fix_records.merge_image_records,
        "annotation-id-clash": fix_records.renumber,
        "category-id-clash": fix_records.merge_same_class,
        "same-class-name": fix_records.merge_same_class,
        "unknown-category": fix_records.add_class,
        "unknown-image": fix_records.drop_annotation,
        "negative-id": fix_records.renumber,
        "annotation-id-zero": fix_records.renumber,
        "file-name-spelling": fix_records.spell,
        "bad-size": fix_records.size_of_image,
        "missing-image": fix_records.find_missing,
        "unreadable-image": fix_records.drop_image,
        "truncated-image": fix_records.drop_image,
        "in-train-and-val": fix_records.drop_shared,
        "duplicate-file-name": fix_records.merge_records,
        "duplicate-image": fix_records.drop_same_image,
        "exif-rotation": fix_records.turn,
        "exif-tag": fix_records.turn,
        "size-disagrees": fix_records.settle_size,
        "unsafe-file-name": fix_records.plain_name,
        "normalised-coordinates": fix_objects.to_pixels,
        "box-as-corners": fix_objects.corners_to_box,
        "no-geometry": fix_records.drop_annotation,
        "non-finite-coordinate": fix_objects.drop_polygons,
        "few-points": fix_objects.drop_polygons,
        "odd-count": fix_objects.drop_polygons,
        "bad-outline": fix_objects.drop_polygons,
        "rle-size": fix_objects.mend_lengths,
        "rle-length": fix_objects.mend_lengths,
        "bad-box": fix_objects.box_of_outline,
        "box-only-object": fix_objects.region_of_box,
        "bad-crowd": fix_objects.plain_crowd,
        "outline-outside": fix_records.drop_annotation,
        "box-outside": fix_objects.box_of_outline,
        "zero-area": fix_records.drop_annotation,
        "outline-beyond": fix_objects.redraw,
        "box-beyond": fix_objects.box_of_outline,
        "self-crossing": fix_objects.redraw,
        "crowd-as-polygon": fix_objects.redraw,
        "repeated-points": fix_objects.without_repeats,
        "box-mask-disagree": fix_objects.box_of_outline,
        "area-disagrees": fix_objects.count_area,
        "bad-area": fix_objects.count_area,
        "missing-field": fix_objects.fill_in,
        "keypoint-visibility": fix_objects.mend_keypoints,
        "keypoint-outside": fix_objects.mend_keypoints,
        "keypoint-number": fix_objects.mend_keypoints,
        "duplicate-object": fix_records.drop_annotation,
    }
)
"""In the order in which repairs are made: those that others depend on come first."""
