"""Files of other annotation tools that are not read, or as another format: what they are, and what to do."""

from typing import Any

_VIA = "a project or export of the VGG Image Annotator (VIA)"
_COCO = "Export COCO"


def named_tool(content: Any) -> str | None:
    """A sentence about parsed JSON of a known tool: what it is and what to export instead; None for anything else."""
    rows = list(content.values()) if isinstance(content, dict) else content if isinstance(content, list) else []
    keys, inner = set(content) if isinstance(content, dict) else set[str](), set(_first(rows))
    if "_via_img_metadata" in keys or {"filename", "regions"} <= inner:
        return f"this is {_VIA}. {_COCO} there (Annotation > Export Annotations (COCO format)), and give that file."
    if {"items", "categories"} <= keys and "images" not in keys:
        return f"this is a data set in Datumaro's own JSON. {_COCO} with it (format 'coco'), and give that folder."
    if isinstance(content, list) and {"annotation_id", "annotator", "lead_time"} & inner:
        return "this is Label Studio's short form (JSON-MIN), which lacks sizes. Export JSON or COCO there instead."
    if isinstance(content, list) and ("data_row" in inner or {"Labeled Data", "Label"} <= inner):
        return f"this is an export of Labelbox. {_COCO} from it, and give that file."
    if {"objects", "size", "tags"} <= keys:
        return f"this is an annotation of Supervisely, a file for each image. {_COCO} there, and give that file."
    if isinstance(content, list) and {"image", "annotations"} <= inner and not {"image_id", "score", "data"} & inner:
        return f"this is a list in CreateML's form, which has boxes alone. {_COCO} or YOLO instead."
    return None


def panoptic(content: Any) -> str | None:
    """A sentence about COCO's panoptic annotations where those of objects are expected; None for anything else."""
    if not isinstance(content, dict) or "segments_info" not in _first(content.get("annotations")):
        return None
    return "this is COCO's panoptic annotation ('segments_info'). Read it as the format 'coco_panoptic'."


def _first(rows: Any) -> dict[str, Any]:
    """The first object of a list; an empty one where there is none."""
    return next((row for row in (rows if isinstance(rows, list) else []) if isinstance(row, dict)), {})
