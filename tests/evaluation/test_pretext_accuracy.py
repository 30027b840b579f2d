import dataclasses
import json
import shutil
import tarfile

import cv2
import keras
import numpy as np
import pytest

from evaluation import pretext_accuracy
from evaluation.voc_boxes import _PAIRS, box_batches, read_whole_objects
from keras_ctxattr.context.evaluation import count_positions, summarize_positions, with_colour
from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.context.training import evaluation_batches
from keras_ctxattr.data.grids import POSITIONS
from keras_ctxattr.data.manifest import scan_images
from tests.evaluation.conftest import TINY, write_photo

ANNOTATION = """<annotation><size><height>300</height><width>400</width></size>
<object><name>cat</name><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>390</xmax><ymax>295</ymax></bndbox></object>
<object><name>dog</name><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>400</xmax><ymax>300</ymax></bndbox></object>
</annotation>"""


def config(run_folder, out, **further):
    settings = {"num_images": 6, "pairs_per_image": 16, **further}
    return pretext_accuracy.Config(run=run_folder, out=out, **settings)


def plain_count(predictor, sources):
    """Gives how many pairs of each position are told right, and how many there are."""
    rights, numbers = [0] * 8, [0] * 8
    images = scan_images(sources).usable()
    for batch in evaluation_batches(images, TINY.grids, num_images=6, pairs_per_image=16, seed=0):
        logits = np.asarray(predictor(batch, training=False))
        for (_, _, position), row in zip(np.asarray(batch["pairs"]), logits, strict=True):
            numbers[position] += 1
            rights[position] += list(row).index(max(row)) == position
    return rights, numbers


def test_results_count_every_pair_of_every_image(run_folder, predictor, sources, tmp_path):
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
    rights, numbers = plain_count(predictor, sources)
    shares = [right / number for right, number in zip(rights, numbers, strict=True)]
    assert 0 < sum(rights) < sum(numbers) == 6 * 16
    assert results["accuracy"] == sum(rights) / sum(numbers)
    assert results["accuracy_per_position"] == pytest.approx(shares)
    assert results["majority"] == max(numbers) / sum(numbers)


# ---- colour --------------------------------------------------------------------------------------


def recoloured(predictor, colour):
    """The same weights in a model that was built with another colour guard."""
    settings = predictor.get_config()
    backbone = keras.models.clone_model(predictor.backbone)
    other = ContextPredictor(**{**settings, "backbone": backbone, "colour": colour})
    other.backbone.set_weights(predictor.backbone.get_weights())
    other.head.set_weights(predictor.head.get_weights())
    return other


