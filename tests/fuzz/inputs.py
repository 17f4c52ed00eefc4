"""Small sound inputs for every reader: data sets that we write, and by hand what we read but do not write."""

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright import media
from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.formats.shared.fields import box_to_xywh
from maskwright.data.synthetic import clips_fixture, coco_fixture, panoptic_fixture, scenes_fixture
from maskwright.ops import masks as mask_ops
from maskwright.results.prediction import Prediction
from maskwright.training import settings
from maskwright.training.config import TrainConfig

SIZE = (24, 32)


@dataclass(frozen=True)
class Case:
    """A sound input. place: what is read. damaged: the files of it that are damaged. format: of a data set."""

    place: Path
    damaged: Sequence[Path]
    format: str = ""


def alone(path: Path) -> Case:
    """One file."""
    return Case(path, [path])


# ---- data sets that we write ----------------------------------------------------------------------------------------


def still(folder: Path) -> Dataset:
    """Polygons, run lengths, a crowd, an image without objects."""
    return formats.load(coco_fixture(folder, 1, images=3, size=SIZE, objects=3), folder / "images")


def points(folder: Path) -> Dataset:
    """Outlines with landmarks."""
    return scenes_fixture(folder, 2, images=2, size=SIZE, objects=2, classes=2)


def scenes(folder: Path) -> Dataset:
    """Panoptic maps of things and stuff."""
    return formats.load(panoptic_fixture(folder, 4, images=2, size=SIZE, objects=2, classes=2), folder / "images")


def pose(folder: Path) -> Dataset:
    """Boxes with landmarks, equally many for each class."""
    data = scenes_fixture(folder, 2, images=2, size=SIZE, objects=2, classes=1)
    bare = {i: tuple(replace(a, segmentation=None) for a in own if not a.crowd) for i, own in data.annotations.items()}
    return replace(data, annotations=bare)


def clips(folder: Path) -> Dataset:
    """Two clips of three frames, with tracks."""
    return clips_fixture(3, folder, clips=2, frames=3, size=SIZE, objects=2, classes=2)


def written(format: str, patterns: Sequence[str], *sets: Callable[[Path], Dataset]) -> Callable[[Path], list[Case]]:
    """Writes data sets as `format`; the files that fit a pattern are damaged, one named twice twice as often."""

    def cases(folder: Path) -> list[Case]:
        found = []
        for k, one in enumerate(sets):
            place = folder / f"set{k}"
            formats.save(place, one(folder / f"source{k}"), format)
            found.append(Case(place, matching(place, patterns), format))
        return found

    return cases


def foreground(folder: Path) -> list[Case]:
    """Label images, to be read as masks of classes."""
    return [replace(case, format="foreground") for case in written("masks", ["masks/*.png"], still)(folder)]


def matching(place: Path, patterns: Sequence[str]) -> list[Path]:
    """The files below a folder that fit, those of each pattern in turn."""
    return [path for pattern in patterns for path in sorted(place.glob(pattern))]


def tables(folder: Path) -> list[Case]:
    """Lists of classes, images and objects beside the annotations; only those are damaged."""
    data, made = still(folder / "source"), []
    names = "\n".join(data.classes.names) + "\n"
    for name, file, text in (
        ("masks", "classes.txt", names),
        ("dsb2018", "classes.txt", names),
        ("voc", "class_names.txt", "_background_\n" + names),
        ("labelme", "labels.txt", "__ignore__\n" + names),
        ("yolo", "classes.txt", names),
    ):
        place = folder / name
        formats.save(place, data, name)
        (place / file).write_text(text)
        if name == "yolo":
            (place / "data.yaml").unlink()
        made.append(Case(place, matching(place, ["*.txt", "*.csv", "ImageSets/**/*.txt"]), name))
    return made


# ---- annotations by hand --------------------------------------------------------------------------------------------

