"""`python -m evaluation.load`: what it counts as lost, and a small run."""

import json

import numpy as np
import pytest

from evaluation import load
from evaluation.load import Config, _Client, _figures
from keras_ctxattr.backbones import small
from keras_ctxattr.export import export_module
from tests.data.encoding import encode, make_pixels
from tests.serving.conftest import module_folder, port  # noqa: F401 - fixtures


@pytest.mark.slow
def test_clients_lose_nothing_and_the_ratio_is_beside_the_module_alone(
    sources,
    module_folder,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(load, "_ALONE_SECONDS", 0.5)
    config = Config(
        module=module_folder, images=sources, out=tmp_path / "out", clients=8, seconds=2.0
    )
    results = load.main(config)
    assert results["lost"] == 0 and results["reasons"] == []
    assert results["answered"] >= results["fewest_of_a_client"] * 8 > 0
    assert 0 < results["latency_p50_seconds"] <= results["latency_p99_seconds"]
    expected = results["images_per_second"] / results["images_per_second_alone"]
    assert results["ratio"] == pytest.approx(expected)
    assert json.loads((tmp_path / "out/results.json").read_text())["lost"] == 0


def test_another_status_other_codes_and_a_closed_door_are_losses(port):  # noqa: F811
    path, host = "/v2/models/photos/infer", f"127.0.0.1:{port}"
    file = encode(make_pixels(64, 64))
    wrong = [np.array([1, 2, 3])]
    for client, reason in (
        (_Client(host, path, [file], wrong, 0), "other codes"),
        (_Client(host, path, [file[:50]], wrong, 0), "status 422"),
        (_Client("127.0.0.1:1", path, [file], wrong, 0), "refused"),
    ):
        load._run_clients([client], 0.0)
        assert len(client.losses) == 1 and not client.times
        assert reason in client.losses[0]


def test_figures_by_hand():
    clients = [_Client("", "", [], [], 0) for _ in range(2)]
    clients[0].times, clients[1].times = [1.0, 2.0, 3.0], [4.0]
    clients[1].losses = ["status 503", "status 503"]
    found = _figures(clients, 2.0, 4.0)
    assert found["answered"] == 4 and found["lost"] == 2 and found["reasons"] == ["status 503"]
    assert found["latency_p50_seconds"] == 2.5 and found["fewest_of_a_client"] == 1
    assert (found["images_per_second"], found["ratio"]) == (2.0, 0.5)
    with pytest.raises(RuntimeError, match="must answer"):
        _figures([_Client("", "", [], [], 0)], 1.0, 1.0)


def test_a_module_without_codes_is_refused_in_a_line(tmp_path):
    folder = export_module(small(width=8, num_features=16), tmp_path / "module")
    with pytest.raises(ValueError, match="must have attributes"):
        load.main(Config(module=folder, images=[], out=tmp_path / "out"))


@pytest.mark.parametrize("change", [{"clients": 0}, {"seconds": 0.0}, {"num_images": 0}])
def test_impossible_numbers_are_refused(change, tmp_path):
    with pytest.raises(ValueError, match="Received"):
        Config(module=tmp_path, images=[], out=tmp_path, **change)
