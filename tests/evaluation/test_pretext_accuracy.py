import dataclasses
import json
import tarfile

import cv2
import numpy as np
import pytest

from evaluation import pretext_accuracy
from evaluation.voc_boxes import _PAIRS, box_batches, read_whole_objects
from keras_ctxattr.context.evaluation import count_positions, summarize_positions
from keras_ctxattr.data.grids import POSITIONS
from tests.evaluation.conftest import write_photo

ANNOTATION = """<annotation><size><height>300</height><width>400</width></size>
<object><name>cat</name><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>390</xmax><ymax>295</ymax></bndbox></object>
<object><name>dog</name><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>400</xmax><ymax>300</ymax></bndbox></object>
</annotation>"""


def config(run_folder, out, **further):
    settings = {"num_images": 6, "pairs_per_image": 16, **further}
    return pretext_accuracy.Config(run=run_folder, out=out, **settings)


def test_results_count_every_pair_of_every_image(run_folder, sources, tmp_path):
    results = pretext_accuracy.main(config(run_folder, tmp_path, images=sources))
    assert results["num_images"] == 6
    assert results["num_pairs"] == 6 * 16
    assert np.sum(results["confusion"]) == results["num_pairs"]
    assert results["chance"] == 0.125
    assert len(results["accuracy_per_position"]) == 8
    right = np.trace(np.array(results["confusion"]))
    assert results["accuracy"] == pytest.approx(right / results["num_pairs"])
    assert json.loads((tmp_path / "results.json").read_text())["confusion"] == results["confusion"]
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None
    for name in ("protocol", "data", "seed", "command", "versions"):
        assert results[name] is not None


def test_the_seed_decides_everything(run_folder, sources, tmp_path):
    first = config(run_folder, tmp_path / "a", images=sources)
    again = pretext_accuracy.main(dataclasses.replace(first, out=tmp_path / "b"))
    other = pretext_accuracy.main(dataclasses.replace(first, out=tmp_path / "c", seed=1))
    first = pretext_accuracy.main(first)
    assert first["confusion"] == again["confusion"]
    assert first["confusion"] != other["confusion"]


def test_fewer_images_than_asked_are_all_used(run_folder, tmp_path, capsys):
    results = pretext_accuracy.main(config(run_folder, tmp_path, num_images=500))
    assert results["num_images"] == results["data"]["num_images"] < 32
    assert "fewer than 500" in capsys.readouterr().out
    assert results["data"]["images"] == "held out by the run"


def test_accuracies_by_hand():
    counts = np.zeros((2, 8, 8), int)
    counts[0, 1, 1], counts[0, 1, 6] = 3, 1  # three of four right
    counts[1, 0, 0] = 4
    values = summarize_positions(counts)
    assert values["accuracy"] == 7 / 8
    assert values["majority"] == 4 / 8
    assert values["accuracy_over_positions"] == (0.75 + 1) / 2
    assert values["accuracy_per_position"][:3] == [1, 0.75, None]
    assert values["accuracy_std_over_images"] == pytest.approx(np.std([0.75, 1], ddof=1))
    with pytest.raises(ValueError, match="pair"):
        summarize_positions(np.zeros((1, 8, 8), int))


def test_padded_pairs_are_not_counted():
    class Always3:
        def __call__(self, batch, training):
            return np.eye(8, dtype="float32")[[3] * batch["pairs"].shape[0]]

    batch = {
        "corners": np.zeros((9, 3), np.int32),
        "pairs": np.array([[0, 1, 3], [1, 0, 4], [0, 0, 0]], np.int32),
        "pair_mask": np.array([True, True, False]),
    }
    counts = count_positions(Always3(), [batch])
    assert counts.sum() == 2
    assert counts[0, 3, 3] == counts[0, 4, 3] == 1


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    for name in ("a", "b"):
        write_photo(root / "JPEGImages" / f"{name}.jpg", ord(name), 400)
        image = cv2.imread(str(root / "JPEGImages" / f"{name}.jpg"))[:300]
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), image)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(ANNOTATION)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("a\nb\n")
    with tarfile.open(root / "voc.tar", "w") as archive:
        for name in ("JPEGImages", "Annotations", "ImageSets"):
            archive.add(root / name, name)
    return root / "voc.tar"


def test_pairs_inside_boxes_are_scored_by_class(run_folder, voc, tmp_path):
    results = pretext_accuracy.main(config(run_folder, tmp_path, voc=voc))
    assert set(results["accuracy_per_class"]) == {"cat"}  # the dog is truncated
    assert results["num_boxes"] == 2
    assert results["num_pairs"] == 2 * 16


def test_pairs_lie_inside_the_box_where_their_position_says(voc):
    for name, batch in box_batches(read_whole_objects(voc, "trainval"), pairs_per_box=64):
        assert name == "cat"
        corners = batch["corners"][:, 1:]
        assert (corners >= 0).all()
        assert (corners + 96 <= batch["sizes"][0]).all()
        positions = batch["pairs"][:, 2]
        assert np.bincount(positions).tolist() == [8] * 8
        steps = corners[batch["pairs"][:, 1]] - corners[batch["pairs"][:, 0]]
        for position, step in zip(positions, steps, strict=True):
            row, column = np.sign(step)
            vertical = {-1: "up", 0: "", 1: "down"}[row]
            horizontal = {-1: "left", 0: "", 1: "right"}[column]
            words = [word for word in (vertical, horizontal) if word]
            assert POSITIONS[position] == "-".join(words)


def test_quads_offer_every_pair_once():
    assert sorted(pair for pairs in _PAIRS for pair in pairs) == sorted(
        (first, second) for first in range(4) for second in range(4) if first != second
    )


@pytest.mark.parametrize(
    "change", [{"num_images": 0}, {"pairs_per_image": 3}, {"voc": "v", "pairs_per_image": 12}]
)
def test_bad_numbers_are_refused(tmp_path, change):
    with pytest.raises(ValueError, match="--pairs-per-image"):
        config(tmp_path, tmp_path, **change)
