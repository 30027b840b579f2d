"""Pools of workers: units get their results, whoever dies, hangs or fails meanwhile."""

import dataclasses
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keras_ctxattr.jobs import JobError, Workers, open_pool
from keras_ctxattr.jobs.workers import usable_cores
from tests.jobs.toys import Refuse, Square

LOCAL = Workers(num_workers=2, start_seconds=120, silent_seconds=120)


def is_running(pid):
    """Tells whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(is_so, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def workers(request):
    """Gives the settings of each engine; Ray is started once."""
    if request.param == "local":
        yield LOCAL
        return
    pytest.importorskip("ray")
    from keras_ctxattr.jobs.rays import ray_session

    settings = dataclasses.replace(LOCAL, engine="ray")
    with ray_session(settings):
        yield settings


def test_units_get_their_results_in_whatever_order_they_are_asked(workers):
    with open_pool(Square(offset=1), workers) as pool, ThreadPoolExecutor(5) as threads:
        found = list(threads.map(lambda n: pool.call(n, str(n)), range(20)))
        pids = pool.pids()
    assert found == [n * n + 1 for n in range(20)]
    assert len(set(pids)) == 2 and os.getpid() not in pids and pool.num_lost == 0
    wait_until(lambda: not any(map(is_running, pids)))


def test_a_killed_worker_is_replaced_and_its_unit_done_again(workers, tmp_path):
    with open_pool(Square(), workers) as pool, ThreadPoolExecutor(2) as threads:
        dying = threads.submit(pool.call, ("die_once", tmp_path), "the one")
        others = threads.map(lambda n: pool.call(n, str(n)), range(6))
        assert dying.result(120) == "alive" and list(others) == [n * n for n in range(6)]
        assert pool.num_lost == 1
        assert pool.call(3, "3") == 9
    assert len(list(tmp_path.iterdir())) == 2


def test_a_unit_that_ends_every_worker_is_given_up(workers, tmp_path):
    settings = dataclasses.replace(workers, num_workers=1, tries=2)
    with open_pool(Square(), settings) as pool:
        with pytest.raises(JobError, match=r"must not end its worker.*the one.*lost 2 workers"):
            pool.call(("die", tmp_path), "the one")
        assert pool.call(4, "4") == 16  # the pool itself goes on
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("what", ["hang", "stop"])
def test_a_silent_worker_is_ended_and_replaced(what, workers, tmp_path):
    settings = dataclasses.replace(workers, num_workers=1, silent_seconds=3)
    with open_pool(Square(), settings) as pool:
        start = time.monotonic()
        found = pool.call((f"{what}_once", tmp_path), "the one")
        assert found in ("awake", "going on") and time.monotonic() - start < 50
        assert pool.num_lost == 1


def test_errors_of_a_unit_arrive_and_the_worker_stays(workers, tmp_path):
    with open_pool(Square(), dataclasses.replace(workers, num_workers=1)) as pool:
        with pytest.raises(ValueError, match="This unit is refused"):
            pool.call(("fail", tmp_path), "the one")
        with pytest.raises(RuntimeError, match="OddError: 1 and 2"):
            pool.call(("fail_oddly", tmp_path), "another")
        assert pool.call(4, "4") == 16 and pool.num_lost == 0


def test_a_job_that_cannot_be_loaded_is_an_error_at_once(workers):
    with open_pool(Refuse(), workers) as pool:
        with pytest.raises(ValueError, match="This job is refused"):
            pool.start()
        with pytest.raises(ValueError, match="This job is refused"):
            pool.call(1, "1")
    settings = dataclasses.replace(workers, tries=2, num_workers=1)
    with (
        open_pool(Refuse(dies=True), settings) as pool,
        pytest.raises(JobError, match="lost 2 workers") as caught,
    ):
        pool.call(1, "1")
    if workers.engine == "local":
        assert "ended with code 7 before it was ready (a script" in str(caught.value)


def test_pinned_workers_have_cores_of_their_own(workers, tmp_path):
    cores = usable_cores()
    settings = dataclasses.replace(workers, pin=True, num_threads=3)
    with open_pool(Square(), settings) as pool:
        pool.start()
        seats = [worker.ask(("tell_seat", tmp_path), None) for worker in pool._workers]
    assert [own for own, _ in seats] == [cores[0::2], cores[1::2] or cores[:1]]
    assert {seat.num_threads for _, seat in seats} == {3}


def test_an_error_of_who_is_told_spoils_no_later_answer(workers):
    def refuse(done):
        raise KeyError(done)

    with open_pool(Square(), dataclasses.replace(workers, num_workers=1)) as pool:
        if workers.engine == "local":  # Ray's actors are asked how far they are; this is too short
            with pytest.raises(KeyError):
                pool.call(3, "3", refuse)
        assert pool.call(4, "4") == 16


def test_a_closed_pool_ends_who_waits_for_it(workers, tmp_path):
    with ThreadPoolExecutor(1) as threads:
        with open_pool(Square(), dataclasses.replace(workers, num_workers=1)) as pool:
            pool.start()
            waiting = threads.submit(pool.call, ("sleep", tmp_path), "the one")
            wait_until(lambda: any(tmp_path.iterdir()))
        with pytest.raises(JobError, match=r"was stopped\. Received: the one unfinished"):
            waiting.result(60)
    with pytest.raises(JobError, match="closed pool"):
        pool.call(1, "1")


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from keras_ctxattr.jobs import Workers, open_pool
        from tests.jobs.toys import Square
        if __name__ == "__main__":
            with open_pool(Square(), Workers(num_workers=2)) as pool:
                pool.start()
                print(*pool.pids(), flush=True)
                pool.call(("sleep", sys.argv[1]), "the one")
        """)
    )
    (tmp_path / "marks").mkdir()
    root = Path(__file__).parents[2]
    job = subprocess.Popen(
        [sys.executable, script, tmp_path / "marks"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        pids = list(map(int, job.stdout.readline().split()))
        assert len(pids) == 2 and all(map(is_running, pids))
        wait_until(lambda: any((tmp_path / "marks").iterdir()))  # one of them is at work
    finally:
        job.kill()
        job.wait(30)
    wait_until(lambda: not any(map(is_running, pids)), 30)


def test_processes_of_a_script_of_evaluation_set_their_threads(tmp_path):
    # Its imports are done again in every process: they opened TensorFlow's devices there, after
    # which the number of threads was set for good.
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import evaluation
            from keras_ctxattr.jobs import Workers, open_pool
            from tests.jobs.toys import CountThreads

            if __name__ == "__main__":
                with open_pool(CountThreads(), Workers(num_workers=1, num_threads=3)) as pool:
                    print(pool.call(0, "the unit"))
            """
        )
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_impossible_settings_are_refused():
    for wrong, message in (
        ({"engine": "beam"}, "`engine` must be local or ray. Received: 'beam'"),
        ({"num_workers": 0}, "must be at least 1. Received: 0, 1 and 3"),
        ({"num_threads": 0}, "must be at least 1. Received: 1, 0 and 3"),
        ({"silent_seconds": 0}, "must be above 0"),
        ({"address": "auto"}, "set the engine to ray"),
        ({"address": "auto", "engine": "ray", "pin": True}, "`pin` is for workers of this machine"),
    ):
        with pytest.raises(ValueError, match=message):
            Workers(**wrong)


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    missing = r"pip install 'keras_ctxattr\[scale\]'"
    with (
        pytest.raises(ImportError, match=missing) as caught,
        open_pool(Square(), Workers(engine="ray")),
    ):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_more_workers_than_a_cluster_has_processors_are_refused(workers):
    """They once waited for one until the piece of work that they were given was given up."""
    if workers.engine != "ray":
        pytest.skip("processes of this machine share its cores")
    too_many = dataclasses.replace(workers, num_workers=20)
    refused = pytest.raises(ValueError, match="20 workers that take 20 processors, of")
    with refused, open_pool(Square(), too_many):
        pass


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_line():
    ray = pytest.importorskip("ray")
    ray.shutdown()  # a process that has a cluster keeps to it
    nowhere = Workers(engine="ray", address="127.0.0.1:1")
    with (
        pytest.raises(ConnectionError, match=r"none at 127\.0\.0\.1:1") as caught,
        open_pool(Square(), nowhere),
    ):
        pass
    assert "\n" not in str(caught.value)
