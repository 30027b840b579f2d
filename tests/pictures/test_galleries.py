"""Galleries: the best cluster first, every member where it belongs, one page that stands alone."""

import base64
import html
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from keras_ctxattr.pictures import ClusterCard, cluster_sheet, contact_sheet, write_gallery
from keras_ctxattr.pictures.galleries import rank_clusters
from keras_ctxattr.pictures.galleries.tiles import draw_tiles, encode_picture

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
GENERATOR = np.random.default_rng(0)


def plain_image(colour, side=20):
    return np.full((side, side, 3), colour, np.uint8)


def make_card(cluster_id, score, colours=(RED,), **facts):
    images = [plain_image(colour) for colour in colours]
    return ClusterCard(
        cluster_id=cluster_id, images=images, num_members=1234, score=score, facts=facts
    )


CARDS = [make_card(4, 0.2, (RED, GREEN)), make_card(9, 0.9, (BLUE,)), make_card(2, 0.2, (GREEN,))]


class Page(HTMLParser):
    """What a browser takes from a page: its elements, and the text of each kind of element."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.texts, self.open = [], {}, []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())

    def attributes(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def decode_picture(content):
    """Gives uint8 [height, width, 4], RGB and what is opaque."""
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)


def decode_uri(source):
    start, content = source.split(",", 1)
    assert start == "data:image/webp;base64"
    return decode_picture(base64.b64decode(content))


# ---- ranking -------------------------------------------------------------------------------------


def test_clusters_are_ranked_by_score_then_number_and_those_without_come_last():
    cards = [make_card(5, float("nan")), make_card(1, float("nan")), *CARDS, make_card(0, -1.0)]
    assert [card.cluster_id for card in rank_clusters(cards)] == [9, 2, 4, 0, 1, 5]


@pytest.mark.parametrize(
    ("cards", "told"),
    [([*CARDS, make_card(4, 0.5)], "cluster 4 twice"), ([make_card(3, 0.5, ())], "cluster 3 with")],
)
def test_number_given_twice_and_cluster_without_images_are_refused(cards, told, tmp_path):
    for show in (cluster_sheet, lambda clusters: write_gallery(tmp_path, "t", clusters)):
        with pytest.raises(ValueError, match=f"must have .*{told}"):
            show(cards)
    assert list(tmp_path.iterdir()) == []


# ---- the sheet -----------------------------------------------------------------------------------


def test_sheet_has_a_row_a_cluster_the_best_first():
    sheet = cluster_sheet(CARDS, tile_size=32)
    assert sheet.shape[0] == 3 * 36 + 4
    left = 110 + 4 + 16  # past the titles: the middle of the first tile
    assert [tuple(sheet[4 + 36 * row + 16, left].tolist()) for row in range(3)] == [
        BLUE,
        GREEN,
        RED,
    ]
    assert tuple(sheet[4 + 36 * 2 + 16, left + 36].tolist()) == GREEN
    assert (sheet[:, :110] < 128).any(axis=(1, 2))[4:100].any(), "rows have titles"


def test_rows_are_titled_with_number_score_size_and_the_facts_that_fit():
    card = make_card(7, 0.5, purity=0.25, nmi=0.125)
    for tile_size, lines in ((32, 1), (44, 2), (64, 3), (96, 4)):
        titles = ["#7  0.500", "1,234 images", "purity 0.250", "nmi 0.125"][:lines]
        expected = contact_sheet([card.images], tile_size=tile_size, row_titles=["\n".join(titles)])
        np.testing.assert_array_equal(cluster_sheet([card], tile_size=tile_size), expected)


def test_sheet_that_holds_not_all_says_so():
    cards = [make_card(number, number / 10) for number in range(5)]
    expected = contact_sheet(
        [card.images for card in cards[:2:-1]],
        tile_size=32,
        row_titles=["#4  0.400", "#3  0.300"],
        title="Round 1 (the first 2 of 5 clusters)",
    )
    sheet = cluster_sheet(cards, title="Round 1", max_rows=2, tile_size=32)
    np.testing.assert_array_equal(sheet, expected)
    # As much where the others were left out before.
    fewer = cluster_sheet(cards[:2:-1], title="Round 1", num_clusters=5, tile_size=32)
    np.testing.assert_array_equal(fewer, expected)
    assert cluster_sheet(cards[:1], num_columns=1).shape[1] == 110 + 64 + 8


def test_sheet_of_nothing_and_of_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        cluster_sheet([])
    with pytest.raises(ValueError, match="max_rows=0"):
        cluster_sheet(CARDS, max_rows=0)


# ---- pictures on the page ------------------------------------------------------------------------


def test_members_lie_in_rows_and_nothing_lies_between_them():
    images = [plain_image(colour, 16) for colour in (RED, GREEN, BLUE)]
    picture = draw_tiles(images, num_columns=2, tile=16)
    assert picture.shape == (2 + 2 * 18, 2 + 2 * 18, 4)
    expected = np.zeros_like(picture)
    for (top, left), colour in zip([(2, 2), (2, 20), (20, 2)], (RED, GREEN, BLUE), strict=True):
        expected[top : top + 16, left : left + 16] = (*colour, 255)
    np.testing.assert_array_equal(picture, expected)


def test_wide_image_is_shown_whole_between_transparent_bars():
    picture = draw_tiles([np.full((10, 20, 3), 90, np.uint8)], num_columns=1, tile=20)
    np.testing.assert_array_equal(
        picture[2:22, 2:22, 3].all(axis=1), [False] * 5 + [True] * 10 + [False] * 5
    )


def test_drawings_are_encoded_exactly_and_photographs_smaller_than_png():
    drawing = draw_tiles([255 * GENERATOR.integers(0, 2, (45, 45, 3), np.uint8)], 1, 45)
    np.testing.assert_array_equal(decode_picture(encode_picture(drawing)), drawing)
    smooth = cv2.GaussianBlur(GENERATOR.integers(0, 256, (64, 64, 3), np.uint8), (0, 0), 2)
    photograph = draw_tiles([cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)], 1, 64)
    encoded = encode_picture(photograph)
    decoded = decode_picture(encoded)
    np.testing.assert_array_equal(decoded[..., 3], photograph[..., 3])
    inside = photograph[..., 3] > 0
    assert np.abs(decoded.astype(float) - photograph)[inside].mean() < 6
    assert len(encoded) < len(cv2.imencode(".png", photograph)[1]) / 2


# ---- the page ------------------------------------------------------------------------------------


def test_page_holds_every_cluster_with_its_pictures_and_values(tmp_path):
    cards = [*CARDS, make_card(30, 0.5, purity=0.25, members_of="horse")]
    path = write_gallery(tmp_path / "clusters.html", "Round 1", cards)
    assert path == tmp_path / "clusters.html"
    assert [entry.name for entry in tmp_path.iterdir()] == ["clusters.html"]
    page = Page(path)
    assert page.texts["h1"] == ["Round 1"]
    assert page.texts["p"] == ["4 clusters, 4,936 images in them, the most discriminative first."]
    names = [attributes["id"] for attributes in page.attributes("article")]
    assert names == ["cluster-9", "cluster-30", "cluster-2", "cluster-4"]
    more = Page(write_gallery(tmp_path / "more.html", "Round 1", cards, num_clusters=1_506))
    assert more.texts["p"] == [
        "4 of 1,506 clusters, 4,936 images in them, the most discriminative first."
    ]
    pictures = [decode_uri(image["src"]) for image in page.attributes("img")]
    firsts = [tuple(picture[12, 12].tolist()) for picture in pictures]
    assert firsts == [(*colour, 255) for colour in (BLUE, RED, GREEN, RED)]
    assert tuple(pictures[3][12, 34].tolist()) == (*GREEN, 255)
    for image, picture in zip(page.attributes("img"), pictures, strict=True):
        assert (int(image["height"]), int(image["width"])) == picture.shape[:2]
        assert image["loading"] == "lazy"
    assert "2 members of cluster 4" in page.attributes("img")[3]["alt"]
    described = list(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert described[2:6] == [
        ("score", "0.500"),
        ("members", "1,234"),
        ("purity", "0.250"),
        ("members_of", "horse"),
    ]


def test_page_needs_nothing_from_elsewhere_and_no_script(tmp_path):
    page = Page(write_gallery(tmp_path / "a.html", "t", CARDS, {"ours": {"purity": 0.5}}))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "base"}
    assert not re.search(r"https?://|url\(|@import", page.source)
    for attributes in page.attributes("a"):
        target = attributes["href"].removeprefix("#")
        assert [attributes.get("id") for _, attributes in page.elements].count(target) == 1


def test_page_fits_phones_dark_rooms_and_keyboards(tmp_path):
    page = Page(write_gallery(tmp_path / "a.html", "t", CARDS, {"ours": {"purity": 0.5}}))
    metas = {
        attributes.get("name"): attributes.get("content") for attributes in page.attributes("meta")
    }
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["color-scheme"] == "light dark"
    assert "prefers-color-scheme: dark" in page.source and ":focus-visible" in page.source
    assert page.attributes("html") == [{"lang": "en"}]
    # What scrolls can be reached by keyboard, and has a name.
    (region,) = (attributes for attributes in page.attributes("div") if "tabindex" in attributes)
    assert (region["tabindex"], region["role"]) == ("0", "region") and region["aria-label"]


def test_summary_is_a_table_with_a_row_a_method(tmp_path):
    summary = {
        "ours": {"num_clusters": 1300, "purity": np.float32(0.5)},
        "k-means": {"purity": 0.25, "nmi": None},
        "random": {"nmi": float("nan"), "num_clusters": np.int64(7)},
    }
    page = Page(write_gallery(tmp_path / "a.html", "t", CARDS, summary))
    assert page.texts["th"] == ["num_clusters", "purity", "nmi", "ours", "k-means", "random"]
    cells = re.findall("<td>(.*?)</td>", page.source.split("<tbody>")[1])
    assert cells == ["1,300", "0.500", "", "", "0.250", "n/a", "7", "", "n/a"]


def test_text_is_escaped_whatever_it_holds(tmp_path):
    nasty = "<script>alert('&\"')</script> \udcff"
    card = make_card(1, 0.5, **{nasty: nasty})
    page = Page(write_gallery(tmp_path / "a.html", nasty, [card], {nasty: {nasty: nasty}}))
    assert "script" not in {tag for tag, _ in page.elements}
    shown = nasty.replace("\udcff", "?")
    assert page.texts["h1"] == [shown] and page.texts["dd"][-1] == shown
    assert page.texts["th"] == [shown] * 2 and page.texts["dt"][-1] == shown
    assert html.escape(shown) in page.source


def test_no_cluster_is_a_result_too(tmp_path):
    page = Page(write_gallery(tmp_path / "a.html", "Nothing", [], {"ours": {"num_clusters": 0}}))
    assert page.texts["p"] == ["No clusters were found."]
    assert page.attributes("article") == []


def test_folder_gets_an_index(tmp_path):
    assert write_gallery(tmp_path / "new" / "clusters", "t", CARDS).relative_to(tmp_path).parts == (
        "new",
        "clusters",
        "index.html",
    )


def test_only_the_first_members_are_shown_and_arrays_will_do(tmp_path):
    images = np.stack([plain_image((value, 0, 0), 8) for value in range(40)])
    card = ClusterCard(cluster_id=0, images=images, num_members=40, score=1.0)
    path = write_gallery(tmp_path, "t", [card], max_images=9, num_columns=4)
    (picture,) = (decode_uri(image["src"]) for image in Page(path).attributes("img"))
    middles = picture[10::18, 10::18]  # tiles of 16, the smallest
    assert middles.shape == (3, 4, 4)
    assert middles[..., 0].ravel().tolist() == [*range(9), 0, 0, 0]
    assert middles[..., 3].ravel().tolist() == [255] * 9 + [0] * 3


# ---- large pages ---------------------------------------------------------------------------------


def test_large_page_has_its_pictures_beside_it(tmp_path):
    inside = Page(write_gallery(tmp_path / "inside.html", "t", CARDS))
    path = write_gallery(tmp_path / "50% done #1.html", "t", CARDS, max_page_bytes=2000)
    beside = Page(path)
    assert "data:" not in beside.source
    for image, same in zip(beside.attributes("img"), inside.attributes("img"), strict=True):
        folder, name = image["src"].split("/")
        assert folder == "50%25%20done%20%231_pictures"
        picture = tmp_path / "50% done #1_pictures" / name
        np.testing.assert_array_equal(decode_picture(picture.read_bytes()), decode_uri(same["src"]))


def test_next_page_takes_the_place_of_the_last_and_leaves_other_files_alone(tmp_path):
    path = tmp_path / "a.html"
    pictures = tmp_path / "a_pictures"
    write_gallery(path, "first", CARDS, max_page_bytes=0)
    before = {entry.name for entry in pictures.iterdir()}
    assert len(before) == 3
    (pictures / "notes.txt").write_text("mine")
    write_gallery(path, "second", CARDS[:1], max_page_bytes=0)
    after = {entry.name for entry in pictures.iterdir()}
    assert "notes.txt" in after and len(after) == 2 and len(after & before) == 1
    write_gallery(path, "third", CARDS)
    assert {entry.name for entry in pictures.iterdir()} == {"notes.txt"}
    (pictures / "notes.txt").unlink()
    write_gallery(path, "fourth", CARDS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.html"]


def test_page_that_fails_leaves_the_last_one_whole(tmp_path):
    path = write_gallery(tmp_path / "a.html", "first", CARDS, max_page_bytes=0)
    before = path.read_bytes()
    floats = ClusterCard(cluster_id=77, images=[np.zeros((8, 8, 3))], num_members=1, score=0.0)
    with pytest.raises(ValueError, match="uint8"):
        write_gallery(path, "second", [make_card(1, 1.0, ((9, 9, 9),)), floats], max_page_bytes=0)
    assert path.read_bytes() == before
    for image in Page(path).attributes("img"):
        assert (tmp_path / image["src"]).is_file()


def test_page_of_no_columns_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_columns=0"):
        write_gallery(tmp_path, "t", CARDS, num_columns=0)