def test_another_colour_guard_keeps_the_weights(predictor, sources):
    (batch,) = evaluation_batches(
        scan_images(sources).usable(), TINY.grids, num_images=1, pairs_per_image=16
    )
    before = [np.array(weight) for weight in predictor.backbone.weights + predictor.head.weights]
    own = np.asarray(predictor(batch))
    found = np.asarray(with_colour(predictor, "project")(batch))
    expected = recoloured(predictor, "project")(batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found - own).max() > 1e-3
    np.testing.assert_array_equal(predictor(batch), own)  # the first one has not changed
    after = predictor.backbone.weights + predictor.head.weights
    for weight, old in zip(after, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_the_own_colour_guard_is_no_new_model(predictor):
    assert with_colour(predictor, "drop") is predictor
    with pytest.raises(ValueError, match="`colour` one of"):
        with_colour(predictor, "sepia")


def test_another_colour_guard_keeps_the_dtype_policy(predictor):
    policy = "mixed_bfloat16"
    settings = {**predictor.get_config(), "backbone": predictor.backbone, "dtype": policy}
    other = with_colour(ContextPredictor(**settings), "none")
    assert other.dtype_policy.name == other.head.dtype_policy.name == policy


def test_runs_are_scored_with_colours_dropped_whatever_they_were_trained_with(
    run_folder, predictor, sources, tmp_path
):
    # An ablation run without the guard was scored without it: on another, easier task.
    ablation = tmp_path / "ablation"
    shutil.copytree(run_folder, ablation)
    recoloured(predictor, "none").save(ablation / "model.keras")

    def confusion(run, **colour):
        results = pretext_accuracy.main(config(run, tmp_path / "out", images=sources, **colour))
        return results["confusion"], results

    dropped, _ = confusion(run_folder)
    found, default = confusion(ablation)
    coloured, own = confusion(ablation, colour="run")
    assert found == dropped != coloured
    assert (default["colour"], default["colour_trained"]) == ("drop", "none")
    assert (own["colour"], own["colour_trained"]) == ("none", "none")
    assert "colour drop (trained with none)" in default["protocol"]
    assert "colour none (trained with none)" in own["protocol"]
    assert "--colour run" in own["command"]


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


# ---- counting ------------------------------------------------------------------------------------


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


# ---- boxes ---------------------------------------------------------------------------------------


def write_voc(root, images):
    """Writes a data set of images given as name -> ((height, width), annotation)."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, ((height, width), annotation) in images.items():
        write_photo(root / "JPEGImages" / f"{name}.jpg", ord(name), max(height, width))
        image = cv2.imread(str(root / "JPEGImages" / f"{name}.jpg"))[:height, :width]
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), image)
        (root / "Annotations" / f"{name}.xml").write_text(annotation)
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(images))
    return root


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    size = (300, 400)
    root = write_voc(
        tmp_path_factory.mktemp("voc"), {"a": (size, ANNOTATION), "b": (size, ANNOTATION)}
    )
    with tarfile.open(root / "voc.tar", "w") as archive:
        for name in ("JPEGImages", "Annotations", "ImageSets"):
            archive.add(root / name, name)
    return root / "voc.tar"


def annotate(size, boxes):
    """Gives an annotation with whole objects, named by their (left, top, width, height)."""
    objects = [
        f"<object><name>{'x'.join(map(str, box))}</name><bndbox><xmin>{box[0] + 1}</xmin>"
        f"<ymin>{box[1] + 1}</ymin><xmax>{box[0] + box[2]}</xmax><ymax>{box[1] + box[3]}</ymax>"
        "</bndbox></object>"
        for box in boxes
    ]
    return (
        f"<annotation><size><height>{size[0]}</height><width>{size[1]}</width></size>"
        f"{''.join(objects)}</annotation>"
    )


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


def test_boxes_are_chosen_by_their_annotated_size(tmp_path):
    # They were chosen after scaling by a random area: of the first two, in an image that is
    # usually enlarged, 239 pixels often passed and 240 sometimes did not.
    wide, large = (375, 500), (600, 800)
    root = write_voc(
        tmp_path / "voc",
        {
            "a": (wide, annotate(wide, [(5, 5, 239, 300), (5, 5, 240, 300), (9, 7, 300, 239)])),
            "b": (wide, annotate(wide, [(100, 100, 240, 240)])),
            # Scaled to 450 000 pixels at most, 240 pixels become 232: no room for two patches.
            "c": (large, annotate(large, [(0, 0, 240, 240), (10, 10, 500, 500)])),
        },
    )
    objects = read_whole_objects(root, "trainval")
    large_enough = ["0x0x240x240", "100x100x240x240", "10x10x500x500", "5x5x240x300"]
    assert sorted(objects.classes) == large_enough
    for seed in range(12):
        drawn = list(box_batches(objects, pairs_per_box=8, seed=seed))
        assert sorted(name for name, _ in drawn) == large_enough[1:]
        for _, batch in drawn:
            assert (batch["sizes"][0] >= 240).all()


def test_a_box_shows_what_is_inside_it(tmp_path):
    size = (375, 500)
    root = write_voc(tmp_path / "voc", {"a": (size, annotate(size, [(100, 60, 260, 250)]))})
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[60:310, 100:360] = 200
    cv2.imwrite(str(root / "JPEGImages" / "a.png"), pixels)
    (root / "JPEGImages" / "a.png").rename(root / "JPEGImages" / "a.jpg")
    for seed in range(4):
        ((_, batch),) = box_batches(
            read_whole_objects(root, "trainval"), pairs_per_box=8, seed=seed
        )
        height, width = batch["sizes"][0]
        inside = batch["canvases"][0, : height * width].reshape(height, width, 3)
        assert np.mean(inside == 200) > 0.98  # but for a line at the edges, from interpolation
        assert inside[2:-2, 2:-2].min() == 200
        assert abs(height / width - 250 / 260) < 0.01


def test_data_sets_without_a_large_whole_box_are_one_clear_error(run_folder, tmp_path):
    size = (375, 500)
    root = write_voc(tmp_path / "small", {"a": (size, annotate(size, [(0, 0, 239, 300)]))})
    with pytest.raises(ValueError, match="240 pixels a side or larger"):
        pretext_accuracy.main(config(run_folder, tmp_path / "out", voc=root))
    size = (800, 1000)
    root = write_voc(tmp_path / "large", {"a": (size, annotate(size, [(0, 0, 240, 240)]))})
    with pytest.raises(ValueError, match="in none of which they find room"):
        pretext_accuracy.main(config(run_folder, tmp_path / "out", voc=root))
    assert not (tmp_path / "out").exists()


def test_quads_offer_every_pair_once():
    assert sorted(pair for pairs in _PAIRS for pair in pairs) == sorted(
        (first, second) for first in range(4) for second in range(4) if first != second
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_images": 0}, "`--num-images` must be at least 1. Received: 0"),
        ({"pairs_per_image": 0}, "`--pairs-per-image` must be at least 1"),
        ({"pairs_per_image": 3}, "`--pairs-per-image` must be a multiple of 2"),
        ({"voc": "v", "pairs_per_image": 12}, "`--pairs-per-image` must be a multiple of 8"),
        ({"voc": "v", "images": ["i"]}, "not both"),
        ({"seed": -5}, "`--seed` must be between 0 and 2147483647. Received: -5"),
        ({"seed": 2**31}, "--seed"),
        ({"colour": "red"}, "`--colour` must be one of drop, project, none, run. Received: red"),
    ],
)
def test_bad_values_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, tmp_path, **change)
