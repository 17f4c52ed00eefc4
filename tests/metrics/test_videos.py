"""The measures of videos against slow twins, the COCO API and, where they are installed, TrackEval, py-ctcmetrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval
from tests.reference import videos as twin

from maskwright.errors import DataError
from maskwright.metrics.ctc import CtcMetric
from maskwright.metrics.hota import HotaMetric
from maskwright.metrics.key_frames import KeyFrameMetric
from maskwright.metrics.metric import GroundTruth
from maskwright.metrics.youtube_vis import STATS, YoutubeVisMetric
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Masks, TrackFacts

CELL = Classes(["cell"])
SEEDS = range(12)


def a_pair(seed: int, tracks: int = 5, frames: int = 8) -> tuple[twin.Video, twin.Video]:
    rng = np.random.default_rng(seed)
    true = twin.random_video(rng, tracks, frames)
    return true, twin.corrupted(true, rng)


def block(*window: int) -> Any:
    mask = np.zeros(twin.SIZE, np.bool_)
    mask[window[0] : window[1], window[2] : window[3]] = True
    return mask


TWO: twin.Video = [{1: block(0, 10, 0, 10), 2: block(20, 30, 0, 10)}] * 4


# ---- all of them ----------------------------------------------------------------------------------------------------


def metrics(data: Any) -> list[Any]:
    return [YoutubeVisMetric(data.classes), HotaMetric(data.classes), CtcMetric(data.classes)]


@pytest.mark.parametrize("seed", SEEDS)
def test_truth_against_itself_is_perfect(seed: int) -> None:
    true = a_pair(seed)[0]
    data = twin.dataset([true, true])
    found, hota, ctc = (twin.measured(m, data, [true, true]) for m in metrics(data))
    assert [found[name] for name in ("AP", "AP50", "AP75", "AR10")] == [1, 1, 1, 1]
    assert [hota.values()[f"hota/{k}"] for k in ("HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA")] == pytest.approx(
        [1] * 6
    )
    assert list(ctc.values().values()) == [1, 1, 1, 1]


def test_nothing_annotated_and_nothing_found_is_nothing_to_measure() -> None:
    empty: twin.Video = [{}, {}]
    data = twin.dataset([empty])
    for metric in metrics(data):
        result = twin.measured(metric, data, [empty])
        assert {v for name, v in result.values().items()} == {-1.0}
        assert result.table()
        assert result.section()
        assert result.to_dict()


def test_nothing_found_is_zero() -> None:
    true = a_pair(0)[0]
    data = twin.dataset([true])
    nothing: twin.Video = [{} for _ in true]
    found, hota, ctc = (twin.measured(m, data, [nothing]) for m in metrics(data))
    assert (found["AP"], hota.overall.hota, hota.overall.idf1, hota.overall.mota) == (0, 0, 0, 0)
    assert list(ctc.values().values()) == [0, 0, 0, 0]


def test_nothing_annotated_has_no_average_precision_and_false_tracks() -> None:
    true = a_pair(0)[0]
    data = twin.dataset([[{} for _ in true]])
    found, hota, ctc = (twin.measured(m, data, [true]) for m in metrics(data))
    assert (found["AP"], hota.overall.hota, hota.overall.idp, ctc["TRA"]) == (-1, 0, 0, -1)


def test_a_video_of_one_frame() -> None:
    true = a_pair(1)[0][:1]
    data = twin.dataset([true])
    found, hota, ctc = (twin.measured(m, data, [true]) for m in metrics(data))
    assert (found["AP"], hota.overall.hota) == (1, pytest.approx(1))
    assert (ctc["SEG"], ctc["TRA"], ctc["DET"], ctc["LNK"]) == (1, 1, 1, -1)  # there is no link


@pytest.mark.parametrize("kind", [YoutubeVisMetric, HotaMetric, CtcMetric])
def test_frames_come_in_order_with_track_ids(kind: Any) -> None:
    true = TWO
    data = twin.dataset([true, true])
    frame = twin.instances(true[0])
    metric = kind(CELL)
    metric.update(frame, GroundTruth(data, 1))
    with pytest.raises(DataError, match="frame 0 of its video, given after frame 1"):
        metric.update(frame, GroundTruth(data, 0))
    metric.update(frame, GroundTruth(data, len(true)))
    with pytest.raises(DataError, match="was left before its end"):
        metric.update(frame, GroundTruth(data, 2))
    frame.track_ids = None
    with pytest.raises(DataError, match="no track ids"):
        kind(CELL).update(frame, GroundTruth(data, 0))


def test_an_object_is_in_one_place_at_a_time() -> None:
    true = TWO
    frame = twin.instances(true[0])
    frame.track_ids = np.zeros(len(frame), np.int64)
    with pytest.raises(DataError, match="track 0 is there twice"):
        HotaMetric(CELL).update(frame, GroundTruth(twin.dataset([true]), 0))


# ---- YouTube-VIS ----------------------------------------------------------------------------------------------------


def coco_stats(
    videos: list[tuple[twin.Video, twin.Video]], scores: Mapping[int, float], labels: Mapping[int, int]
) -> Any:
    """The COCO API on images in which the frames of a video lie one under the other; areas and their ranges as for
    tracks."""
    from pycocotools.coco import COCO

    def rows(side: int) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for v, pair in enumerate(videos, 1):
            for i in sorted({i for frame in pair[side] for i in frame}):
                tall = np.concatenate([frame.get(i, np.zeros(twin.SIZE, np.bool_)) for frame in pair[side]])
                rle = mask_ops.encode(Masks.from_dense(tall[None]))[0]
                area = float(np.mean([frame[i].sum() for frame in pair[side] if i in frame]))
                row = {
                    "id": len(out) + 1,
                    "image_id": v,
                    "category_id": labels.get(i, 0) + 1,
                    "area": area,
                    "iscrowd": 0,
                }
                out.append({**row, "segmentation": rle, "bbox": [0, 0, 1, 1], "score": scores.get(i, 1.0)})
        return out

    sizes = {v: {"height": len(true) * twin.SIZE[0], "width": twin.SIZE[1]} for v, (true, _) in enumerate(videos, 1)}
    shared = {"images": [{"id": v, **size} for v, size in sizes.items()], "categories": [{"id": 1}, {"id": 2}]}
    known, found = COCO(), COCO()
    known.dataset, found.dataset = {**shared, "annotations": rows(0)}, {**shared, "annotations": rows(1)}
    known.createIndex()
    found.createIndex()
    run = COCOeval(known, found, "segm")
    run.params.areaRng = [[0, 1e10], [0, 128**2], [128**2, 256**2], [256**2, 1e10]]
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats


@pytest.mark.parametrize("seed", SEEDS)
def test_tracks_are_measured_as_the_coco_api_measures_objects(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(seed)
    pairs = [a_pair(100 * seed + k, frames=5 + k) for k in range(4)]
    scores = {i: float(np.float32(rng.integers(1, 6) / 5)) for i in range(100)}  # ties are frequent
    labels = {i: int(i % 2) for i in range(100)}
    data = twin.dataset([true for true, _ in pairs], labels, ("even", "odd"))
    metric = YoutubeVisMetric(data.classes)
    result = twin.measured(metric, data, [found for _, found in pairs], labels=labels, scores=scores)
    expected = coco_stats(pairs, scores, labels)
    assert result.stats == pytest.approx(expected, abs=1e-12)
    assert 0 < result["AP50"] < 1


def test_large_tracks_have_the_mean_area_of_the_frames_that_show_them() -> None:
    from maskwright.metrics.youtube_vis import _Track

    track = _Track(1)
    for area in (100, 0, 300):
        track.show(area, area)
    assert (track.area, track.pixels) == (200, 400)


def test_the_score_of_a_track_is_the_mean_of_its_instances() -> None:
    from maskwright.metrics.youtube_vis import _Track

    track = _Track(1)
    for label, score in ((0, 0.5), (1, 0.25), (1, 0.3125)):
        track.rate(label, score)
    assert (track.score_of(TrackFacts()), track.label_of(TrackFacts())) == (pytest.approx(0.354166667), 1)
    assert (track.score_of(TrackFacts(0.9)), track.label_of(TrackFacts(label=0))) == (0.9, 0)


def test_crowds_take_any_number_of_tracks_and_count_neither_way() -> None:
    true: twin.Video = [{1: block(0, 10, 0, 10), 2: block(10, 30, 0, 40)}] * 2
    found: twin.Video = [{1: block(0, 10, 0, 10), 7: block(10, 26, 0, 40), 8: block(12, 30, 0, 40)}] * 2
    crowd, plain = twin.dataset([true], crowds=[2]), twin.dataset([true])
    scores = {7: 0.9, 8: 0.8, 1: 0.7}
    result = twin.measured(YoutubeVisMetric(CELL), crowd, [found], scores=scores)
    assert (result["AP50"], result.per_class[0].objects) == (pytest.approx(1), 1)
    assert twin.measured(YoutubeVisMetric(CELL), plain, [found], scores=scores)["AP50"] < 1


def test_more_than_100_tracks_count_where_a_video_has_more() -> None:
    cells = {1 + 20 * i + k: block(2 * i, 2 * i + 2, 2 * k, 2 * k + 2) for i in range(6) for k in range(20)}
    data = twin.dataset([[cells, cells]])
    result = twin.measured(YoutubeVisMetric(CELL), data, [[cells, cells]])
    assert (result["AP"], result.limit) == (pytest.approx(1), 200)
    assert result.at_100 == pytest.approx(84 / 101, abs=1e-9)  # the levels of recall up to 100 / 120
    assert result.values()["track/AP@100"] == result.at_100
    assert "official" in result.table()
    official = twin.measured(YoutubeVisMetric(CELL, max_detections=100), data, [[cells, cells]])
    assert official["AP"] == result.at_100


def test_a_file_may_say_the_score_and_class_of_a_track() -> None:
    true: twin.Video = [{1: block(0, 10, 0, 10)}] * 2
    data = twin.dataset([true], {1: 1}, ("a", "b"))
    found: twin.Video = [{1: true[0][1], 2: block(20, 30, 0, 10)}] * 2
    for score, expected in ((0.4, 0.5), (0.6, 1.0)):
        facts = {1: {1: TrackFacts(score, 1), 2: TrackFacts(0.5, 1)}}
        result = twin.measured(YoutubeVisMetric(data.classes, facts), data, [found])
        assert result["AP"] == pytest.approx(expected, abs=0.01)
    assert STATS[0] == "AP"


# ---- HOTA and identities --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_hota_and_identities_are_as_defined(seed: int) -> None:
    true, found = a_pair(seed, tracks=4)
    scores = twin.measured(HotaMetric(CELL), twin.dataset([true]), [found]).overall
    expected = twin.hota(true, found)
    assert {name: getattr(scores, name) for name in expected} == pytest.approx(expected)
    assert scores.idf1 == pytest.approx(twin.idf1(true, found))


def test_hota_of_a_class_is_that_of_its_objects() -> None:
    true, found = a_pair(3)
    labels = {i: i % 2 for i in range(100)}
    data = twin.dataset([true], labels, ("even", "odd"))
    result = twin.measured(HotaMetric(data.classes), data, [found], labels=labels)
    odd = [[{i: m for i, m in frame.items() if i % 2} for frame in video] for video in (true, found)]
    assert result.per_class[1].hota == pytest.approx(twin.hota(*odd)["hota"])
    assert result.mean == pytest.approx(np.mean([s.hota for s in result.per_class]))


def test_switches_and_mota() -> None:
    a, b = block(0, 10, 0, 10), block(20, 30, 0, 10)
    true: twin.Video = [{1: a, 2: b}] * 4
    found: twin.Video = [{5: a, 6: b}, {5: a, 6: b}, {6: a, 5: b}, {6: a}]
    scores = twin.measured(HotaMetric(CELL), twin.dataset([true]), [found]).overall
    assert (scores.switches, scores.mota) == (2, (7 - 0 - 2) / 8)


def test_detections_in_crowds_and_low_scores_do_not_count() -> None:
    true: twin.Video = [{1: block(0, 10, 0, 10), 2: block(10, 30, 0, 40)}] * 2
    found: twin.Video = [{1: true[0][1], 7: block(12, 20, 0, 10), 8: block(0, 10, 20, 30)}] * 2
    data = twin.dataset([true], crowds=[2])
    result = twin.measured(HotaMetric(CELL, score=0.5), data, [found], scores={8: 0.4})
    assert (result.overall.hota, result.overall.found) == (pytest.approx(1), 2)


def test_trackeval_gives_the_same() -> None:
    hota = pytest.importorskip("trackeval.metrics.hota", reason="trackeval is not installed").HOTA()
    from trackeval.metrics.clear import CLEAR
    from trackeval.metrics.identity import Identity

    meters = [hota, CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False})]
    pairs = [a_pair(seed) for seed in SEEDS]
    parts = {k: [m.eval_sequence(of_trackeval(*pair)) for m in meters] for k, pair in enumerate(pairs)}
    theirs = {
        k: v for i, m in enumerate(meters) for k, v in m.combine_sequences({s: p[i] for s, p in parts.items()}).items()
    }
    data = twin.dataset([true for true, _ in pairs])
    ours = twin.measured(HotaMetric(CELL), data, [found for _, found in pairs]).overall
    for name, own in (("HOTA", "hota"), ("DetA", "deta"), ("AssA", "assa"), ("LocA", "loca"), ("IDF1", "idf1"),
                      ("IDP", "idp"), ("IDR", "idr"), ("MOTA", "mota"), ("IDSW", "switches")):  # fmt: skip
        assert getattr(ours, own) == pytest.approx(float(np.mean(theirs[name])), abs=1e-12), name


def test_trackeval_gives_the_same_ap_of_tracks() -> None:
    of_tracks = pytest.importorskip("trackeval.metrics.track_map", reason="trackeval is not installed").TrackMAP
    meter = of_tracks({"USE_AREA_RANGES": False, "USE_TIME_RANGES": False, "PRINT_CONFIG": False})
    pairs = [a_pair(seed) for seed in SEEDS]
    scores = {i: float(np.float32((i * 7 % 30 + 1) / 40)) for i in range(100)}
    theirs = meter.combine_sequences({k: meter.eval_sequence(tracks_of(*p, scores)) for k, p in enumerate(pairs)})
    metric = YoutubeVisMetric(CELL)
    ours = twin.measured(metric, twin.dataset([t for t, _ in pairs]), [f for _, f in pairs], scores=scores)
    assert (ours["AP"], ours["AR100"]) == pytest.approx(
        (np.mean(theirs["AP_all"]), np.mean(theirs["AR_all"])), abs=1e-12
    )
    assert ours["AP50"] == pytest.approx(theirs["AP_all"][0], abs=1e-12)


def tracks_of(true: twin.Video, found: twin.Video, scores: Mapping[int, float]) -> dict[str, Any]:
    """A video as TrackEval's AP of tracks takes it: tracks of run lengths, those of the result with the best first."""

    def tracks(video: twin.Video, ids: list[int]) -> list[dict[int, Any]]:
        rows = [{t: Masks.from_dense(f[i][None]) for t, f in enumerate(video) if i in f} for i in ids]
        return [{t: mask_ops.encode(mask)[0] for t, mask in row.items()} for row in rows]

    known, ids = (sorted({i for frame in video for i in frame}) for video in (true, found))
    ids = sorted(ids, key=lambda i: -scores[i])
    return {
        "gt_track_ids": known,
        "dt_track_ids": ids,
        "gt_tracks": tracks(true, known),
        "dt_tracks": tracks(found, ids),
        "dt_track_scores": np.array([scores[i] for i in ids]),
        "iou_type": "mask",
    }


