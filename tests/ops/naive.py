"""The ops' definitions as plain loops."""

import math

import torch


def iou(a, b, offset=0):
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, 0)
    inter = width * height
    areas = ((x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b))
    union = sum(areas) - inter
    return inter / union if union else math.nan


def nms(boxes, scores, threshold, offset=0, groups=None):
    boxes, kept = boxes.double().tolist(), []
    groups = [0] * len(boxes) if groups is None else groups.tolist()
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i].item()):
        if not any(groups[i] == groups[j] and iou(boxes[i], boxes[j], offset) > threshold for j in kept):
            kept.append(i)
    return kept


def soft_nms(boxes, scores, factor, min_score):
    """[(index, new score), ...]; the score of another box is multiplied by ``factor(iou)``."""
    boxes, values, left, found = boxes.double().tolist(), scores.double().tolist(), list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda i: values[i])
        found.append((best, values[best]))
        left.remove(best)
        for i in left:
            values[i] *= factor(iou(boxes[best], boxes[i]))
        left = [i for i in left if values[i] >= min_score]
    return found


def at(plane, y, x):
    """A map (H, W) at a position, bilinearly, 0 outside."""
    height, width = plane.shape
    low_y, low_x = math.floor(y), math.floor(x)
    value = 0.0
    for i in (low_y, low_y + 1):
        for j in (low_x, low_x + 1):
            if 0 <= i < height and 0 <= j < width:
                value = value + plane[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return value


def roi_align(input, rois, size, scale, ratio, mode, aligned):
    output = input.new_zeros(len(rois), input.shape[1], *size)
    height, width = input.shape[2:]
    shift = 0.5 if aligned else 0.0
    for r, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * scale - shift for c in corners)
        h, w = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
        rows, columns = (ratio, ratio) if ratio else (math.ceil(h / size[0]), math.ceil(w / size[1]))
        for c in range(input.shape[1]):
            for p in range(size[0]):
                for q in range(size[1]):
                    values = []
                    for i in range(rows):
                        for j in range(columns):
                            y = y1 + (p + (i + 0.5) / rows) * h / size[0]
                            x = x1 + (q + (j + 0.5) / columns) * w / size[1]
                            near = -1 <= y <= height and -1 <= x <= width
                            y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                            values.append(at(input[int(image), c], y, x) if near else 0.0)
                    if mode == "max":
                        output[r, c, p, q] = max(values, default=-10000)
                    else:
                        output[r, c, p, q] = sum(values) / max(len(values), 1)
    return output


def deform_conv(input, offset, mask, weight, stride, padding, dilation, groups, deform_groups):
    batch, channels = input.shape[:2]
    kh, kw = weight.shape[2:]
    h, w = offset.shape[2:]
    output = input.new_zeros(batch, len(weight), h, w)
    for b in range(batch):
        for o in range(len(weight)):
            for i in range(h):
                for j in range(w):
                    for c in range(weight.shape[1]):
                        channel = o // (len(weight) // groups) * weight.shape[1] + c
                        first = channel // (channels // deform_groups) * kh * kw
                        for t in range(kh * kw):
                            dy, dx = offset[b, 2 * (first + t) : 2 * (first + t) + 2, i, j].tolist()
                            y = i * stride[0] - padding[0] + t // kw * dilation[0] + dy
                            x = j * stride[1] - padding[1] + t % kw * dilation[1] + dx
                            value = at(input[b, channel], y, x) * weight[o, c, t // kw, t % kw]
                            output[b, o, i, j] += value * (1 if mask is None else mask[b, first + t, i, j])
    return output


def attention(value, shapes, locations, weights):
    batch, queries, heads, levels, points = weights.shape
    output = value.new_zeros(batch, queries, heads, value.shape[-1])
    start = 0
    for level, (height, width) in enumerate(shapes):
        planes = value[:, start : start + height * width].unflatten(1, (height, width))
        start += height * width
        for b, q, m, p in torch.cartesian_prod(*(torch.arange(n) for n in (batch, queries, heads, points))).tolist():
            x, y = locations[b, q, m, level, p].tolist()
            for c in range(value.shape[-1]):
                pixel = at(planes[b, :, :, m, c], y * height - 0.5, x * width - 0.5)
                output[b, q, m, c] += weights[b, q, m, level, p] * pixel
    return output.flatten(2)
