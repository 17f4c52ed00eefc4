"""Pictures of textured, overlapping shapes whose masks, landmarks, panoptic maps and motion are known exactly."""

from maskwright.data.synthetic.simple import class_names, coco_fixture, scene

__all__ = ["class_names", "coco_fixture", "scene"]