def of_trackeval(true: twin.Video, found: twin.Video) -> dict[str, Any]:
    """A video as TrackEval's metrics take it."""
    ids = [{i: k for k, i in enumerate(sorted({i for f in video for i in f}))} for video in (true, found)]
    overlap = [np.array([[twin.iou(a, b) for b in y.values()] for a in x.values()]).reshape(len(x), len(y))
               for x, y in zip(true, found, strict=True)]  # fmt: skip
    return {
        "gt_ids": [np.array([ids[0][i] for i in f], int) for f in true],
        "tracker_ids": [np.array([ids[1][i] for i in f], int) for f in found],
        "similarity_scores": overlap,
        "num_gt_dets": sum(map(len, true)),
        "num_tracker_dets": sum(map(len, found)),
        "num_gt_ids": len(ids[0]),
        "num_tracker_ids": len(ids[1]),
        "num_timesteps": len(true),
    }


# ---- Cell Tracking Challenge ----------------------------------------------------------------------------------------


def divided(video: twin.Video, rng: np.random.Generator) -> dict[int, int]:
    """Some of the tracks that begin late, as daughters of tracks that ended before."""
    first = {i: min(t for t, f in enumerate(video) if i in f) for f in video for i in f}
    last = {i: max(t for t, f in enumerate(video) if i in f) for f in video for i in f}
    options = {i: [k for k in last if last[k] < first[i]] for i in first}
    return {i: int(rng.choice(own)) for i, own in options.items() if own and rng.random() < 0.7}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cell_tracking_challenge_is_as_defined(seed: int) -> None:
    true, found = a_pair(seed, tracks=9, frames=10)
    rng = np.random.default_rng(seed)
    parents, own = divided(true, rng), divided(found, rng)
    facts = {1: {i: TrackFacts(parent=p) for i, p in own.items()}}
    result = twin.measured(CtcMetric(CELL, facts=facts), twin.dataset([true], parents=parents), [found])
    assert {k: result[k] for k in ("SEG", "TRA", "DET", "LNK")} == pytest.approx(twin.ctc(true, found, parents, own))
    assert 0.3 < result["TRA"] < 1


