"""Training on several devices: the same run, whoever computes it; and how it ends without one."""

import dataclasses
import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_ctxattr.clustering.alternation.network import build_classifier
from keras_ctxattr.runs import Run
from keras_ctxattr.runs.distribution import Deadline, Devices, open_devices
from tests.clustering.concepts import TINY, write_concepts

SCRIPT = Path(__file__).with_name("train_apart.py")
WHATS = ["context", "attributes", "patches", "clusters"]
SECONDS = 240  # that any process here may take


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for number in range(16):
        coarse = generator.integers(0, 256, (9, 12, 3), np.uint8)
        smooth = cv2.resize(coarse, (180, 140), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(folder / f"{number:02}.png"), smooth)
    return folder


def start(
    what,
    distribute,
    num_cpus,
    photographs,
    run,
    *,
    steps=6,
    minutes=2,
    cluster=None,
    worker=0,
    largest_file=None,
):
    """Starts a training in a process of its own, which can write no larger file."""
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    environment.pop("TF_CONFIG", None)
    if cluster is not None:
        task = {"cluster": {"worker": cluster}, "task": {"type": "worker", "index": worker}}
        environment["TF_CONFIG"] = json.dumps(task)
    words = [what, distribute, num_cpus, photographs, run, steps, minutes]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=largest_file and functools.partial(limit_files, largest_file),
    )


def limit_files(largest):
    """Makes writing more than so many bytes an error, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def finish(*processes):
    """Waits for processes, and gives (exit code, what it said) of each; none outlives the test."""
    try:
        said = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, out + error)
        for process, (out, error) in zip(processes, said, strict=True)
    ]


def train(*arguments, **options):
    ((code, said),) = finish(start(*arguments, **options))
    assert code == 0, said


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    names = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return names


def start_workers(what, photographs, run, steps=(6, 6), largest_files=(None, None)):
    cluster = free_ports(2)
    return [
        start(
            what,
            "multiworker",
            1,
            photographs,
            run,
            steps=count,
            cluster=cluster,
            worker=worker,
            largest_file=largest_files[worker],
        )
        for worker, count in enumerate(steps)
    ]


def training_of(run):
    """Gives the folder of the network's training: of a round, where there are rounds."""
    inner = run / "rounds/1/training"
    return inner if inner.exists() else run


def weights(run):
    """Gives the last checkpoint's variables but counters, by group and place."""
    checkpoint = Run.read(run).latest_checkpoint()
    with zipfile.ZipFile(checkpoint.path) as archive:
        groups = json.loads(archive.read("state.json"))["variables"]
        found = {}
        for group in ("model", "optimizer"):
            for place, entry in enumerate(groups[group]):
                if "seed_generator" not in entry["path"]:
                    with archive.open(f"{group}/{place:04d}.npy") as file:
                        found[group, entry["path"]] = np.lib.format.read_array(file)
    return checkpoint.step, found


def assert_same_run(run, other, tolerance):
    run, other = training_of(run), training_of(other)
    (step, ours), (other_step, theirs) = weights(run), weights(other)
    assert step == other_step
    for name, values in ours.items():
        scale = max(1.0, np.abs(values).max())
        np.testing.assert_allclose(
            values / scale, theirs[name] / scale, atol=tolerance, err_msg=str(name)
        )
    rows, others = Run.read(run).metrics.rows(), Run.read(other).metrics.rows()
    assert len(rows) == len(others) > 0
    for row, another in zip(rows, others, strict=True):
        assert row.keys() == another.keys()
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(another[name], rel=1e-4, abs=1e-5), name


@pytest.fixture(scope="module")
def photographs_of(photographs, tmp_path_factory):
    """What there is to learn from, by what is trained."""
    concepts = write_concepts(tmp_path_factory.mktemp("concepts") / "photos", num_images=120)
    return lambda what: concepts if what == "clusters" else photographs


@pytest.fixture(scope="module")
def single(photographs_of, tmp_path_factory):
    """Gives a run on one device, by what is trained."""
    folder = tmp_path_factory.mktemp("single")

    def run_of(what):
        if not (folder / what).exists():
            train(what, "none", 1, photographs_of(what), folder / what)
        return folder / what

    return run_of


