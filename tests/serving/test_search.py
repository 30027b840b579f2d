"""The search page: what it is told, what it refuses, and how it works in a browser."""

import collections
import json
import shutil
import urllib.parse

import cv2
import numpy as np
import pytest

from keras_ctxattr.search import ImageIndex, index_photographs, remove_photographs
from tests.clustering.concepts import write_concepts
from tests.search.learnt import learn_small_module
from tests.serving.conftest import Client, run_server
from tests.serving.mutations import good_files, mutate_file

NUM_IMAGES = 72


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    return write_concepts(tmp_path_factory.mktemp("collections") / "photos", num_images=NUM_IMAGES)


@pytest.fixture(scope="session")
def indexed(photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexes") / "holidays"
    learnt = learn_small_module(photographs, tmp_path_factory.mktemp("learnt"))
    index_photographs([str(photographs)], folder, learnt)
    return folder


@pytest.fixture(scope="session")
def search_port(indexed):
    with run_server(indexed) as found:
        yield found


@pytest.fixture
def search(search_port):
    return Client(search_port)


# --- What the page asks for ---


def test_neighbours_are_those_of_the_index(search, indexed):
    index = ImageIndex(indexed)
    image_id = int(index.ids[7])
    status, found = search.get(f"/api/images/{image_id}/similar?count=5")
    expected = index.search(
        index.codes[7], index.vectors(np.array([7]))[0], count=5, leave_out=[image_id]
    )
    assert status == 200 and image_id not in [match["id"] for match in found["matches"]]
    assert [(one["id"], one["distance"], one["name"]) for one in found["matches"]] == [
        (one.image.image_id, one.distance, one.image.name) for one in expected
    ]
    bits = np.unpackbits(index.codes[7])
    assert [one["is_set"] for one in found["bits"]] == bits.astype(bool).tolist()
    shares = np.unpackbits(index.codes, axis=1).mean(axis=0)
    np.testing.assert_allclose([one["share"] for one in found["bits"]], shares)


def test_a_file_finds_itself(search, photographs):
    path = sorted(photographs.rglob("*.png"))[4]
    status, _, body = search.send("POST", "/api/search?count=3", path.read_bytes())
    first = json.loads(body)["matches"][0]
    assert status == 200
    assert first["name"] == f"photos/{path.relative_to(photographs)}"
    assert first["distance"] == 0 and first["similarity"] > 0.999


@pytest.mark.parametrize("form", ["{0}", "-{0}", "{0},-{1}"])
def test_results_have_the_bits_that_were_asked_for(search, indexed, form):
    index = ImageIndex(indexed)
    bits = np.unpackbits(index.codes, axis=1).astype(bool)
    wanted = form.format(*np.argsort(np.abs(bits.mean(axis=0) - 0.5), kind="stable"))
    parts = [(int(part.strip("-")), not part.startswith("-")) for part in wanted.split(",")]
    image_id = int(index.ids[0])
    _, found = search.get(f"/api/images/{image_id}/similar?count=200&bits={wanted}")
    expected = {
        int(image)
        for image, has in zip(index.ids, bits, strict=True)
        if all(has[bit] == value for bit, value in parts)
    } - {image_id}
    assert 0 < len(expected) < NUM_IMAGES - 1
    assert {match["id"] for match in found["matches"]} == expected


def test_pictures_are_jpegs_of_the_images_and_never_files(search, indexed, photographs):
    _, found = search.get("/api/images?limit=1")
    (image,) = found["images"]
    status, headers, body = search.send("GET", f"/{image['thumbnail']}")
    assert status == 200 and headers["content-type"] == "image/jpeg"
    assert "immutable" in headers["cache-control"]
    shown = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR).astype(float)
    errors = {
        str(path.relative_to(photographs.parent)): np.abs(shown - cv2.imread(str(path))).mean()
        for path in photographs.rglob("*.png")
    }
    assert min(errors, key=errors.get) == image["name"]
    other = image["thumbnail"].replace(image["thumbnail"].split("/")[3], "0" * 32)
    assert search.get(f"/{other}")[0] == 404