def test_a_division_that_is_not_told_costs_its_links() -> None:
    true: twin.Video = [{1: block(0, 10, 0, 20)}, {2: block(0, 10, 0, 10), 3: block(0, 10, 10, 20)}]
    data = twin.dataset([true], parents={2: 1, 3: 1})
    told = {1: {2: TrackFacts(parent=1), 3: TrackFacts(parent=1)}}
    assert twin.measured(CtcMetric(CELL, facts=told), data, [true])["TRA"] == 1
    result = twin.measured(CtcMetric(CELL), data, [true])
    assert (result["LNK"], result["DET"], result["TRA"]) == (0, 1, 1 - 3 / 33)
    kept: twin.Video = [true[0], {1: true[1][2], 3: true[1][3]}]  # one daughter has the mother's id: the wrong kind
    counts = twin.measured(CtcMetric(CELL, facts={1: {3: TrackFacts(parent=1)}}), data, [kept]).per_video[0]
    assert (counts.wrong, counts.absent, counts.redundant) == (1, 0, 0)


def test_the_better_detection_and_the_smaller_object_are_on_top() -> None:
    true: twin.Video = [{1: block(0, 20, 0, 20), 2: block(5, 10, 5, 10)}]
    found: twin.Video = [{8: block(0, 20, 0, 20), 9: block(5, 10, 5, 10)}]
    for top, seg in ((9, 1.0), (8, (375 / 400 + 0) / 2)):
        scores = {8: 0.9, 9: 0.8} if top == 8 else {8: 0.8, 9: 0.9}
        result = twin.measured(CtcMetric(CELL), twin.dataset([true]), [found], scores=scores)
        assert result["SEG"] == pytest.approx(seg if top == 9 else (375 / 400 + 25 / 400) / 2)


