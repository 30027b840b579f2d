"""Run folders: same command resumes, others are refused, and kill -9 loses nothing."""

import errno
import json
import os
import random
import subprocess
import sys
import textwrap
import time
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_ctxattr.runs import DiskFullError, MetricsTable, Run, RunError, RunWarning, writing
from keras_ctxattr.runs import write_atomically as atomically

CONFIG = {"seed": 1, "steps": 100, "images": ["a", "b"]}


class FakeVariable:
    """What a checkpoint needs of a Keras variable, without the cost of importing Keras."""

    path = "layer/kernel"

    def __init__(self, value) -> None:
        self.value = np.asarray(value)
        self.shape = self.value.shape

    def numpy(self):
        return self.value

    def assign(self, value) -> None:
        self.value = np.array(value)


def fake_model(*values):
    variables = [FakeVariable(value) for value in values]
    return types.SimpleNamespace(name="fake", built=True, variables=variables, metrics_variables=[])


def open_run(folder, config=CONFIG, **options):
    return Run.open(folder, config, kind="demo", **options)


# ---- opening -------------------------------------------------------------------------------------


def test_same_configuration_resumes_and_tuples_and_paths_count_as_their_json(tmp_path):
    config = CONFIG | {"images": (Path("a"), "b"), "rate": np.float64(0.5)}
    open_run(tmp_path / "run", config).close()
    with open_run(tmp_path / "run", config) as run:
        assert run.config["images"] == ["a", "b"]
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored == {"format": 1, "kind": "demo", "config": run.config}


def test_other_configuration_is_refused_naming_each_key_with_both_values(tmp_path):
    open_run(tmp_path / "run").close()
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(RunError) as caught:
        open_run(tmp_path / "run", CONFIG | {"seed": 2, "gap": 48})
    message = str(caught.value)
    assert "seed = 2 (there: 1)" in message and "gap = 48 (there: 'nothing')" in message
    assert "steps =" not in message and "another folder" in message and "\n" not in message
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_other_kind_is_refused(tmp_path):
    open_run(tmp_path / "run").close()
    with pytest.raises(RunError, match="of kind 'demo', not 'context'"):
        Run.open(tmp_path / "run", CONFIG, kind="context")
    with pytest.raises(RunError, match="of kind 'demo', not 'context'"):
        Run.read(tmp_path / "run", kind="context")


def test_budget_may_grow_but_not_shrink_and_a_grown_run_is_unfinished(tmp_path):
    with open_run(tmp_path / "run", extendable=["steps"]) as run:
        run.finish({"accuracy": 0.25})
    with pytest.raises(RunError, match=r"steps = 50 \(there: 100\)"):
        open_run(tmp_path / "run", CONFIG | {"steps": 50}, extendable=["steps"])
    assert Run.read(tmp_path / "run").finished
    with open_run(tmp_path / "run", CONFIG | {"steps": 200}, extendable=["steps"]) as run:
        assert not run.finished and run.summary == {}
    assert Run.read(tmp_path / "run").config["steps"] == 200


def test_finished_run_says_so(tmp_path):
    with open_run(tmp_path / "run") as run:
        assert not run.finished
        run.finish({"accuracy": np.float32(0.25), "confusion": np.eye(2)})
    with open_run(tmp_path / "run") as run:
        assert run.finished and run.summary["confusion"] == [[1, 0], [0, 1]]


@pytest.mark.parametrize("content", ["photo.jpg", "config.json"])
def test_folder_of_somebody_else_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / content).write_text("{}")
    with pytest.raises(RunError, match="run folder") as caught:
        open_run(tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / content).read_text() == "{}"


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="is a file"):
        open_run(tmp_path / "run")
    with pytest.raises(RunError, match="cannot be written"):
        open_run(tmp_path / "run" / "below")


def test_start_that_was_killed_before_its_config_starts_again(tmp_path):
    (tmp_path / ".lock").write_text("1\n")
    (tmp_path / ".config.partial-1.json").write_text('{"for')
    with open_run(tmp_path):
        assert not list(tmp_path.glob("*partial*"))
        assert not list(tmp_path.glob(".*partial*"))


