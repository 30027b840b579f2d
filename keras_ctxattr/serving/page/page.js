"use strict";
// One page, no framework. The address after # says what is shown, so that back and forward work:
// #browse, #attributes, #groups, #model, #image=ID&bits=3,-7, #upload&bits=...

const main = document.getElementById("main");
const status = document.getElementById("status");
const RESULTS = 48;
let about = null;
let upload = null; // the file that was last given, its address in the page
let shown = 0; // counts what was asked for, so that a late answer is not shown

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function tell(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("bad", isBad);
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer; is `ctxattr serve` still running?");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error || `The server answered ${answer.status}.`);
  return body;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

// --- Tiles ---

function tile(image, note) {
  const picture = make("img", {
    src: image.thumbnail, alt: "", loading: "lazy", decoding: "async", width: 160, height: 160,
  });
  picture.addEventListener("error", () => {
    picture.replaceWith(make("span", { class: "faint" }, "The file is gone or has changed. "));
  });
  const name = make("span", { class: "name" }, image.name.split("/").pop());
  return make(
    "li", {},
    make("a", { class: "tile", href: `#image=${image.id}`, title: image.name }, picture, name,
      note ? make("span", { class: "faint" }, note) : null),
  );
}

function tiles(images, note, kind = "") {
  return make("ul", { class: `tiles ${kind}` }, ...images.map((one) => tile(one, note?.(one))));
}

function matchNote(match) {
  const bits = `${match.distance} bit${match.distance === 1 ? "" : "s"}`;
  return match.similarity === null ? bits : `${bits} · ${match.similarity.toFixed(3)}`;
}

// --- Views ---

async function showBrowse(isCurrent) {
  const list = make("ul", { class: "tiles" });
  const button = make("button", { type: "button", class: "more" }, "More images");
  let offset = 0;
  async function more() {
    const page = await ask(`api/images?offset=${offset}&limit=${RESULTS}`);
    offset += page.images.length;
    list.append(...page.images.map((image) => tile(image)));
    button.hidden = offset >= page.total;
    return page.images.length;
  }
  button.addEventListener("click", () => more().catch((error) => tell(error.message, true)));
  await more();
  if (!isCurrent()) return;
  tell(about.num_images ? "Choose an image to see what is like it." : "The index has no images.");
  main.replaceChildren(list, button);
}

async function showAttributes(isCurrent) {
  const { attributes } = await ask("api/attributes");
  if (!isCurrent()) return;
  tell(`${attributes.length} attributes: the most confident images on both sides of each.`);
  main.replaceChildren(...attributes.map((one) => make(
    "section", { class: "card", "aria-label": `Bit ${one.bit}` },
    make("h3", {}, `Bit ${one.bit}`, make("span", { class: "faint" },
      ` · ${percent(one.share)} of the images have it`)),
    make("div", { class: "sides" },
      make("div", {}, make("h4", {}, "have it"), tiles(one.having, null, "row")),
      make("div", {}, make("h4", {}, "do not"), tiles(one.lacking, null, "row"))),
  )));
}

async function showGroups(isCurrent) {
  tell("Grouping the images …");
  const { groups } = await ask("api/groups");
  if (!isCurrent()) return;
  tell(`${groups.length} groups of images with like features (k-means), the largest first.`);
  main.replaceChildren(...groups.map((group, place) => make(
    "section", { class: "card", "aria-label": `Group ${place + 1}` },
    make("h3", {}, `Group ${place + 1}`,
      make("span", { class: "faint" }, ` · ${group.num_images.toLocaleString("en")} images`)),
    tiles(group.images, null, "row"),
  )));
}

function describe(value) {
  if (value === null) return "not said";
  if (Array.isArray(value)) return value.map((one) => typeof one === "object" ? JSON.stringify(one) : one).join(", ");
  if (typeof value !== "object") return String(value);
  return make("dl", {}, ...Object.entries(value).flatMap(([name, inner]) => {
    const shown = describe(inner);
    const label = make("dt", {}, name.replaceAll("_", " "));
    return shown instanceof Node ? [label, make("dd", {}), shown] : [label, make("dd", {}, shown)];
  }));
}

async function showModel(isCurrent) {
  const card = await ask("api/model");
  if (!isCurrent()) return;
  tell("What describes the images, and what it learnt from.");
  main.replaceChildren(make("section", { class: "card" }, describe(card)));
}

// --- Search ---

function readBits(parameters) {
  const wanted = new Map();
  for (const text of (parameters.get("bits") || "").split(",").filter(Boolean)) {
    wanted.set(Number(text.replace("-", "")), !text.startsWith("-"));
  }
  return wanted;
}

function writeBits(wanted) {
  return [...wanted].map(([bit, isSet]) => (isSet ? `${bit}` : `-${bit}`)).join(",");
}

function bitButton(one, wanted, base) {
  const state = wanted.has(one.bit) ? (wanted.get(one.bit) ? "yes" : "no") : "any";
  const words = { any: "any", yes: "results must have it", no: "results must not have it" };
  return make("li", {}, make("button", {
    type: "button", class: one.is_set ? "bit has" : "bit", "data-wanted": state, "data-bit": one.bit,
    "aria-label": `Bit ${one.bit}, ${one.is_set ? "set" : "not set"} in this image; ${words[state]}`,
    title: `${percent(one.share)} of the images have bit ${one.bit}`,
    onclick: () => {
      const next = new Map(wanted);
      if (state === "any") next.set(one.bit, true);
      else if (state === "yes") next.set(one.bit, false);
      else next.delete(one.bit);
      refocus = one.bit;
      location.hash = next.size ? `${base}&bits=${writeBits(next)}` : base;
    },
  }, String(one.bit)));
}
let refocus = null; // the bit whose button has the focus when the results are shown anew

function showResults(found, picture, name, base, wanted) {
  const bits = found.bits.length && make("ul", { class: "bits", "aria-label": "Attributes" },
    ...found.bits.map((one) => bitButton(one, wanted, base)));
  const heading = make("h2", {}, wanted.size ? "More like this, with these attributes" : "More like this");
  main.replaceChildren(
    make("section", { class: "query", "aria-label": "The image" },
      make("img", { src: picture, alt: `The image ${name}` }),
      make("div", {}, make("h3", { class: "name" }, name),
        make("p", { class: "note" }, "Attributes of this image are bold. Press one: results must "
          + "have it; again: must not; again: either."),
        bits || "")),
    heading, tiles(found.matches, matchNote),
  );
  const count = found.matches.length;
  tell(count ? `${count} images, the most like it first: bits that differ`
    + `${about.has_vectors ? " · cosine of the features" : ""}.` : "No image has these attributes.");
  if (refocus !== null) main.querySelector(`[data-bit="${refocus}"]`)?.focus();
  refocus = null;
}

async function showImage(parameters, isCurrent) {
  const id = Number(parameters.get("image")), wanted = readBits(parameters);
  const bits = wanted.size ? `&bits=${writeBits(wanted)}` : "";
  const found = await ask(`api/images/${id}/similar?count=${RESULTS}${bits}`);
  if (isCurrent()) showResults(found, found.image.picture, found.image.name, `image=${id}`, wanted);
}

async function showUpload(parameters, isCurrent) {
  if (!upload) {
    location.hash = "browse";
    return;
  }
  const wanted = readBits(parameters);
  const bits = wanted.size ? `&bits=${writeBits(wanted)}` : "";
  tell("Looking for images like it …");
  const found = await ask(`api/search?count=${RESULTS}${bits}`, {
    method: "POST", body: upload.file, headers: { "Content-Type": "application/octet-stream" },
  });
  if (isCurrent()) showResults(found, upload.address, upload.file.name || "your image", "upload", wanted);
}

function take(file) {
  if (!file) return;
  if (upload) URL.revokeObjectURL(upload.address);
  upload = { file, address: URL.createObjectURL(file) };
  if (location.hash === "#upload") show();
  else location.hash = "upload";
}

// --- What the address says ---

const VIEWS = { attributes: showAttributes, groups: showGroups, model: showModel };

async function show() {
  const number = ++shown;
  const isCurrent = () => number === shown;
  const parameters = new URLSearchParams(location.hash.slice(1));
  const view = [...parameters.keys()][0] || "browse";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.setAttribute("aria-busy", "true");
  try {
    about ||= await ask("api/index");
    document.title = document.getElementById("title").textContent = about.name;
    document.getElementById("about").textContent =
      `${about.num_images.toLocaleString("en")} images, ${about.num_attributes} attributes`;
    if (view === "image") await showImage(parameters, isCurrent);
    else if (view === "upload") await showUpload(parameters, isCurrent);
    else await (VIEWS[view] || showBrowse)(isCurrent);
  } catch (error) {
    if (isCurrent()) {
      tell(error.message, true);
      main.replaceChildren();
    }
  }
  if (isCurrent()) {
    main.removeAttribute("aria-busy");
    if (view === "image" || view === "upload") window.scrollTo(0, 0);
  }
}

document.getElementById("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // the same file can be chosen again
});
document.getElementById("upload").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => take(event.clipboardData?.files[0]));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address after # is taken
  main.focus();
});
window.addEventListener("hashchange", show);
show();