def test_py_ctcmetrics_gives_the_same(tmp_path: Path) -> None:
    evaluate = pytest.importorskip("ctc_metrics.scripts.evaluate", reason="py-ctcmetrics is not installed")
    for seed in SEEDS:
        true, found = (without_gaps(v) for v in a_pair(seed, tracks=9, frames=10))
        rng = np.random.default_rng(seed)
        parents, own = divided(true, rng), divided(found, rng)
        if not all(map(len, true)) or not all(map(len, found)):
            continue  # its validation refuses empty frames
        place = tmp_path / str(seed)
        write_ctc(place / "01_GT/TRA", true, parents, "man_track.txt")
        write_ctc(place / "01_GT/SEG", true, {}, "")
        write_ctc(place / "01_RES", found, own, "res_track.txt")
        theirs = evaluate.evaluate_sequence(
            str(place / "01_RES"), str(place / "01_GT"), ["SEG", "TRA", "DET", "LNK"], threads=1
        )
        facts = {1: {i: TrackFacts(parent=p) for i, p in own.items()}}
        result = twin.measured(CtcMetric(CELL, facts=facts), twin.dataset([true], parents=parents), [found])
        for name in ("SEG", "TRA", "DET", "LNK"):
            assert result[name] == pytest.approx(theirs[name], abs=1e-12), (seed, name)


