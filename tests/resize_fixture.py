#!/usr/bin/env python3
"""Writes tests/resize_fixture.h: what Pillow makes of small images, for test_data.c.

Needs Pillow and numpy. The images come from a rule that the test repeats, so only results are kept.
"""
import numpy as np
from PIL import Image

CASES = [  # channels, width, height, new width, new height, filter
    (1, 13, 11, 5, 4, "BILINEAR"),
    (1, 13, 11, 17, 23, "BILINEAR"),
    (1, 28, 28, 32, 32, "BILINEAR"),
    (1, 31, 9, 1, 1, "BILINEAR"),
    (1, 1, 1, 3, 2, "BILINEAR"),
    (3, 7, 10, 9, 3, "BILINEAR"),
    (3, 40, 30, 7, 30, "BILINEAR"),
    (1, 13, 11, 5, 4, "NEAREST"),
    (1, 5, 4, 13, 11, "NEAREST"),
    (3, 12, 9, 1, 9, "GREY"),
]


def source(channels, width, height):
    i = np.arange(width * height * channels, dtype=np.uint64)
    return ((i * 2654435761 + i * i * 40503) // 65536 % 256).astype(np.uint8).reshape(height, width, channels)


def result(channels, width, height, new_width, new_height, rule):
    pixels = source(channels, width, height)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    if rule == "GREY":
        image = image.convert("L")
    else:
        image = image.resize((new_width, new_height), getattr(Image.Resampling, rule))
    return np.asarray(image).reshape(-1)


def main():
    with open("tests/resize_fixture.h", "w", encoding="ascii") as out:
        out.write("/* Written by tests/resize_fixture.py. Filter: 0 bilinear, 1 nearest, 2 conversion to grey. */\n")
        out.write("typedef struct resize_case {\n")
        out.write("    int channels, width, height, new_width, new_height, filter, first, count;\n")
        out.write("} resize_case;\n\nstatic const resize_case resize_cases[] = {\n")
        values = []
        for case in CASES:
            pixels = result(*case)
            rule = ["BILINEAR", "NEAREST", "GREY"].index(case[5])
            out.write("    {%d, %d, %d, %d, %d, %d, %d, %d},\n" % (case[:5] + (rule, len(values), len(pixels))))
            values.extend(int(v) for v in pixels)
        out.write("};\n\nstatic const unsigned char resize_values[] = {\n")
        for i in range(0, len(values), 24):
            out.write("    " + ", ".join(map(str, values[i:i + 24])) + ",\n")
        out.write("};\n")


main()