_LABELS = """<labels><label><name>car</name><type>any</type></label><label><name>good</name><type>tag</type></label>
<label><name>pose</name><type>skeleton</type><svg>&lt;line data-node-from="2" data-node-to="1"&gt;&lt;/line&gt;
&lt;circle data-node-id="1" data-label-name="head"&gt;&lt;/circle&gt;
&lt;circle data-node-id="2" data-label-name="tail"&gt;&lt;/circle&gt;</svg></label>
<label><name>head</name><type>points</type><parent>pose</parent></label>
<label><name>tail</name><type>points</type><parent>pose</parent></label></labels>
"""
_POSE = """<skeleton label="pose" z_order="0" group_id="4" FRAME><points label="head" points="3.5,4"></points>
<points label="tail" outside="0" occluded="1" points="7,8"></points></skeleton>
"""
_SHAPES = """<polygon label="car" points="2,3;8,3;8,9;2,9" occluded="1" z_order="1" group_id="4">
<attribute name="is_crowd">false</attribute><attribute name="track_id">3</attribute></polygon>
<ellipse label="car" cx="12" cy="9" rx="5" ry="3" rotation="30"></ellipse>
<box label="car" xtl="3" ytl="4" xbr="9" ybr="12" rotation="45.5"></box>
<box label="car" xtl="3" ytl="4" xbr="9" ybr="12"></box>
<mask label="car" rle="1, 2, 1, 3, 2" left="4" top="7" width="3" height="3"></mask>
<points label="nose" points="4,5" group_id="4"></points>
<polyline label="car" points="1,1;2,2"></polyline>
<tag label="good"></tag>
"""
_VIDEO = """<size>5</size><start_frame>0</start_frame><stop_frame>4</stop_frame><frame_filter>step=1</frame_filter>
<original_size><width>32</width><height>24</height></original_size>
"""
_TRACKS = """<track id="0" label="car">
<box frame="0" outside="0" keyframe="1" xtl="0" ytl="4" xbr="5" ybr="9"></box>
<polygon frame="2" outside="0" keyframe="1" points="2,3;8,3;8,9;2,9"></polygon>
<box frame="3" outside="1" keyframe="1" xtl="3" ytl="4" xbr="8" ybr="9"></box></track>
"""


def cvat(folder: Path) -> list[Case]:
    """Every shape of CVAT for images, tracks of a video, and what we write."""
    shapes = _SHAPES + _POSE.replace("FRAME", "")
    names = [f"frame_{k:06d}.png" for k in range(5)]
    stills = "".join(f'<image id="{k}" name="{names[k]}" width="32" height="24">\n{shapes}</image>\n' for k in (0, 1))
    tracks = _TRACKS + '<track id="1" label="pose">' + _POSE.replace("FRAME", 'frame="1"') + "</track>\n"
    made = []
    for kind, text in (
        ("images", f"<meta><task><size>2</size>{_LABELS}</task></meta>\n{stills}"),
        ("video", f"<meta><task>{_VIDEO}{_LABELS}</task></meta>\n{tracks}"),
    ):
        for name in names:
            _noise(folder / kind / "images" / name)
        (folder / kind / "annotations.xml").write_text(f"<annotations><version>1.1</version>{text}</annotations>\n")
        made.append(Case(folder / kind, [folder / kind / "annotations.xml"], "cvat"))
    return made + written("cvat", ["annotations.xml"], points)(folder)