def test_second_process_is_refused_until_the_first_dies(tmp_path):
    script = f"""
        from keras_ctxattr.runs import Run
        run = Run.open({str(tmp_path / "run")!r}, {CONFIG!r}, kind="demo")
        print("open", flush=True)
        input()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
    with pytest.raises(RunError, match=rf"process \(id {holder.pid}\) is training"):
        open_run(tmp_path / "run")
    assert Run.read(tmp_path / "run").config == CONFIG
    holder.kill()
    holder.communicate()
    open_run(tmp_path / "run").close()


def test_reading_needs_a_run_and_cannot_write(tmp_path):
    with pytest.raises(RunError, match="no run folder"):
        Run.read(tmp_path)
    open_run(tmp_path / "run").close()
    run = Run.read(tmp_path / "run")
    with pytest.raises(RunError, match="opened to be read"):
        run.finish({})
    with pytest.raises(RunError, match="opened to be read"):
        run.save_checkpoint(fake_model(1.0), 1)


def test_versions_are_recorded_and_a_resume_under_others_is_noted(tmp_path):
    open_run(tmp_path / "run").close()
    path = tmp_path / "run" / "versions.json"
    versions = json.loads(path.read_text())
    assert {"python", "keras", "tensorflow", "numpy"} <= versions["made_with"].keys()
    versions["made_with"]["keras"] = "3.0"
    path.write_text(json.dumps(versions))
    for _ in range(2):
        open_run(tmp_path / "run").close()
    resumed = json.loads(path.read_text())["resumed_with"]
    assert len(resumed) == 1 and resumed[0]["keras"] != "3.0"


# ---- a start that fails --------------------------------------------------------------------------


def fail_in(folder, error=ValueError, before=lambda run: None):
    with pytest.raises(error), open_run(folder) as run:
        before(run)
        raise error


def write_scan(run):
    with run.writing("images.sqlite") as partial:
        partial.write_text("a scan")
    with run.writing("pictures/first.png") as partial:
        partial.write_text("a picture")
    (run.logs / "train").mkdir(parents=True)
    run.metrics.append({"step": 0, "loss": 2.0})


@pytest.mark.parametrize("before", [lambda run: None, write_scan])
def test_start_that_failed_before_training_leaves_no_trace(tmp_path, before):
    """A typing error in the first command made the folder refuse the corrected one."""
    fail_in(tmp_path / "new" / "run", before=before)
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    fail_in(tmp_path / "empty", before=before)
    assert not list((tmp_path / "empty").iterdir())
    open_run(tmp_path / "empty", CONFIG | {"seed": 9}).close()


def test_failed_start_removes_nothing_that_it_did_not_write(tmp_path):
    fail_in(tmp_path / "a", before=lambda run: (run.path / "mine.txt").write_text("words"))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_folder_that_held_a_run_stays_as_it_was_when_a_later_start_fails(tmp_path, error):
    open_run(tmp_path / "run").close()
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.json")}
    fail_in(tmp_path / "run", error, before=write_scan)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.json")} == before
    assert (tmp_path / "run" / "images.sqlite").exists()


@pytest.mark.parametrize(
    "begin", [lambda run: run.commit(), lambda run: run.save_checkpoint(fake_model(1.0), 1)]
)
def test_error_in_training_keeps_the_folder(tmp_path, begin):
    fail_in(tmp_path / "run", before=begin)
    assert Run.read(tmp_path / "run").config == CONFIG


def test_interrupt_keeps_a_scan_but_not_a_bare_configuration(tmp_path):
    fail_in(tmp_path / "bare", KeyboardInterrupt)
    assert not (tmp_path / "bare").exists()
    fail_in(tmp_path / "scanned", KeyboardInterrupt, before=write_scan)
    with open_run(tmp_path / "scanned") as run:
        assert (run.path / "images.sqlite").read_text() == "a scan"


# ---- damaged files -------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["{}", "[]", '{"made_with": {}}', '{"made_with', ""])
def test_damaged_versions_are_one_line_that_says_what_to_do(tmp_path, content):
    open_run(tmp_path / "run").close()
    (tmp_path / "run" / "versions.json").write_text(content)
    with pytest.raises(RunError, match=r"versions\.json is damaged: delete it") as caught:
        open_run(tmp_path / "run")
    assert "\n" not in str(caught.value)
    (tmp_path / "run" / "versions.json").unlink()
    open_run(tmp_path / "run").close()


@pytest.mark.parametrize("content", ['{"accuracy": 0.2', "", "[1]"])
def test_damaged_summary_is_one_line_that_says_what_to_do(tmp_path, content):
    with open_run(tmp_path / "run") as run:
        run.finish({"accuracy": 0.25})
    (tmp_path / "run" / "summary.json").write_text(content)
    with pytest.raises(RunError, match=r"summary\.json is damaged: delete it") as caught:
        _ = Run.read(tmp_path / "run").summary
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        ("loss,accuracy\n1,2\n", "no column `step`"),
        ("step,loss\n1,0.5\n2,often\n", "'often' in line 3 is no number"),
        ("step,loss\n,0.5\n", "no `step` in line 2"),
        ("these are words\nnot rows\n", "no column `step`"),
    ],
)
def test_damaged_metrics_are_one_line_that_says_what_to_do(tmp_path, content, finding):
    with open_run(tmp_path / "run") as run:
        run.metrics.path.write_text(content)
        for use in (run.metrics.rows, lambda: run.restore(fake_model(1.0))):
            with pytest.raises(RunError) as caught:
                use()
            message = str(caught.value)
            assert finding in message and "delete it" in message and "\n" not in message
        assert run.metrics.path.read_text() == content


# ---- whole files or none -------------------------------------------------------------------------


def test_failed_write_leaves_the_old_file_and_no_partial(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomically(path) as partial:
        partial.write_text("new but not who")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.txt"]


def test_folder_is_replaced_as_a_whole(tmp_path):
    for content in ("old", "new"):
        with atomically(tmp_path / "module") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [entry.name for entry in (tmp_path / "module").iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["module"]


def test_what_may_not_be_replaced_stays(tmp_path):
    for content in ("old", "new"):
        (tmp_path / "module").mkdir(exist_ok=True)  # an empty folder is nothing
        try:
            with atomically(tmp_path / "module", replace=False) as partial:
                partial.mkdir()
                (partial / content).write_text(content)
        except FileExistsError as error:
            assert content == "new" and "give another name" in str(error)
            assert "\n" not in str(error)
    assert [entry.name for entry in (tmp_path / "module").iterdir()] == ["old"]
    (tmp_path / "file.txt").write_text("old")
    for name in ("file.txt", "module"):
        with pytest.raises(FileExistsError), atomically(tmp_path / name, replace=False) as partial:
            partial.write_text("new")
    assert (tmp_path / "file.txt").read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file.txt", "module"]


def test_json_refuses_what_json_cannot_hold_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    writing.write_json(path, {"accuracy": np.float32(0.5)})
    with pytest.raises(ValueError):
        writing.write_json(path, {"accuracy": float("nan")})
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        writing.write_json(path, {"accuracy": object()})
    assert json.loads(path.read_text()) == {"accuracy": 0.5}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_one_line_and_leaves_no_partial(tmp_path, number):
    with pytest.raises(DiskFullError) as caught, atomically(tmp_path / "a.png"):
        raise OSError(number, os.strerror(number))
    assert "free some space under" in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_full_disk_reported_only_in_words_is_understood_and_others_pass_through(tmp_path):
    with pytest.raises(DiskFullError), atomically(tmp_path / "a.h5"):
        raise RuntimeError("Can't write (file write failed: errno = 28, No space left on device)")
    with pytest.raises(PermissionError), atomically(tmp_path / "a.h5"):
        raise PermissionError(errno.EACCES, "denied")


# ---- metrics.csv ---------------------------------------------------------------------------------


def test_rows_read_back_exactly(tmp_path):
    table = MetricsTable(tmp_path / "metrics.csv")
    rows = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": float("inf")}]
    for row in rows:
        table.append(row)
    assert table.rows() == rows
    assert table.path.read_text() == "step,loss\n1,0.30000000000000004\n2,inf\n"


def test_later_column_is_empty_in_earlier_rows(tmp_path):
    table = MetricsTable(tmp_path / "metrics.csv")
    table.append({"step": 1, "loss": 2.0})
    table.append({"step": 2, "loss": np.float32(1.5), "val_loss": 3.0})
    table.append({"step": 3, "loss": 1.0})
    assert table.path.read_text() == "step,loss,val_loss\n1,2.0,\n2,1.5,3.0\n3,1.0,\n"


@pytest.mark.parametrize("torn", ["", "3", "3,0.", "3,0.5"])
def test_torn_last_line_is_skipped_and_mended_by_the_next_row(tmp_path, torn):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n1,0.9\n2,0.8\n" + torn)
    assert [row["step"] for row in MetricsTable(path).rows()] == [1, 2]
    MetricsTable(path).append({"step": 3, "loss": 0.7})
    assert path.read_text() == "step,loss\n1,0.9\n2,0.8\n3,0.7\n"


def test_torn_header_and_empty_file_are_no_rows(tmp_path):
    for content in ("", "ste", "step,loss\n"):
        path = tmp_path / "metrics.csv"
        path.write_text(content)
        assert MetricsTable(path).rows() == []
        MetricsTable(path).append({"step": 1, "loss": 0.5})
        assert path.read_text() == "step,loss\n1,0.5\n"


def test_rows_past_the_checkpoint_are_dropped_on_resume_only(tmp_path):
    with open_run(tmp_path / "run") as run:
        for step in (10, 20, 30):
            run.metrics.append({"step": step, "loss": 1 / step})
        whole = run.metrics.path.read_text()
        run.save_checkpoint(fake_model(np.zeros(3)), 20)
    Run.read(tmp_path / "run").restore(fake_model(np.ones(3)))
    assert run.metrics.path.read_text() == whole
    with open_run(tmp_path / "run") as run:
        run.restore(fake_model(np.ones(3)))
        assert [row["step"] for row in run.metrics.rows()] == [10, 20]
        run.metrics.append({"step": 30, "loss": 1 / 30})
        assert run.metrics.path.read_text() == whole


def test_without_a_checkpoint_training_starts_over_with_no_rows(tmp_path):
    with open_run(tmp_path / "run") as run:
        run.metrics.append({"step": 10, "loss": 1.0})
        assert run.restore(fake_model(1.0)) is None
        assert run.metrics.rows() == []


# ---- checkpoints ---------------------------------------------------------------------------------


def test_last_checkpoints_are_kept_and_carry_their_state(tmp_path):
    with open_run(tmp_path / "run") as run:
        for step in (1, 5, 12):
            run.save_checkpoint(fake_model(np.full(3, step)), step, {"seconds": step / 2})
        names = sorted(path.name for path in run.checkpoints.iterdir())
        assert names == ["step-00000005.npz", "step-00000012.npz"]
        model = fake_model(np.zeros(3, np.int64))
        checkpoint = run.restore(model)
        assert (checkpoint.step, checkpoint.state) == (12, {"seconds": 6.0})
        assert model.variables[0].value.tolist() == [12, 12, 12]


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit"])
def test_damaged_checkpoint_falls_back_to_the_previous_with_a_warning(tmp_path, damage):
    with open_run(tmp_path / "run") as run:
        for step in (1, 2):
            path = run.save_checkpoint(fake_model(np.full(1000, step)), step)
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        cut = {"truncated": len(content) // 2, "empty": 0, "one bit": len(content)}[damage]
        path.write_bytes(content[:cut])
        model = fake_model(np.zeros(1000, np.int64))
        with pytest.warns(RunWarning, match="No checkpoint after step 1 .* goes on from there"):
            assert run.restore(model).step == 1 and model.variables[0].value[0] == 1
        assert not path.exists()


def test_training_that_starts_over_says_so_and_keeps_the_damaged_checkpoints(tmp_path):
    """They were deleted without a word, and training began at step 0."""
    with open_run(tmp_path / "run") as run:
        for step in (1, 2):
            run.save_checkpoint(fake_model(np.full(1000, step)), step).write_bytes(b"PK damaged")
        with pytest.warns(RunWarning, match=r"No checkpoint in .* is whole: training starts over"):
            assert run.restore(fake_model(np.zeros(1000))) is None
        kept = sorted(path.name for path in run.checkpoints.iterdir())
        assert kept == ["step-00000001.npz.damaged", "step-00000002.npz.damaged"]
        run.save_checkpoint(fake_model(np.full(1000, 1.0)), 1)
        assert run.restore(fake_model(np.zeros(1000))).step == 1


def test_no_single_changed_byte_goes_unnoticed(tmp_path):
    with open_run(tmp_path / "run") as run:
        path = run.save_checkpoint(fake_model(np.arange(4.0)), 1, {"seconds": 1.5})
        whole = path.read_bytes()
        for position in range(len(whole)):
            changed = bytearray(whole)
            changed[position] ^= 0x10
            path.write_bytes(changed)
            checkpoint = run.latest_checkpoint()
            # Bytes that mean nothing (dates, permissions) may change: the values may not.
            if checkpoint is not None:
                model = fake_model(np.zeros(4))
                checkpoint.restore(model)
                assert model.variables[0].value.tolist() == [0, 1, 2, 3]
                assert (checkpoint.step, checkpoint.state) == (1, {"seconds": 1.5})


def test_checkpoint_of_another_model_is_refused_before_anything_is_assigned(tmp_path):
    with open_run(tmp_path / "run") as run:
        run.save_checkpoint(fake_model(np.ones(2), np.ones((3, 4))), 1)
        for other in (
            fake_model(np.zeros(2), np.zeros((4, 3))),
            fake_model(np.zeros(2), np.zeros((3, 4), np.float32)),
            fake_model(np.zeros(2)),
        ):
            with pytest.raises(ValueError, match="model of the same structure"):
                run.restore(other)
            assert other.variables[0].value.tolist() == [0, 0]


def test_model_that_is_not_compiled_gets_the_weights_only(tmp_path):
    compiled = fake_model(np.ones(2))
    compiled.optimizer = types.SimpleNamespace(built=True, variables=[FakeVariable(np.ones(3))])
    with open_run(tmp_path / "run") as run:
        run.save_checkpoint(compiled, 1)
        plain = fake_model(np.zeros(2))
        assert run.restore(plain).step == 1 and plain.variables[0].value.tolist() == [1, 1]
        run.save_checkpoint(plain, 2)
        with pytest.raises(ValueError, match="holds 0 optimizer variables"):
            run.restore(compiled)


def test_equal_content_gives_equal_bytes_at_any_time(tmp_path):
    with open_run(tmp_path / "run") as run:
        path = run.save_checkpoint(fake_model(np.arange(5.0)), 1)
        first = path.read_bytes()
        assert run.save_checkpoint(fake_model(np.arange(5.0)), 1).read_bytes() == first
        with zipfile.ZipFile(path) as archive:
            assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_full_disk_while_checkpointing_keeps_the_previous_one(tmp_path, monkeypatch):
    with open_run(tmp_path / "run") as run:
        run.save_checkpoint(fake_model(np.ones(1000, np.float32)), 7)
        full = types.SimpleNamespace(free=3000)
        monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: full)
        with pytest.raises(DiskFullError) as caught:
            run.save_checkpoint(fake_model(np.ones(1000, np.float32)), 9, keep=1)
        assert "free 1 MB under" in str(caught.value) and "\n" not in str(caught.value)
        assert "the last checkpoint, step 7, is intact" in str(caught.value)
        assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000007.npz"]
        assert run.latest_checkpoint().step == 7


def run_script(script, *arguments):
    header = "import sys; sys.path.insert(0, sys.argv[1]); from test_runs import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", header + textwrap.dedent(script), str(Path(__file__).parent)]
        + [str(argument) for argument in arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_disk_that_fills_while_writing_keeps_the_previous_one(tmp_path):
    # The kernel's file size limit stands for the full disk: the write itself fails half-way.
    script = """
        import resource
        run = open_run(sys.argv[2])
        run.save_checkpoint(fake_model(np.ones(1000)), 7)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            run.save_checkpoint(fake_model(np.ones(100_000)), 9)
        except DiskFullError as error:
            print(error)
    """
    output, errors = run_script(script, tmp_path / "run").communicate()
    assert "File size limit reached while writing step-00000009.npz: free 1 MB" in output, errors
    assert "the last checkpoint, step 7, is intact." in output
    left = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert left == ["step-00000007.npz"]


def test_kill_at_any_moment_leaves_a_whole_newest_checkpoint(tmp_path):
    script = """
        run = open_run(sys.argv[2])
        model = fake_model(*[np.zeros(60_000) for _ in range(4)])
        checkpoint = run.restore(model)
        step = checkpoint.step if checkpoint else 0
        while True:
            step += 1
            for variable in model.variables:
                variable.assign(np.full(60_000, float(step)))
            run.metrics.append({"step": step, "loss": 1 / step})
            run.save_checkpoint(model, step, {"twice": 2 * step})
            print("saved", flush=True)
    """
    draws = random.Random(5)
    reached = 0
    for _ in range(10):
        process = run_script(script, tmp_path / "run")
        assert process.stdout.readline() == "saved\n", process.communicate()
        time.sleep(draws.uniform(0.02, 0.15))
        process.kill()
        process.communicate()
        model = fake_model(*[np.zeros(60_000) for _ in range(4)])
        with open_run(tmp_path / "run") as run:
            checkpoint = run.restore(model)
            assert checkpoint is not None and checkpoint.step > reached
            assert checkpoint.state == {"twice": 2 * checkpoint.step}
            assert {float(v) for var in model.variables for v in var.value} == {checkpoint.step}
            assert [row["step"] for row in run.metrics.rows()] == [*range(1, checkpoint.step + 1)]
            assert not list(run.checkpoints.glob(".*"))
            # Two are kept; killed between the rename and the clearing, one more.
            assert len(list(run.checkpoints.iterdir())) <= 3
        reached = checkpoint.step
    assert reached > 10