@pytest.mark.slow
@pytest.mark.parametrize("what", WHATS)
def test_two_devices_of_a_machine_train_as_one_does(photographs_of, single, tmp_path, what):
    """With jitter, dropped colours, transformations, dropout, padding and batch statistics."""
    train(what, "mirrored", 2, photographs_of(what), tmp_path / "run")
    assert_same_run(single(what), tmp_path / "run", 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("what", [what for what in WHATS if what != "attributes"])
def test_two_workers_train_as_one_device_does_and_only_the_first_writes(
    photographs_of, single, tmp_path, what
):
    for code, said in finish(*start_workers(what, photographs_of(what), tmp_path / "run")):
        assert code == 0, said
    assert_same_run(single(what), tmp_path / "run", 1e-5)


@pytest.fixture(scope="module")
def whole(photographs, tmp_path_factory):
    """Gives a run of two workers that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")

    def run_of(what):
        if not (folder / what).exists():
            for code, said in finish(*start_workers(what, photographs, folder / what, (40, 40))):
                assert code == 0, said
        return folder / what

    return run_of


@pytest.mark.slow
@pytest.mark.parametrize(("what", "killed"), [("context", 0), ("context", 1), ("patches", 1)])
def test_a_killed_worker_ends_the_others_and_the_same_command_goes_on(
    photographs, whole, tmp_path, what, killed
):
    """Resumed, all workers end with the weights of a run that nobody killed, and it is finished."""
    run = tmp_path / "run"
    command = (what, photographs, run, (40, 40))
    workers = start_workers(*command)
    end = time.monotonic() + SECONDS
    while not list(run.glob("checkpoints/step-*.npz")) and time.monotonic() < end:
        time.sleep(0.01)
    workers[killed].send_signal(signal.SIGKILL)
    codes, said = zip(*finish(*workers), strict=True)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] not in (0, -signal.SIGKILL)
    # Without the first worker, TensorFlow itself may end the process before we can say more.
    lines = ["All workers must stay"] if killed else ["All workers must stay", "leader"]
    assert any(line in said[1 - killed] for line in lines), said[1 - killed]
    assert 0 < weights(run)[0] < 40
    for code, words in finish(*start_workers(*command)):
        assert code == 0, words
        assert "Going on from step" in words
    assert_same_run(whole(what), run, 0)
    for code, words in finish(*start_workers(*command)):
        assert code == 0, words
        assert "Going on from step" not in words


@pytest.mark.slow
def test_a_full_disk_ends_all_workers_and_the_same_command_goes_on(photographs, single, tmp_path):
    run = tmp_path / "run"
    (code, said), (other_code, other_said) = finish(
        *start_workers("patches", photographs, run, largest_files=(20_000, None))
    )
    assert code not in (0, -signal.SIGKILL) and other_code not in (0, -signal.SIGKILL)
    assert "or start in a folder on another disk" in said and "must stay" in other_said
    for code, words in finish(*start_workers("patches", photographs, run)):
        assert code == 0, words
    assert_same_run(single("patches"), run, 1e-5)


@pytest.mark.slow
def test_a_worker_that_never_comes_is_waited_for_no_longer_than_said(photographs, tmp_path):
    """TensorFlow's wait once held up the thread that was to end it."""
    worker = start(
        "attributes",
        "multiworker",
        1,
        photographs,
        tmp_path / "run",
        minutes=0.1,
        cluster=free_ports(2),
    )
    ((code, said),) = finish(worker)
    assert code == -signal.SIGKILL
    assert "waited 0.1 minutes for all of 2 workers to start" in said


@pytest.mark.slow
def test_workers_that_were_given_different_commands_say_so(photographs, tmp_path):
    for code, said in finish(*start_workers("context", photographs, tmp_path / "run", (6, 7))):
        assert code != 0
        assert "same command" in said


@pytest.mark.slow
def test_plain_keras_still_needs_what_keras_faults_contains(photographs, tmp_path):
    """Where this fails, a newer Keras trains on several workers by itself: remove the module."""
    for code, said in finish(*start_workers("plain", photographs, tmp_path / "run")):
        assert code != 0, "Keras has mended it: see keras_ctxattr.runs.distribution.keras_faults"
        assert "PerReplica" in said


def give_one_worker(script, *words):
    """Gives what a command of training says, as the only one of its workers."""
    task = {"cluster": {"worker": free_ports(1)}, "task": {"type": "worker", "index": 0}}
    return subprocess.run(
        [sys.executable, "-m", f"training.{script}", *map(str, words)],
        env={**os.environ, "TF_CONFIG": json.dumps(task)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    ).stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "more"), [("pretrain_context", ["--steps", "1"]), ("cluster_features", [])]
)
def test_commands_open_workers_before_tensorflow_opens_its_devices(tmp_path, script, more):
    """To silence it, its devices were asked for first, and a recipe once drew: no worker began."""
    (tmp_path / "notes.txt").write_text("no photograph")
    words = ["--images", tmp_path, "--run", tmp_path / "run", "--distribute", "multiworker"]
    said = give_one_worker(script, *words, *more)
    # It gets as far as the photographs, of which there are none.
    assert "error: At least one image must be usable" in said, said