def test_attributes_and_groups_by_example(search, indexed):
    index = ImageIndex(indexed)
    scores = index.scores()
    _, found = search.get("/api/attributes")
    assert [one["bit"] for one in found["attributes"]] == list(range(16))
    for one in found["attributes"]:
        column = scores[:, one["bit"]]
        having = [column[index.rows_of([image["id"]])[0]] for image in one["having"]]
        lacking = [column[index.rows_of([image["id"]])[0]] for image in one["lacking"]]
        assert all(score > 0 for score in having) and all(score <= 0 for score in lacking)
        assert having == sorted(having, reverse=True) and lacking == sorted(lacking)
        if having:
            assert having[0] == column.max()
    _, found = search.get("/api/groups")
    assert sum(group["num_images"] for group in found["groups"]) == NUM_IMAGES
    shown = [image["id"] for group in found["groups"] for image in group["images"]]
    assert len(shown) == len(set(shown)) > NUM_IMAGES / 2


def test_the_model_card_is_module_json(search, indexed):
    _, found = search.get("/api/model")
    assert found == json.loads((indexed / "module/module.json").read_text())
    assert search.get("/v2/models/holidays")[0] == 200


def test_the_page_sees_what_changes_and_none_of_what_is_gone(indexed, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_ctxattr.serving.gallery._CHECK_SECONDS", 0.0)
    folder = shutil.copytree(indexed, tmp_path / "index")
    with run_server(folder) as port:
        client = Client(port)
        _, found = client.get("/api/attributes")
        assert client.get("/api/index")[1]["num_images"] == NUM_IMAGES
        remove_photographs(folder, ["photos/concept0", "photos/concept1"])
        assert client.get("/api/index")[1]["num_images"] == 48
        gone = found["attributes"][0]["having"] + found["attributes"][0]["lacking"]
        left = {image["id"] for image in client.get("/api/images?limit=200")[1]["images"]}
        for image in gone:
            expected = 200 if image["id"] in left else 404
            assert client.get(f"/api/images/{image['id']}/similar")[0] == expected
        _, found = client.get("/api/attributes")
        assert {image["id"] for one in found["attributes"] for image in one["having"]} <= left


# --- What is refused ---


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/images/99999/similar", 404, "no such image"),
        (f"/api/images/{10**30}/similar", 404, "no such image"),
        ("/api/images/-1/similar", 404, "no such image"),
        ("/api/images/x/similar", 400, "'image_id'"),
        ("/api/images/1/similar?bits=16", 400, "`bits` must be numbers from 0 to 15"),
        ("/api/images/1/similar?bits=1,a", 400, "Received: 'a'"),
        ("/api/images/1/similar?count=0", 400, "'count'"),
        ("/api/images?offset=-1", 400, "'offset'"),
        (f"/api/images?offset={10**40}", 400, "'offset'"),
        ("/api/pictures/1/0/whole", 404, "A picture is one of"),
        ("/page/page.py", 404, "no such part"),
        ("/page/..%2fsearch.py", 404, ""),
        ("/page/%2e%2e%2f%2e%2e%2fcli%2fapp.py", 404, ""),
        ("/../../etc/passwd", 404, ""),
    ],
)
def test_what_cannot_be_asked_is_one_line(search, path, status, said):
    found, document = search.get(path)
    assert found == status and list(document) == ["error"]
    assert said in document["error"] and "\n" not in document["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 415), (b"GIF89a" + bytes(4), 422), (b"\xff\xd8\xff\xe0" + bytes(60), 422)],
)
def test_what_is_no_image_is_one_line(search, body, status):
    found, _, answer = search.send("POST", "/api/search", body)
    assert found == status and "\n" not in json.loads(answer)["error"]


ADDRESSES = (
    "/api/images/7/similar?count=5&bits=3,-4",
    "/api/images?offset=3&limit=5",
    "/api/pictures/7/00112233445566778899aabbccddeeff/thumbnail",
    "/page/page.js",
    "/api/search?count=3&bits=1",
    "/v2/models/holidays/versions/1",
)


@pytest.mark.slow
def test_mutated_files_and_addresses_find_no_fault(search):
    """Five hundred of them; memory is watched where the model server is fuzzed."""
    generator = np.random.default_rng(0)
    files, counts = good_files(), collections.Counter()
    for number in range(250):
        file = mutate_file(files[number % len(files)], generator)
        status, _, body = search.send("POST", "/api/search?count=3", file)
        assert status < 500 and (status == 200 or list(json.loads(body)) == ["error"]), body
        counts[status] += 1
    for number in range(250):
        address = list(ADDRESSES[number % len(ADDRESSES)])
        for place in generator.integers(1, len(address), generator.integers(1, 5)):
            address[place] = f"%{generator.integers(0, 256):02x}"
        status, _, body = search.send("GET", "".join(address))
        assert status < 500, (address, body)
        counts[status] += 1
    assert counts[200] > 20 and counts[404] > 50 and sum(counts.values()) == 500


