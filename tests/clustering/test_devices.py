"""SVMs divided over the devices of a process."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.clustering import DiscriminativeClustering
from keras_ctxattr.clustering.svm import fit_linear_svms
from keras_ctxattr.clustering.svm.devices import GuardedTable, resolve_devices, solve_blocks
from keras_ctxattr.data.shards import ShardedArray
from tests.clustering import plain
from tests.clustering.test_clustering import make_concepts

# Two logical CPUs must be asked for before TensorFlow starts: a process of their own.
TWO_DEVICES = """
import json, sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_ctxattr.clustering import DiscriminativeClustering
from keras_ctxattr.clustering.svm import descent, fit_linear_svms, negatives
from tests.clustering import plain
from tests.clustering.test_clustering import make_concepts

negatives.MAX_BLOCK = 8  # several blocks of few clusters
used = set()
evaluate = descent.evaluate
def watch(block, tiles, weights, margins):
    used.add(weights.device[-5:])
    return evaluate(block, tiles, weights, margins)
descent.evaluate = watch

positives, ids, rows = plain.make_clusters(num_clusters=40, num_negatives=2500, num_features=30)
same = {}
for name, cache_bytes in (("whole", 1 << 30), ("mined", 700 * 30 * 4)):
    one = fit_linear_svms(positives, ids, rows, cache_bytes=cache_bytes)
    used.clear()
    for devices in (("CPU:0", "CPU:1"), ("/device:CPU:1",)):
        other = fit_linear_svms(positives, ids, rows, cache_bytes=cache_bytes, devices=devices)
        same[f"{name} {devices}"] = all(
            np.array_equal(getattr(one, field), getattr(other, field))
            for field in ("weights", "objectives", "converged")
        ) and one.num_gradients == other.num_gradients
    same[f"{name} used both"] = used == {"CPU:0", "CPU:1"}
vectors, _ = make_concepts()
one = DiscriminativeClustering(num_growths=1).fit(vectors)
both = DiscriminativeClustering(num_growths=1, devices=["CPU:0", "CPU:1"]).fit(vectors)
same["clustering"] = np.array_equal(one.classifiers_, both.classifiers_)
same["labels"] = np.array_equal(one.labels_, both.labels_)

def fail(block, tiles, weights, margins):
    if weights.device.endswith("CPU:1"):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory on the second device")
    return evaluate(block, tiles, weights, margins)
descent.evaluate = fail
try:
    fit_linear_svms(positives, ids, rows, devices=("CPU:0", "CPU:1"))
except tf.errors.ResourceExhaustedError as error:
    same["failure"] = "no memory on the second device" in str(error)
print(json.dumps(same))
"""


def test_one_device_and_two_give_the_same_bits_and_a_failure_is_raised():
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    same = json.loads(done.stdout.splitlines()[-1])
    assert len(same) == 9 and all(same.values()), same


def test_the_only_device_by_name_is_the_default():
    problem = plain.make_clusters()
    named = fit_linear_svms(*problem, devices=["CPU:0"])
    np.testing.assert_array_equal(named.weights, fit_linear_svms(*problem).weights)


def test_without_names_several_gpus_are_all_used_and_one_is_tensorflows_choice(monkeypatch):
    def list_devices(count):
        names = [f"/device:GPU:{number}" for number in range(count)]
        found = [tf.config.LogicalDevice(name, "GPU") for name in names]
        return lambda kind=None: found

    assert resolve_devices(None) == [None]
    for count, expected in ((1, [None]), (3, [f"/device:GPU:{number}" for number in range(3)])):
        monkeypatch.setattr(tf.config, "list_logical_devices", list_devices(count))
        assert resolve_devices(None) == expected


@pytest.mark.parametrize("devices", [(), ("GPU:7",), ("CPU:0", "/device:CPU:0"), "CPU:0"], ids=str)
def test_devices_that_are_not_there_are_one_line_with_those_that_are(devices):
    with pytest.raises(ValueError) as caught:
        fit_linear_svms(*plain.make_clusters(), devices=devices)
    assert "`devices` must name some of /device:CPU:0" in str(caught.value)
    assert f"Received: {devices!r}" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="`devices` must name"):
        DiscriminativeClustering(devices=devices).fit(make_concepts()[0])


# ---- the pieces ---------------------------------------------------------------------------------


def make_blocks(count):
    return [np.arange(3 * number, 3 * number + 3) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_block_is_solved_once_and_no_solver_has_two_at_a_time(count):
    busy = [threading.Lock() for _ in range(count)]

    def make_solver(number):
        def solve(columns):
            assert busy[number].acquire(blocking=False)
            time.sleep(0.005)
            busy[number].release()
            return columns.sum()

        return solve

    blocks = make_blocks(12)
    found = list(solve_blocks(blocks, [make_solver(number) for number in range(count)]))
    assert sorted(columns[0] for columns, _ in found) == [block[0] for block in blocks]
    assert all(columns.sum() == total for columns, total in found)


def test_a_solver_that_fails_ends_it_and_no_other_block_begins():
    begun = []

    def fail(columns):
        raise RuntimeError("the device is gone")

    def work(columns):
        begun.append(columns[0])
        time.sleep(0.05)
        return columns

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="the device is gone"):
        list(solve_blocks(make_blocks(200), [work, fail]))
    assert time.monotonic() - began < 5
    assert len(begun) <= 3


def test_a_consumer_that_stops_leaves_no_thread(monkeypatch):
    before = threading.active_count()
    solutions = solve_blocks(make_blocks(50), [lambda c: c, lambda c: c])
    next(solutions)
    solutions.close()
    assert threading.active_count() == before


def test_shards_are_read_by_one_thread_at_a_time(tmp_path, monkeypatch):
    """Of more shards than are mapped at a time, one was let go while another thread took it."""
    monkeypatch.setattr("keras_ctxattr.data.shards.array._MAX_MAPS", 2)
    for number in range(12):
        np.save(tmp_path / f"{number:02d}.npy", np.full((50, 3), number, np.float16))
    table = GuardedTable(ShardedArray(sorted(tmp_path.glob("*.npy"))), threading.Lock())
    assert table.shape == (600, 3) and len(table) == 600
    wrong = []

    def read(seed):
        generator = np.random.default_rng(seed)
        for _ in range(60):
            rows = generator.integers(0, 600, 40)
            found = table[rows]
            if found.dtype != np.float32 or not (found == (rows // 50)[:, None]).all():
                wrong.append(rows)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_positives_are_read_block_by_block(monkeypatch):
    """All members together once lay in memory, hundreds of thousands of grown clusters."""
    positives, ids, negatives = plain.make_clusters(num_clusters=12)
    monkeypatch.setattr("keras_ctxattr.clustering.svm.checks.TILE_ROWS", 16)
    monkeypatch.setattr("keras_ctxattr.clustering.svm.negatives.MAX_BLOCK", 4)

    class Table:
        shape, most = positives.shape, 0

        def __len__(self):
            return len(positives)

        def __getitem__(self, chosen):
            found = positives[chosen]
            self.most = max(self.most, len(found))
            return found

    table = Table()
    found = fit_linear_svms(table, ids, negatives)
    np.testing.assert_array_equal(found.weights, fit_linear_svms(positives, ids, negatives).weights)
    assert table.most == 20
    positives[7, 3] = np.nan
    with pytest.raises(ValueError, match="1 rows with NaN or infinity"):
        fit_linear_svms(table, ids, negatives)
