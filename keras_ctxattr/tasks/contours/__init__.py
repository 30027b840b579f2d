"""Contours: the benchmark of BSDS500, and contour maps from attributes of patches.

Three lines score a folder of contour maps:

    from keras_ctxattr.tasks.contours import read_tasks, score_contours
    tasks = read_tasks("maps", "BSDS500", split="test")
    print(score_contours(tasks)["ods"])
"""

from keras_ctxattr.tasks.contours.benchmark import count_images, count_pixels, score_contours
from keras_ctxattr.tasks.contours.formats import (
    read_contour_map,
    write_contour_map,
    write_official_results,
)
from keras_ctxattr.tasks.contours.matching import match_contours
from keras_ctxattr.tasks.contours.metrics import ContourCounts, summarize_contours
from keras_ctxattr.tasks.contours.suppression import suppress_non_maxima
from keras_ctxattr.tasks.contours.tasks import read_tasks

__all__ = [
    "ContourCounts",
    "count_images",
    "count_pixels",
    "match_contours",
    "read_contour_map",
    "read_tasks",
    "score_contours",
    "summarize_contours",
    "suppress_non_maxima",
    "write_contour_map",
    "write_official_results",
]
