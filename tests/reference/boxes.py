"""Boxes one by one in plain floats."""

import math


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (area(a) + area(b) - width * height)


def clip(box, size):
    height, width = size
    return [
        min(max(box[0], 0), width),
        min(max(box[1], 0), height),
        min(max(box[2], 0), width),
        min(max(box[3], 0), height),
    ]


def centre_form(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def encode(box, anchor, weights):
    x, y, w, h = centre_form(box)
    ax, ay, aw, ah = centre_form(anchor)
    plain = (x - ax) / aw, (y - ay) / ah, math.log(w / aw), math.log(h / ah)
    return [d * weight for d, weight in zip(plain, weights, strict=True)]


def decode(deltas, anchor, weights):
    dx, dy, dw, dh = (d / weight for d, weight in zip(deltas, weights, strict=True))
    ax, ay, aw, ah = centre_form(anchor)
    limit = math.log(1000 / 16)
    x, y = ax + dx * aw, ay + dy * ah
    w, h = math.exp(min(dw, limit)) * aw, math.exp(min(dh, limit)) * ah
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