@pytest.mark.slow
def test_attributes_open_workers_before_their_network_is_loaded(single, tmp_path):
    # Neighbours in place of clusters: those of so short a training are of no use.
    words = ["--clusters", single("clusters"), "--round", "1", "--neighbours", "2"]
    words += ["--run", tmp_path / "run", "--passes", "1", "--distribute", "multiworker"]
    said = give_one_worker("learn_attributes", *words)
    assert (tmp_path / "run" / "module" / "saved_model.pb").is_file(), said


# ---- without other processes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "Received: none"),
        ("{", r"Received: \{"),
        ('{"cluster": {"worker": ["a:1"]}}', "task"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "an index past the workers",
        ),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
            "other tasks than workers",
        ),
    ],
)
def test_a_cluster_that_is_not_described_is_refused_in_a_line(monkeypatch, text, named):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=f"TF_CONFIG must name all workers.*{named}"):
        open_devices("multiworker")


def test_an_unknown_distribution_names_those_there_are():
    with pytest.raises(ValueError, match=r"one of.*'mirrored'.*Received: 'tpu'"):
        open_devices("tpu")


def test_several_workers_need_steps_and_equal_groups():
    several = Devices(num_workers=2)
    with pytest.raises(ValueError, match=r"must be given `steps`.*2 workers and no steps"):
        several.check_budget(None)
    several.check_budget(10)
    Devices().check_budget(None)
    assert several.checkpoints_due(3.0, 100) == {"every_minutes": None, "every_steps": 100}
    assert Devices().checkpoints_due(3.0, 100) == {"every_minutes": 3.0}


def test_a_deadline_ends_the_process_with_a_line_and_only_when_it_is_over():
    script = (
        "import sys, time\n"
        "from keras_ctxattr.runs.distribution import Deadline\n"
        "with Deadline(0.4, 'waited in vain') as deadline:\n"
        "    for _ in range(4):\n"
        "        time.sleep(0.2); deadline.postpone()\n"
        "    deadline.suspend(); time.sleep(0.8)\n"
        "    print('still here', flush=True)\n"
        "    deadline.postpone(); time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "still here\n"
    assert "This worker waited in vain" in done.stderr


def test_a_deadline_that_is_met_leaves_the_process_alone():
    with Deadline(0.2, "waited in vain"):
        pass
    time.sleep(0.5)  # it would have ended this very test run


def test_a_network_that_drops_nothing_is_aligned_and_copied_for_one_device():
    """A dropout of 0 has no generator of draws: it once stopped every distributed training."""
    devices = open_devices("mirrored")
    recipe = dataclasses.replace(TINY, dropout=0.0)
    with devices.scope():
        model = build_classifier(recipe, 3)
    devices.align(model, [model.get_layer("copies"), model.get_layer("dropout")])
    copied = devices.on_one(model)
    assert copied is not model and Devices().on_one(model) is model
    for one, other in zip(model.get_weights(), copied.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any("Mirrored" in type(weight.value).__name__ for weight in copied.weights)
