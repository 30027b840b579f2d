import numpy as np
import pytest

from keras_ctxattr.data.labels import read_labels
from keras_ctxattr.data.manifest import CollectionError

KEYS = ["train/cat/1.jpg", "train/dog/1.jpg", "train/dog/2.jpg", "train/ant/7.jpg"]


def write_table(folder, text, name="labels.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# ---- folders -------------------------------------------------------------------------------------


def test_folders_are_classes_in_alphabetical_order_without_what_they_share():
    classes, names = read_labels("folders", KEYS)
    assert classes.dtype == np.int64
    assert classes.tolist() == [1, 2, 2, 0]
    assert names == ["ant", "cat", "dog"]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["photos/set/a", "photos/set/b"], ["a", "b"]),
        (["photos/a", "prints/a"], ["photos/a", "prints/a"]),  # one name, two classes
        (["all/a/x", "all/b/x"], ["a/x", "b/x"]),
        (["all/a", "all/a/x"], ["a", "a/x"]),  # a class keeps a name, whatever lies below it
        (["all/car", "all/cat"], ["car", "cat"]),  # folders are shared, not letters
    ],
)
def test_only_whole_folders_that_all_classes_share_are_left_out(folders, expected):
    classes, names = read_labels("folders", [f"{folder}/1.jpg" for folder in folders])
    assert names == expected
    assert classes.tolist() == [0, 1]


def test_order_of_the_images_changes_no_class():
    classes, names = read_labels("folders", KEYS)
    order = [3, 1, 0, 2]
    other, same_names = read_labels("folders", [KEYS[place] for place in order])
    np.testing.assert_array_equal(other, classes[order])
    assert same_names == names


# ---- tables --------------------------------------------------------------------------------------


def test_images_are_named_by_key_or_the_end_of_it_and_others_are_in_no_class(tmp_path):
    rows = ["train/cat/1.jpg,pet", "2.jpg, pet ", "dog/1.jpg,wild", "nowhere.jpg,lost"]
    table = write_table(tmp_path, "\n".join(["image,label", *rows]))
    classes, names = read_labels(table, KEYS)
    assert classes.dtype == np.int64
    assert names == ["pet", "wild"]  # a class that no image is in does not count
    assert classes.tolist() == [0, 1, 0, -1]


def test_the_longest_end_that_the_table_has_decides(tmp_path):
    rows = ["1.jpg,some", "dog/1.jpg,this", "g/1.jpg,part of a name", "other/dog/1.jpg,longer"]
    for order in (rows, rows[::-1]):
        table = write_table(tmp_path, "\n".join(["image,label", *order]))
        classes, names = read_labels(table, ["a/cat/1.jpg", "a/dog/1.jpg"])
        assert [names[number] for number in classes] == ["some", "this"]


def test_columns_may_stand_in_any_order_among_others_and_be_quoted(tmp_path):
    plain = write_table(tmp_path, "image,label\n1.jpg,a\n2.jpg,b\n")
    other = write_table(
        tmp_path, 'label,width,image\r\na,3,"1.jpg"\r\n"b",4,2.jpg\r\n', "other.csv"
    )
    keys = ["x/2.jpg", "x/1.jpg", "x/3.jpg"]
    classes, names = read_labels(plain, keys)
    assert (classes.tolist(), names) == ([1, 0, -1], ["a", "b"])
    again, same_names = read_labels(str(other), keys)
    np.testing.assert_array_equal(again, classes)
    assert same_names == names


def test_table_that_names_every_image_by_its_folder_equals_the_folders(tmp_path):
    rows = [f"{key},{key.split('/')[1]}" for key in KEYS]
    from_table = read_labels(write_table(tmp_path, "\n".join(["image,label", *rows])), KEYS)
    from_folders = read_labels("folders", KEYS)
    np.testing.assert_array_equal(from_table[0], from_folders[0])
    assert from_table[1] == from_folders[1]


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "UTF-8 with the columns image,label.*labels.csv"),
        (b"", "columns image,label.*no rows"),
        (b"image,label\n", "columns image,label.*no rows"),
        (b"file,class\n1.jpg,a\n", "columns image,label.*file, class"),
        (b"1.jpg,a\n2.jpg,b\n", "columns image,label.*1.jpg, a"),
        ("image,label\n1.jpg,Tür\n2.jpg,b\n".encode("latin-1"), "in UTF-8"),
        (b"image,label\n" + b"1" * 200_000 + b",a\n", "CSV file.*limit"),
        (b"image,label\n1.jpg,a\n2.jpg,a\n", "at least 2 classes.*1 from"),
        (b"image,label\nnobody.jpg,a\nnothing.jpg,b\n", "at least 2 classes.*0 from"),
    ],
    ids=["missing", "empty", "no rows", "columns", "no head", "latin", "csv", "one", "nobody"],
)
def test_unusable_table_is_one_line(tmp_path, content, told):
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CollectionError, match=told) as caught:
        read_labels(path, ["x/1.jpg", "x/2.jpg"])
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_folder_in_place_of_a_table_is_one_line(tmp_path):
    with pytest.raises(CollectionError, match="must be `folders` or a CSV file") as caught:
        read_labels(tmp_path, KEYS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keys", [[], ["a/1.jpg", "a/2.jpg"]])
def test_fewer_than_two_folders_are_one_line(keys):
    with pytest.raises(CollectionError, match=r"at least 2 classes.*from folders") as caught:
        read_labels("folders", keys)
    assert "\n" not in str(caught.value)