def labelme(folder: Path) -> list[Case]:
    """Every shape of LabelMe, and what we write."""
    inside = folder / "hand"
    mask = io.BytesIO()
    Image.fromarray(np.full((4, 5), 255, np.uint8)).save(mask, "PNG")
    content = base64.b64encode(mask.getvalue()).decode()
    shapes: list[dict[str, Any]] = [
        {"label": "a", "points": [[1, 1], [9, 1], [5, 9.5]], "shape_type": "polygon", "group_id": 1, "flags": {}},
        {"label": "a", "points": [[1, 1], [9, 8]], "shape_type": "rectangle", "flags": {"crowd": True}},
        {"label": "b", "points": [[12, 12], [12, 15]], "shape_type": "circle", "description": "round"},
        {"label": "b", "points": [[12, 12], [16, 15]], "shape_type": "mask", "mask": content, "track_id": 4},
        {"label": "nose", "points": [[4, 5]], "shape_type": "point", "group_id": 1, "flags": {"hidden": True}},
        {"label": "road", "points": [[4, 5], [6, 7]], "shape_type": "linestrip"},
        {"label": "b", "points": [[2, 2], [8, 2], [8, 8], [2, 8]], "shape_type": "oriented_rectangle"},
    ]
    for name in ("a", "b"):
        _noise(inside / f"{name}.png")
        document: dict[str, Any] = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png"}
        document |= {"imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        document["landmarks"] = {"a": {"names": ["nose", "tail"], "links": [[0, 1]], "mirrored": [0, 1]}}
        (inside / f"{name}.json").write_text(json.dumps(document))
    return [Case(inside, matching(inside, ["*.json"]), "labelme"), *written("labelme", ["**/*.json"], clips)(folder)]


def _noise(path: Path) -> None:
    media.write_image(path, np.random.default_rng(len(path.name)).integers(0, 255, (*SIZE, 3), np.uint8))


# ---- images, results, settings --------------------------------------------------------------------------------------


def images(folder: Path) -> list[Case]:
    """An image of each kind that is read; those that this Pillow cannot write are left out."""
    rng = np.random.default_rng(5)
    rgb, grey = rng.integers(0, 255, (*SIZE, 3), np.uint8), rng.integers(0, 255, SIZE, np.uint8)
    deep, turned = grey.astype(np.uint16) << 6, Image.Exif()
    frames = [Image.fromarray(np.roll(grey, k)) for k in (1, 2)]
    turned[0x0112] = 6
    kinds: list[tuple[str, NDArray[Any], dict[str, Any]]] = [
        ("a.jpg", rgb, {"exif": turned}), ("progressive.jpg", rgb, {"progressive": True}), ("grey.jpg", grey, {}),
        ("a.png", rgb, {}), ("deep.png", deep, {}), ("small.png", grey[:2, :3], {}),
        ("clear.png", grey, {"transparency": 3}),
        ("a.tif", rgb, {}), ("deep.tif", deep, {}), ("lzw.tif", grey, {"compression": "tiff_lzw"}),
        ("zip.tif", rgb, {"compression": "tiff_adobe_deflate"}), ("jpeg.tif", rgb, {"compression": "jpeg"}),
        ("float.tif", grey.astype(np.float32), {}), ("whole.tif", grey.astype(np.int32), {}),
        ("stack.tif", grey, {"save_all": True, "append_images": frames}), ("a.gif", grey, {}),
        ("moving.gif", grey, {"save_all": True, "append_images": frames}), ("a.bmp", rgb, {}), ("a.ppm", rgb, {}),
        ("a.webp", rgb, {}), ("lossless.webp", rgb, {"lossless": True}), ("a.jp2", rgb, {}), ("a.avif", rgb, {}),
    ]  # fmt: skip
    cases = []
    for name, values, options in kinds:
        try:
            Image.fromarray(values).save(folder / name, **options)
        except (OSError, KeyError, ValueError):
            (folder / name).unlink(missing_ok=True)
            continue
        cases.append(alone(folder / name))
    head = f"{SIZE[1]} {SIZE[0]}\n"
    colours = rgb.astype(np.uint16) << 4
    contents = {
        "deep.ppm": f"P6\n{head}4095\n".encode() + colours.astype(">u2").tobytes(),
        "plain.ppm": f"P3\n{head}4095\n".encode() + b" ".join(b"%d" % v for v in colours.ravel()),
        "hundred.pgm": f"P5\n{head}100\n".encode() + (grey % 101).tobytes(),
        "colour.j2k": _jpeg2000(colours),
    }
    if "libsvtav1" in av.codecs_available:
        contents["deep.avif"] = _avif(colours << 4)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [*cases, *(alone(folder / name) for name in contents)]


def _jpeg2000(values: NDArray[np.uint16]) -> bytes:
    """16 bits a channel, which Pillow does not write."""
    coder = av.CodecContext.create("jpeg2000", "w")
    coder.height, coder.width = values.shape[:2]
    coder.pix_fmt, coder.time_base, coder.options = "rgb48le", Fraction(1), {"format": "j2k"}
    frame = av.VideoFrame.from_ndarray(values, format="rgb48le")
    return b"".join(bytes(p) for p in [*coder.encode(frame), *coder.encode(None)])


def _avif(values: NDArray[np.uint16]) -> bytes:
    """10 bits a channel, of three times the size, which the encoder needs."""
    stream, values = io.BytesIO(), values.repeat(3, axis=0).repeat(3, axis=1)
    with av.open(stream, "w", format="avif") as container:
        track: Any = container.add_stream("libsvtav1", rate=1, options={"preset": "8", "svtav1-params": "lp=1"})
        track.height, track.width, track.pix_fmt = *values.shape[:2], "yuv420p10le"
        container.mux(track.encode(av.VideoFrame.from_ndarray(values, format="rgb48le").reformat(format=track.pix_fmt)))
        container.mux(track.encode(None))
    return stream.getvalue()


def results(folder: Path) -> list[Case]:
    """COCO result lists of boxes and of masks, for the data set `still` in the same folder."""
    data, rows = still(folder), []
    for i, record in enumerate(data.images):
        for k, a in enumerate(data.of(i)):
            row = {"image_id": record.id, "category_id": data.classes.ids[a.label], "score": 0.25 + k / 8}
            rows.append({**row, "bbox": box_to_xywh(a.box), "segmentation": mask_ops.encode(data.draw(i, [a]))[0]})
    (folder / "masks.json").write_text(json.dumps(rows))
    (folder / "boxes.json").write_text(json.dumps([{k: v for k, v in r.items() if k != "segmentation"} for r in rows]))
    return [alone(folder / "masks.json"), alone(folder / "boxes.json")]


def tracks(folder: Path) -> list[Case]:
    """Ground truth of the Cell Tracking Challenge with its results: label images and tables of tracks."""
    for kind, stem, table in (("GT/TRA", "man_track", "man_track.txt"), ("RES", "mask", "res_track.txt")):
        place = folder / f"01_{kind}"
        for t in range(3):
            values = np.zeros(SIZE, np.uint16)
            values[2:9, 3 + t : 9 + t], values[12:17, 5:9] = (1 if t < 2 else 3), 2
            media.write_image(place / f"{stem}{t:03d}.png", values)
            (place / f"{stem}{t:03d}.png").rename(place / f"{stem}{t:03d}.tif")
        (place / table).write_text("1 0 1 0\n2 0 2 0\n3 2 2 1\n")
    return [Case(folder, matching(folder, ["**/*.txt", "**/*.txt", "**/*.tif"]), "ctc")]


def track_lists(folder: Path) -> list[Case]:
    """A YouTube-VIS result list for the data set `clips` in the same folder."""
    formats.save(folder / "truth.json", clips(folder / "source"), "youtube_vis")
    rows = json.loads((folder / "truth.json").read_text())["annotations"]
    kept = ("video_id", "category_id", "segmentations")
    (folder / "tracks.json").write_text(json.dumps([{**{k: r[k] for k in kept}, "score": 0.5} for r in rows]))
    return [alone(folder / "tracks.json")]


def predictions(folder: Path) -> list[Case]:
    """Saved predictions with masks and with landmarks."""
    cases = []
    for name, data in (("masks", still(folder / "still")), ("points", points(folder / "points"))):
        truth = data.truth(0)
        Prediction(**{name: getattr(truth, name) for name in truth.__dataclass_fields__}).save(folder / f"{name}.json")
        cases.append(alone(folder / f"{name}.json"))
    return cases


def configs(folder: Path) -> list[Case]:
    """Settings of a training run, few and many."""
    (folder / "few.toml").write_text('epochs = 3\nmodel = "mask_rcnn_r50_fpn"\n[augment]\nflip_horizontal = 0.5\n')
    config = TrainConfig(data="a.json", out="run", epochs=3, batch_size=2, size=64, seed=1)
    (folder / "many.toml").write_text(settings.text(config))
    return [alone(folder / "few.toml"), alone(folder / "many.toml")]


def image_lists(folder: Path) -> list[Case]:
    """A text file that lists images."""
    for name in ("a.png", "b c.png"):
        _noise(folder / name)
    (folder / "list.txt").write_text("# two\na.png\n\nb c.png\n")
    return [alone(folder / "list.txt")]