def without_gaps(video: twin.Video) -> twin.Video:
    """Each track again with a new id after a frame that does not show it."""
    out: twin.Video = []
    for t, frame in enumerate(video):
        names = {}
        for i in frame:
            start = t
            while start and i in video[start - 1]:
                start -= 1
            names[i] = 1 + i * 100 + start
        out.append({names[i]: mask for i, mask in frame.items()})
    return out


def write_ctc(folder: Path, video: twin.Video, parents: Mapping[int, int], table: str) -> None:
    """A folder of label images, and the table of tracks where it has a name."""
    from PIL import Image

    folder.mkdir(parents=True)
    for t, frame in enumerate(video):
        values = np.zeros(twin.SIZE, np.uint16)
        for i, mask in frame.items():
            values[mask] = i
        stem = "mask" if table == "res_track.txt" else "man_track" if table else "man_seg"
        Image.fromarray(values).save(folder / f"{stem}{t:03d}.tif")
    if table:
        ids = sorted({i for frame in video for i in frame})
        spans = {i: [t for t, frame in enumerate(video) if i in frame] for i in ids}
        lines = [f"{i} {spans[i][0]} {spans[i][-1]} {parents.get(i, 0)}" for i in ids]
        (folder / table).write_text("\n".join(lines) + "\n")


# ---- AP by distance from the key frame ------------------------------------------------------------------------------


def test_frames_of_one_distance_are_measured_by_themselves() -> None:
    true = a_pair(2)[0]
    data, metric = twin.dataset([true]), KeyFrameMetric(twin.dataset([true]))
    for t, frame in enumerate(true):
        moved = {i: np.roll(m, 2 * (t % 3), 1) for i, m in frame.items()}
        metric.update(twin.instances(moved), GroundTruth(data, t, since_key=t % 3))
    metric.update(twin.instances({}), GroundTruth(data, 0))
    result = metric.result()
    assert [row.distance for row in result.rows] == [0, 1, 2]
    assert [row.frames for row in result.rows] == [3, 3, 2]
    assert result.rows[0].ap == pytest.approx(1)
    assert result.rows[0].ap > result.rows[1].ap > result.rows[2].ap
    assert result.unknown == 1
    assert "1 frame without a stated distance" in result.notes[0]