def test_nothing_comes_from_elsewhere(search):
    for path in ("/", "/page/page.css", "/page/page.js"):
        status, headers, body = search.send("GET", path)
        assert status == 200 and "default-src 'none'" in headers["content-security-policy"]
        assert b"http://" not in body and b"https://" not in body


# --- In a browser ---


@pytest.fixture(scope="module")  # as long as it is there, nothing else can run an event loop
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, search_port):
    """Gives the page as it opens; at the end it must have had no error and no other address."""
    opened = browser.new_page(viewport={"width": 1000, "height": 700})
    troubles, addresses = [], []
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("request", lambda request: addresses.append(request.url))
    opened.goto(f"http://127.0.0.1:{search_port}/")
    opened.wait_for_selector(".tile img")
    yield opened
    opened.close()
    hosts = {urllib.parse.urlsplit(one).hostname for one in addresses if one.startswith("http")}
    assert hosts == {"127.0.0.1"}
    # The browser itself tells of an answer that is an error; a test may want one.
    assert not [one for one in troubles if not one.startswith("Failed to load resource")]


def names(page):
    return page.eval_on_selector_all("main ul.tiles a", "links => links.map(link => link.title)")


@pytest.mark.slow
def test_by_keyboard_alone_an_image_finds_others_and_bits_narrow_them(page, indexed):
    page.keyboard.press("Tab")  # "skip to the images"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.title")
    page.keyboard.press("Enter")
    page.wait_for_selector(".query")
    assert page.inner_text(".query h3") == first
    index = ImageIndex(indexed)
    image = index.store.find([first])[0]
    row = index.rows_of([image.image_id])
    expected = index.search(
        index.codes[row[0]], index.vectors(row)[0], count=48, leave_out=[image.image_id]
    )
    assert names(page) == [match.image.name for match in expected]
    bits = np.unpackbits(index.codes, axis=1)
    bit = int(np.argmin(np.abs(bits.mean(axis=0) - 0.5)))
    page.focus(f"[data-bit='{bit}']")
    for state, has in (("yes", True), ("no", False)):
        page.keyboard.press("Enter")
        page.wait_for_selector(f"[data-bit='{bit}'][data-wanted={state}]")
        narrowed = index.search(
            index.codes[row[0]],
            index.vectors(row)[0],
            count=48,
            required={bit: has},
            leave_out=[image.image_id],
        )
        assert names(page) == [match.image.name for match in narrowed]
        assert page.evaluate("document.activeElement.dataset.bit") == str(bit)
    page.go_back()
    page.wait_for_selector(f"[data-bit='{bit}'][data-wanted=yes]")


@pytest.mark.slow
def test_a_dropped_file_is_searched_and_a_broken_one_is_told(page, photographs, tmp_path):
    path = sorted(photographs.rglob("*.png"))[9]
    page.set_input_files("#file", path)
    page.wait_for_selector(".query")
    assert names(page)[0] == f"photos/{path.relative_to(photographs)}"
    assert "images, the most like it first" in page.inner_text("#status")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with page.expect_event("console"):  # the browser tells of the status 415
        page.set_input_files("#file", tmp_path / "broken.jpg")
    page.wait_for_selector("#status.bad")
    assert "must be a JPEG, PNG" in page.inner_text("#status")


@pytest.mark.slow
def test_every_view_opens_and_stays_within_a_phone(page, search_port):
    page.set_viewport_size({"width": 360, "height": 740})
    for view, selector in (
        ("attributes", "section[aria-label='Bit 15'] img"),
        ("groups", "section[aria-label='Group 1'] img"),
        ("model", "dl dl dd"),
        ("browse", ".tile img"),
    ):
        page.click(f"nav a[data-view={view}]")
        page.wait_for_selector(selector, state="attached")
        assert page.get_attribute(f"nav a[data-view={view}]", "aria-current") == "page"
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, view
