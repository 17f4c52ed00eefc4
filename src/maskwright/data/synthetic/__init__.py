"""Images of textured, overlapping shapes with exact masks, landmarks, panoptic maps and motion.

simple     scene, coco_fixture: ellipses, stars and rings, for quick tests
kinds      the shapes, landmarks and colours of each class
ground     the stuff behind the objects
scenes     compose: a still Scene with its ground truth
clips      clip: scenes with tracks, a moving camera and exact flow
fixtures   all of these as data sets
"""

from maskwright.data.synthetic.clips import ClipScene, Motion, clip
from maskwright.data.synthetic.fixtures import clips_fixture, panoptic_fixture, save_panoptic, scenes_fixture
from maskwright.data.synthetic.scenes import Look, Scene, compose
from maskwright.data.synthetic.simple import class_names, coco_fixture, scene

__all__ = [
    "ClipScene",
    "Look",
    "Motion",
    "Scene",
    "class_names",
    "clip",
    "clips_fixture",
    "coco_fixture",
    "compose",
    "panoptic_fixture",
    "save_panoptic",
    "scene",
    "scenes_fixture",
]
