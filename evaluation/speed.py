"""How fast each stage is, beside a plain way to do the same, in one run on one machine.

    python -m evaluation.speed [--only context|svm|search|index|detection|contours|mining|scale]
        [--images PHOTOS] [--json FILE]

Gives `{name: {value, baseline, ratio}}`. Both sides alternate and medians are taken, so that other
work on the machine hits both; still, let nothing else run. A stage takes one to sixteen minutes on
two cores. Our targets there: context_pairs_per_second (and _released, the same figure) >= 6,
context_pairs_per_second_4x4 >= 6.5, images_per_second >= .9, bfloat16 >= 1.3 where the processor
has AVX512_BF16, peak_memory within 10 % of 1; svm >= 50, with an objective_gap of at most 1e-3;
search >= .9; index >= .9; fast_rcnn >= 10, proposals_fast and _quality >= .9 (left out where OpenCV
lacks selective search); contours_dense >= 50, contours_transfer >= 1 and contours_transfer_2 >=
3.3, contours_benchmark >= .17 images a second (200 in 20 minutes); jobs_local and jobs_ray (left
out without Ray) >= .85.
On a GPU, `tflops` adds the share of its peak. See `evaluation.speed_context`, `speed_svm`,
`speed_search`, `speed_index`, `speed_detection`, `speed_contours` and `speed_mining` for what is
compared, and for the stage scale `speed_jobs`, `speed_workers`, `speed_large_search` and
`speed_clusters_at_size`.
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from rich.console import Console

from evaluation import (
    speed_clusters_at_size,
    speed_context,
    speed_contours,
    speed_detection,
    speed_index,
    speed_jobs,
    speed_large_search,
    speed_mining,
    speed_search,
    speed_svm,
    speed_workers,
)
from evaluation.checks import check_counts, check_positive, check_seed
from evaluation.report import print_table
from keras_ctxattr.pictures import write_png
from keras_ctxattr.runs import write_json
from keras_ctxattr.tasks.detection.proposals import check_selective_search
from training.flags import parse_flags, run_script

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_SAMPLE = "imagenet_sample_300.tar"
_CONTOURS = "bsds500_trainval.tar"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure.

    Attributes:
        only: stage to measure; all if not given.
        json: file for the figures.
        plot: PNG file for how the time of the SVMs grows.
        images: JPEG photographs: folder or archive, may be repeated; imagenet_sample_300.tar in the
            folder CTXATTR_DATA or ../shared/data if not given.
        pairs: pairs of patches in a training step, the same on both sides, at least 256.
        rounds: alternations of both sides, at least 1.
        clusters: SVMs that are solved together, at least 8.
        peak_tflops: peak of the GPU in TFLOP/s, dense half precision, to state the share reached;
            from a table of GPUs if not given.
        seed: seed of weights and draws.
    """

    only: str | None = None
    json: Path | None = None
    plot: Path | None = None
    images: list[str] = dataclasses.field(default_factory=list)
    pairs: int = 1008
    rounds: int = 5
    clusters: int = 1000
    peak_tflops: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the stage and the numbers."""
        if self.only is not None and self.only not in STAGES:
            raise ValueError(f"`--only` must be one of {', '.join(STAGES)}. Received: {self.only}")
        if self.plot is not None and self.only not in (None, "svm"):
            raise ValueError(f"`--plot` belongs to the stage svm. Received: --only {self.only}")
        check_counts(self, "pairs", at_least=256)
        check_counts(self, "rounds")
        check_counts(self, "clusters", at_least=8)
        check_positive(self, "peak_tflops")
        check_seed(self)


def main(config: Config) -> speed_context.Measurements:
    """Measures, writes the file if asked for, and gives the figures."""
    figures: speed_context.Measurements = {}
    for name in [config.only] if config.only else STAGES:
        figures |= STAGES[name](config)
    if config.json:
        write_json(config.json, figures)
    if config.plot:
        write_png(config.plot, speed_svm.growth_picture(figures))
    return figures


def _measure_context(config: Config) -> speed_context.Measurements:
    workload = speed_context.Workload(
        images=config.images or _sample_images(),
        pairs=config.pairs,
        rounds=config.rounds,
        peak_tflops=config.peak_tflops,
        seed=config.seed,
    )
    return speed_context.measure(workload)


def _measure_svm(config: Config) -> speed_svm.Measurements:
    problem = speed_svm.Problem(num_clusters=config.clusters, seed=config.seed)
    return speed_svm.measure(problem, rounds=min(3, config.rounds))


def _measure_search(config: Config) -> speed_context.Measurements:
    return speed_search.measure(speed_search.Workload(rounds=config.rounds, seed=config.seed))


def _measure_index(config: Config) -> speed_context.Measurements:
    images = config.images or _sample_images()
    rounds = min(3, config.rounds)
    return speed_index.measure(speed_index.Workload(images=images, rounds=rounds, seed=config.seed))


def _measure_detection(config: Config) -> speed_context.Measurements:
    if config.only is not None:
        check_selective_search()  # without it, its figures are missing among the others
    images = config.images or _sample_images()
    workload = speed_detection.Workload(images=images, rounds=min(3, config.rounds))
    return speed_detection.measure(workload)


def _measure_contours(config: Config) -> speed_context.Measurements:
    named = config.images if config.only == "contours" else None  # others may have no contours
    (source,) = named or _sample_images(_CONTOURS)
    return speed_contours.measure(
        speed_contours.Workload(source=source, rounds=min(3, config.rounds))
    )


def _measure_mining(config: Config) -> speed_context.Measurements:
    images = config.images or _sample_images()
    rounds = min(3, config.rounds)
    return speed_mining.measure(
        speed_mining.Workload(images=images, rounds=rounds, seed=config.seed)
    )


def _measure_scale(config: Config) -> speed_context.Measurements:
    images = config.images or _sample_images()
    rounds = min(3, config.rounds)
    return {
        **speed_jobs.measure(speed_jobs.Workload(images=images, rounds=rounds)),
        **speed_workers.measure(speed_workers.Workload(images=images, rounds=min(2, rounds))),
        **speed_large_search.measure(speed_large_search.Workload(seed=config.seed)),
        **speed_clusters_at_size.measure(speed_clusters_at_size.Workload(seed=config.seed)),
    }


# Name of a stage -> what measures it; a stage adds its line here.
STAGES: dict[str, Callable[[Config], speed_context.Measurements]] = {
    "context": _measure_context,
    "svm": _measure_svm,
    "search": _measure_search,
    "index": _measure_index,
    "detection": _measure_detection,
    "contours": _measure_contours,
    "mining": _measure_mining,
    "scale": _measure_scale,
}


def _sample_images(name: str = _SAMPLE) -> list[str]:
    folder = Path(os.environ.get("CTXATTR_DATA", "../shared/data"))
    if not (folder / name).is_file():
        raise ValueError(
            f"Give `--images` with JPEG photographs, or put {name} into the folder that "
            f"CTXATTR_DATA names. Received: no {folder / name}"
        )
    return [str(folder / name)]


def machine_facts() -> str:
    """Gives what the figures depend on, in one line."""
    info = Path("/proc/cpuinfo")
    words = set(info.read_text(errors="replace").split()) if info.is_file() else set()
    flags = " ".join(flag for flag in _FLAGS if flag in words) or "unknown"
    gpus = len(tf.config.list_physical_devices("GPU"))
    return (
        f"{len(os.sched_getaffinity(0))} cores ({flags}), {gpus} GPUs, TensorFlow "
        f"{tf.__version__}, load average {os.getloadavg()[0]:.1f} before"
    )


def report(config: Config) -> None:
    """Measures, and prints one table."""
    facts = machine_facts()
    figures = main(config)
    columns = ("", "value", "baseline", "ratio")
    rows = {name: [one.get(key) for key in columns[1:]] for name, one in figures.items()}
    print_table("speed", rows, columns)
    Console().print(facts, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
