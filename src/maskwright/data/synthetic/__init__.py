"""Images of textured, overlapping shapes with exact masks, landmarks, panoptic maps and motion.

simple     scene, coco_fixture: ellipses, stars and rings, for quick tests
kinds      the shapes, landmarks and colours of each class
ground     the stuff behind the objects
scenes     compose: a still Scene with its ground truth
clips      clip: scenes with tracks, a moving camera and exact flow
fixtures   all of these as data sets
"""

from maskwright.data.synthetic.clips import ClipScene as ClipScene
from maskwright.data.synthetic.clips import Motion as Motion
from maskwright.data.synthetic.clips import clip as clip
from maskwright.data.synthetic.fixtures import clips_fixture as clips_fixture
from maskwright.data.synthetic.fixtures import panoptic_fixture as panoptic_fixture
from maskwright.data.synthetic.fixtures import save_panoptic as save_panoptic
from maskwright.data.synthetic.fixtures import scenes_fixture as scenes_fixture
from maskwright.data.synthetic.scenes import Look as Look
from maskwright.data.synthetic.scenes import Scene as Scene
from maskwright.data.synthetic.scenes import compose as compose
from maskwright.data.synthetic.simple import class_names as class_names
from maskwright.data.synthetic.simple import coco_fixture as coco_fixture
from maskwright.data.synthetic.simple import scene as scene
