"""Speed of the batched linear SVMs beside a loop over `sklearn.svm.LinearSVC`.

`svm`: clusters per second. Ours solves all clusters at once; of the loop a random 20 are timed. The
data are Gaussian with unit variance, as clustering scales features, and positives lie around a
centre each: no structure that a preconditioner could use, and a twentieth of the negatives active.
Beside the ratio: the largest relative excess of our objective over the loop's on those 20, and how
many decisions on other samples have the same sign.

`svm_growth_*`: time per cluster at full size beside a quarter of the clusters, or of the negatives
(per negative): 1 where cost grows linearly. `svm_peak_memory`: what a process takes beside the
bound that `fit_linear_svms` states, with negatives on the disk larger than the cache.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from sklearn.svm import LinearSVC

from keras_ctxattr.clustering.svm import fit_linear_svms
from keras_ctxattr.pictures import line_plot

Measurements = dict[str, dict[str, float]]
C = 0.1
MAX_FEATURES = 3000  # with more, no second moments are kept
RUNTIME_MEGABYTES = 50  # what TensorFlow's threads and kernels take by themselves, measured
PASSING_ROWS = 6144  # two tiles of 2 048 negatives, and as many that starts are tried on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Clusters and negatives.

    Attributes:
        num_clusters: SVMs.
        num_positives: of each.
        num_negatives: shared by all.
        num_features: of a sample.
        seed: of the draws.
    """

    num_clusters: int = 1000
    num_positives: int = 5
    num_negatives: int = 20_000
    num_features: int = 1000
    seed: int = 0

    def draw(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Gives (positives, cluster of each, negatives, samples of both kinds not trained on)."""
        generator = np.random.default_rng(self.seed)
        centres = generator.standard_normal((self.num_clusters, self.num_features), np.float32)
        ids = np.repeat(np.arange(self.num_clusters), self.num_positives)
        shape = (len(ids), self.num_features)
        positives = centres[ids] + 0.7 * generator.standard_normal(shape, np.float32)
        shape = (self.num_negatives, self.num_features)
        negatives = generator.standard_normal(shape, np.float32)
        others = generator.standard_normal((2000, self.num_features), np.float32)
        others[::2] += centres[np.arange(1000) % self.num_clusters]
        return positives, ids, negatives, others


def measure(problem: Problem, *, num_timed: int = 20, rounds: int = 2) -> Measurements:
    """Gives all figures of the stage.

    Args:
        problem: the clusters and negatives.
        num_timed: SVMs that the loop solves.
        rounds: alternations of both sides.
    """
    positives, ids, negatives, others = problem.draw()
    chosen = np.random.default_rng(problem.seed).permutation(problem.num_clusters)[:num_timed]
    fit_linear_svms(positives[ids < 8], ids[ids < 8], negatives[:4096])  # traces the functions
    ours, theirs = [], []
    loop: dict[int, np.ndarray] = {}
    for part in np.array_split(chosen, rounds):
        began = time.perf_counter()
        svms = fit_linear_svms(positives, ids, negatives)
        ours.append((time.perf_counter() - began) / problem.num_clusters)
        began = time.perf_counter()
        loop |= {number: fit_one(positives[ids == number], negatives) for number in part}
        theirs.append((time.perf_counter() - began) / max(1, len(part)))
    gaps, agreements = [], []
    for number, weights in loop.items():
        members = positives[ids == number]
        found = svms.weights[number].astype(np.float64)
        least = objective(weights, members, negatives)
        gaps.append(objective(found, members, negatives) / least - 1)
        agreements.append(np.mean((decide(found, others) > 0) == (decide(weights, others) > 0)))
    value, baseline = 1 / statistics.median(ours), 1 / statistics.median(theirs)
    return {
        "svm": {
            "value": value,
            "baseline": baseline,
            "ratio": value / baseline,
            "objective_gap": float(np.max(gaps)),
            "sign_agreement": float(np.mean(agreements)),
            "num_gradients": svms.num_gradients,
        },
        **measure_growth(problem),
        "svm_peak_memory": measure_memory(problem),
    }


def fit_one(members: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Gives liblinear's weights, the bias last, float64."""
    samples = np.concatenate([members, negatives]).astype(np.float64, order="C")
    labels = np.concatenate([np.ones(len(members)), -np.ones(len(negatives))])
    svm = LinearSVC(C=C, loss="squared_hinge", dual="auto", tol=1e-4).fit(samples, labels)
    return np.append(svm.coef_[0], svm.intercept_)


def objective(weights: np.ndarray, members: np.ndarray, negatives: np.ndarray) -> float:
    """Gives the objective of one SVM in float64."""
    pull = np.maximum(0, 1 - decide(weights, members))
    push = np.maximum(0, 1 + decide(weights, negatives))
    return float(0.5 * weights @ weights + C * (pull @ pull + push @ push))


def decide(weights: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Gives scores in float64."""
    return samples.astype(np.float64) @ weights[:-1] + weights[-1]


def measure_growth(problem: Problem) -> Measurements:
    """Gives time per cluster and per negative at three sizes: a quarter, a half, the whole."""
    shares = (0.25, 0.5, 1.0)
    figures: Measurements = {}
    for name, counted in (("clusters", "num_clusters"), ("negatives", "num_negatives")):
        seconds = {}
        for share in shares:
            count = int(share * getattr(problem, counted))
            positives, ids, negatives, _ = dataclasses.replace(problem, **{counted: count}).draw()
            began = time.perf_counter()
            fit_linear_svms(positives, ids, negatives)
            seconds[count] = time.perf_counter() - began
        per_item = [1000 * value / count for count, value in seconds.items()]
        figures[f"svm_growth_{name}"] = {
            "value": per_item[-1],
            "baseline": per_item[0],
            "ratio": per_item[-1] / per_item[0],
            **{f"seconds_{count}": value for count, value in seconds.items()},
        }
    return figures


def growth_picture(figures: Measurements) -> np.ndarray:
    """Draws the seconds of `measure_growth` over the size: straight lines where cost is linear.

    Args:
        figures: as `measure` gives them.

    Returns:
        uint8 `[height, width, 3]`.
    """
    lines = {}
    for name in ("clusters", "negatives"):
        figure = figures[f"svm_growth_{name}"]
        seconds = {
            int(key.removeprefix("seconds_")): value
            for key, value in figure.items()
            if key.startswith("seconds_")
        }
        whole = max(seconds)
        shares = [100 * count / whole for count in seconds]
        lines[f"{name}, up to {whole:,}"] = (shares, list(seconds.values()))
    return line_plot(
        lines, title="Time to solve all SVMs", x_label="per cent of the size", y_label="seconds"
    )


def bound_megabytes(problem: Problem, cache_bytes: int, block_size: int) -> float:
    """Gives the memory that `fit_linear_svms` may take, as its docstring says, in MB."""
    width = problem.num_features + 1
    moments = 3 * width if problem.num_features <= MAX_FEATURES else 0
    block = block_size * (problem.num_positives + 8)
    counted = 2 * cache_bytes + 4 * width * (PASSING_ROWS + moments + block)
    return counted / 2**20 + RUNTIME_MEGABYTES


def measure_memory(problem: Problem) -> dict[str, float]:
    """Gives the memory that solving adds to a process, beside its bound; MB."""
    small = dataclasses.replace(problem, num_clusters=min(256, problem.num_clusters))
    cache_bytes = 4 * problem.num_features * problem.num_negatives // 2
    with tempfile.TemporaryDirectory() as folder:
        positives, ids, negatives, _ = small.draw()
        np.savez(Path(folder) / "members.npz", positives=positives, ids=ids)
        np.save(Path(folder) / "negatives.npy", negatives)
        del negatives
        command = [sys.executable, "-m", "evaluation.speed_svm", folder, str(cache_bytes)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
    value = json.loads(answer.stdout.splitlines()[-1])
    baseline = bound_megabytes(small, cache_bytes, small.num_clusters)
    return {"value": value, "baseline": baseline, "ratio": value / baseline}


def solve_in_folder(folder: Path, cache_bytes: int) -> float:
    """Solves what `measure_memory` laid down, and gives the memory that it added, MB.

    Pages of the negatives' file that the system keeps are not counted: it may drop them.
    """
    members = np.load(folder / "members.npz")
    negatives = np.load(folder / "negatives.npy", mmap_mode="r")
    first = min(256, len(negatives))
    fit_linear_svms(members["positives"][:5], np.zeros(5, int), negatives[:first])
    before = _anonymous_megabytes()
    seen = [before]
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(0.02):
            seen.append(_anonymous_megabytes())

    thread = threading.Thread(target=watch)
    thread.start()
    fit_linear_svms(members["positives"], members["ids"], negatives, cache_bytes=cache_bytes)
    stopped.set()
    thread.join()
    return max(seen) - before


def _anonymous_megabytes() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("Memory is read from /proc/self/status, which this system does not have")


if __name__ == "__main__":
    print(json.dumps(solve_in_folder(Path(sys.argv[1]), int(sys.argv[2]))))
