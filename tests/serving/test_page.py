"""The web page, in a real browser against a real server."""

import base64
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser

import pytest
import requests
from bundles import tiny_bundle
from helpers import ROOT, encode, noise_poster, require_tool
from PIL import ExifTags, Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from marquee.eras import FIRST_YEAR, LAST_YEAR
from serving.page import prefers_html

FILES = ROOT / "serving/page"
POSTERS = [encode(noise_poster(number, 120, 180)) for number in range(24)]
DESKTOP = {"width": 1280, "height": 900}
WIDTHS = (360, 768, 1280)
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"
EXPLAIN = "**/v1/models/poster-genre:explain"
NOTES = {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"these are no pixels"}


def jpeg(number, name=None):
    """A poster as a file that a person chooses."""
    name = name or f"poster{number}.jpg"
    return {"name": name, "mimeType": "image/jpeg", "buffer": POSTERS[number]}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = require_tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page; in the end nothing may have failed in it, nor any request left its server."""
    contexts, faults, requests = [], [], []

    def note(message):
        # Chromium logs every status of 400 or more; the page tells a person of those.
        if message.type == "error" and "Failed to load resource" not in message.text:
            faults.append(message.text)

    def open_page(url=server.url, **options):
        contexts.append(browser.new_context(**{"viewport": DESKTOP, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", note)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: requests.append((url, request.url)))
        page.goto(f"{url}/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults
    assert requests
    for url, requested in requests:
        assert requested.startswith((f"{url}/", "blob:", "data:")), requested


@pytest.fixture
def page(open_page) -> Page:
    return open_page()


def get(server, path, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(server.url + path, headers=names, timeout=30)


def add(page, *files):
    page.set_input_files(
        "#add input" if page.locator("#add").is_visible() else "#welcome input", files
    )


def wait_for(page, count, state="done"):
    expect(page.locator(f"[role=tab][data-state={state}]")).to_have_count(count, timeout=30_000)


def read(page, *files):
    """Add posters and wait until all are read."""
    add(page, *files)
    wait_for(page, len(files))


@cache
def explained(url, poster):
    body = {"instances": [{"image": {"b64": base64.b64encode(poster).decode()}}]}
    response = requests.post(f"{url}/v1/models/poster-genre:explain", json=body, timeout=60)
    response.raise_for_status()
    return response.json()["predictions"][0]


def find(server, unsure=False, genres=1):
    """The number of a poster that is answered so, with this many genres at least."""
    for number, poster in enumerate(POSTERS):
        answer = explained(server.url, poster)
        if answer["unsure"] is unsure and len(answer["genres"]) >= genres:
            return number
    raise LookupError("no poster is answered so")


# What the server sends


@pytest.mark.parametrize(
    ("accept", "html"),
    {
        "a browser": (HTML, True),
        "only html": ("text/html", True),
        "in capitals": ("Text/HTML", True),
        "curl": ("*/*", False),
        "nothing": ("", False),
        "json": ("application/json", False),
        "html rather": ("application/json;q=0.5, text/html", True),
        "json rather": ("text/html;q=0.5, application/json", False),
        "both alike": ("application/json, text/html", True),
        "refused": ("text/html;q=0", False),
        "a quality that is none": ("text/html;q=high", False),
    }.values(),
)
def test_a_browser_gets_the_page_and_a_program_gets_json(accept, html):
    assert prefers_html(accept) is html


def test_the_root_answers_both(server):
    page = get(server, "/", accept=HTML)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.content == (FILES / "index.html").read_bytes()
    status = get(server, "/")
    assert status.json() == {"status": "alive"}
    assert page.headers["Vary"] == status.headers["Vary"] == "Accept"


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.iterdir()))
def test_every_file_is_served_under_a_strict_policy(server, name):
    response = get(server, f"/page/{name}")
    assert response.content == (FILES / name).read_bytes()
    policy = dict(
        rule.strip().split(" ", 1)
        for rule in response.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "camera=()" in response.headers["Permissions-Policy"]
    etag = response.headers["ETag"]
    assert get(server, f"/page/{name}", if_none_match=f'"other", W/{etag}').status_code == 304
    assert get(server, f"/page/{name}", if_none_match='"other"').status_code == 200


@pytest.mark.parametrize("name", ["none.js", "../page.py", "..%2fpage.py", "__init__.py"])
def test_nothing_else_is_served(server, name):
    assert get(server, f"/page/{name}").status_code == 404


def test_the_page_holds_no_inline_code_and_only_relative_urls():
    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            names = dict(attributes)
            assert not {"style", *(name for name in names if name.startswith("on"))} & names.keys()
            assert tag != "style"
            assert tag != "script" or "src" in names
            for url in (names.get("src"), names.get("href")):
                assert url is None or re.match(r"(page/|#)", url), url

    Reader().feed((FILES / "index.html").read_text())
    for path in FILES.glob("*.[cj]s*"):
        assert not re.search(r"https?:|innerHTML|eval\(|localStorage", path.read_text()), path.name


def test_the_words_are_those_of_the_documentation(page):
    page.locator("footer summary").click()
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("#words tr").all()]
    documented = re.findall(
        r"^\| (from \d+%|below) \| (.*) \| (.*) \|$",
        (ROOT / "docs/web-page.md").read_text(),
        re.MULTILINE,
    )
    assert rows == [list(row) for row in documented]
    assert len(rows) == 6


def test_years_are_limited_as_the_endpoint_limits_them():
    limits = re.search(r'id="year".*? min="(\d+)" max="(\d+)"', (FILES / "index.html").read_text())
    assert [int(limit) for limit in limits.groups()] == [FIRST_YEAR, LAST_YEAR]


# What a person sees


def test_a_poster_is_read(page, server):
    number = find(server, unsure=False)
    answer = explained(server.url, POSTERS[number])
    read(page, jpeg(number))
    assert page.locator("#lines b").all_inner_texts() == [
        genre.upper() for genre in answer["genres"]
    ]
    shown = {
        row.locator(".genre").inner_text(): row.locator(".percent").inner_text()
        for row in page.locator("#bars li").all()
    }
    ranked = sorted(answer["probabilities"], key=lambda genre: -answer["probabilities"][genre])
    assert list(shown) == ranked
    for genre, probability in answer["probabilities"].items():
        assert abs(float(shown[genre].strip("<>%")) / 100 - probability) < 0.0051
    assert page.locator(".bars .chosen").count() == len(answer["genres"])
    assert page.locator("#version").inner_text() == answer["model_version"][:12]
    assert re.fullmatch(r"\d+ ms|\d+\.\d s", page.locator("#latency").inner_text())
    films = page.locator("#films .film").all_inner_texts()
    assert films == [film["title"] for film in answer["similar"]]
    assert len(films) == 5
    expect(page.locator("#announcer")).to_contain_text(f"poster{number}.jpg: {answer['genres'][0]}")


def test_an_unsure_answer_is_said_plainly(page, server):
    read(page, jpeg(find(server, unsure=True)))
    expect(page.locator("#sentence")).to_contain_text("Unsure: none of 4 genres reached")
    assert page.locator("#lines span").all_inner_texts() == ["best guess"]
    assert page.locator(".bars .guess .word").all_inner_texts() == ["best guess"]


def test_a_file_that_is_no_poster_spoils_nothing(page):
    add(page, jpeg(0), NOTES, jpeg(1))
    wait_for(page, 2)
    wait_for(page, 1, "failed")
    expect(page.locator("#progress")).to_have_text("2 of 3 read")
    page.locator("[role=tab]").nth(1).click()
    expect(page.locator("#message")).to_contain_text("notes.jpg: not an image but unknown data")
    expect(page.locator("#blank")).to_be_visible()
    page.get_by_role("button", name="Remove it").click()
    expect(page.locator("[role=tab]")).to_have_count(2)
    expect(page.locator("#failure")).to_be_hidden()


FILES_EVENT = """([kind, names, data]) => {
  const transfer = new DataTransfer();
  for (const name of names) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  }
  const options = { bubbles: true, cancelable: true };
  document.body.dispatchEvent(kind === "paste"
    ? new ClipboardEvent(kind, { ...options, clipboardData: transfer })
    : new DragEvent(kind, { ...options, dataTransfer: transfer }));
}"""


def test_posters_are_dropped_and_pasted(page):
    data = base64.b64encode(POSTERS[0]).decode()
    page.evaluate(FILES_EVENT, ["dragenter", ["a.jpg", "b.jpg"], data])
    expect(page.locator("#drop")).to_be_visible()
    page.evaluate(FILES_EVENT, ["drop", ["a.jpg", "b.jpg"], data])
    expect(page.locator("#drop")).to_be_hidden()
    wait_for(page, 2)
    page.evaluate(FILES_EVENT, ["paste", ["c.png"], data])
    wait_for(page, 3)
    expect(page.locator("#name")).to_have_text("c.png")


def test_each_genre_has_its_heat(page, server):
    number = find(server, genres=2)
    explanations = explained(server.url, POSTERS[number])["explanations"]
    read(page, jpeg(number))
    heat = page.locator("#heat")
    for explanation in explanations:
        page.get_by_role("radio", name=explanation["genre"]).check(force=True)
        source = f"data:image/png;base64,{explanation['overlay_png_b64']}"
        expect(heat).to_have_attribute("src", source)
        expect(heat).to_be_visible()
        expect(heat).to_have_attribute("alt", re.compile(explanation["genre"]))
    page.get_by_role("radio", name="Off").check(force=True)
    expect(heat).to_be_hidden()


def test_the_slider_fades_the_heat(page):
    read(page, jpeg(0))
    page.get_by_role("slider", name="Strength").fill("20")
    expect(page.locator("#heat")).to_have_css("opacity", "0.2")
    expect(page.locator("#strength-value")).to_have_text("20%")


RATIOS = """() => ["poster", "heat"]
  .map((id) => document.getElementById(id))
  .map(({ naturalWidth, naturalHeight }) => naturalWidth / naturalHeight)"""


@pytest.mark.parametrize(
    ("size", "orientation", "ratio"),
    {
        "a poster": ((120, 180), 1, 2 / 3),
        "wide": ((300, 100), 1, 3),
        "narrow": ((40, 400), 1, 1 / 10),
        "turned by its camera": ((180, 120), 6, 2 / 3),
    }.values(),
)
def test_heat_lies_on_the_picture_to_the_pixel(page, size, orientation, ratio):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = encode(noise_poster(0, *size), exif=exif)
    read(page, {"name": "picture.jpg", "mimeType": "image/jpeg", "buffer": picture})
    expect(page.locator("#heat")).to_be_visible()
    boxes = [page.locator(f"#{name}").bounding_box() for name in ("poster", "heat")]
    assert boxes[0] == boxes[1]
    assert boxes[0]["width"] / boxes[0]["height"] == pytest.approx(ratio, rel=0.02)
    assert page.evaluate(RATIOS) == pytest.approx([ratio, ratio], rel=0.02)


def test_a_year_gives_an_era(page):
    read(page, jpeg(0))
    expect(page.locator("#era")).to_have_text("Unknown")
    page.get_by_label("Release year").fill("1979")
    page.get_by_role("button", name="Set").click()
    expect(page.locator("#era")).to_have_text("New Hollywood")
    expect(page.locator("#era-source")).to_have_text("by its year")


def test_attributions_stand_where_the_films_do(page):
    def attribute(route):
        response = route.fetch()
        route.fulfill(
            response=response, json=response.json() | {"attributions": ["From a source."]}
        )

    page.route(EXPLAIN, attribute)
    read(page, jpeg(0))
    expect(page.locator("#films-note")).to_have_text("From a source.")


def test_the_model_version_is_copied_in_full(open_page, server):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    read(page, jpeg(0))
    page.get_by_role("button", name="Copy the model version").click()
    expect(page.locator("#announcer")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == server.bundle.version


# When something is in the way


@pytest.mark.slow
def test_a_server_with_tokens_asks_for_one(open_page, start, tmp_path):
    """One server, since each takes seconds: it also takes no large file, and knows 18 genres."""
    tokens = tmp_path / "tokens"
    tokens.write_text("open sesame\n")
    tokens.chmod(0o600)
    bundle = tiny_bundle(tmp_path / "bundle", label_set="all18")
    server = start(bundle, "--token-file", tokens, "--max-request-mb", 0.1)
    page = open_page(server.url)
    add(page, jpeg(0), jpeg(1), jpeg(2))
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("asks for an access token")
    wait_for(page, 3, "failed")

    page.get_by_role("button", name="Not now").click()
    page.get_by_role("button", name="Enter access token").click()
    page.get_by_label("Access token", exact=True).fill("guess")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("did not accept the access token")
    wait_for(page, 3, "failed")

    page.get_by_label("Access token", exact=True).fill("open sesame")
    page.keyboard.press("Enter")
    wait_for(page, 3)
    expect(dialog).to_be_hidden()
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [
        *(1, 0),
        "",
    ]
    page.locator("#more summary").click()
    expect(page.locator(".bars li")).to_have_count(18)

    large = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(300_000)}
    add(page, large)
    expect(page.locator("#message")).to_contain_text(
        "large.png is too large for this server (0.3 MB)"
    )


def test_a_busy_server_is_asked_again(page):
    answers = [{"status": 503, "headers": {"Retry-After": "1"}, "json": {"error": "full"}}]
    page.route(
        EXPLAIN, lambda route: route.fulfill(**answers.pop()) if answers else route.continue_()
    )
    add(page, jpeg(0))
    expect(page.locator("#sentence")).to_have_text("The server is busy. Trying again in 1 s.")
    wait_for(page, 1)
    expect(page.locator("#sentence")).to_contain_text("threshold")


def test_a_server_out_of_reach_is_tried_again_on_demand(page):
    page.route(EXPLAIN, lambda route: route.abort())
    add(page, jpeg(0))
    expect(page.locator("#message")).to_contain_text("cannot be reached")
    page.unroute(EXPLAIN)
    page.get_by_role("button", name="Try again").click()
    wait_for(page, 1)


@pytest.mark.parametrize(
    ("answer", "message"),
    {
        "a fault": ({"status": 500, "json": {"error": "see the log"}}, "status 500: see the log."),
        "a proxy's page": ({"status": 502, "body": "<h1>Bad</h1>"}, "status 502."),
        "another server": ({"status": 200, "body": "hello"}, "holds no prediction"),
    }.values(),
)
def test_strange_answers_are_told(page, answer, message):
    page.route(EXPLAIN, lambda route: route.fulfill(**answer))
    add(page, jpeg(0))
    expect(page.locator("#message")).to_contain_text(message)


def test_posters_are_sent_one_a_request_and_two_at_a_time(page):
    held = []
    page.route(EXPLAIN, lambda route: held.append(route))
    add(page, *(jpeg(number) for number in range(5)))
    expect(page.locator("[data-state=asking]")).to_have_count(2 + 1)  # the panel shows one of them
    for number in range(5):
        while not held:
            page.wait_for_timeout(20)
        assert len(held) <= 2
        route = held.pop(0)
        assert len(route.request.post_data_json["instances"]) == 1
        route.continue_()
        wait_for(page, number + 1)
    assert not held


def test_behind_a_path_prefix(browser, server):
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        requested = []

        def forward(route):
            requested.append(route.request.url)
            route.continue_(url=route.request.url.replace("/studio/", "/"))

        page.route("**/studio/**", forward)
        page.goto(f"{server.url}/studio/")
        read(page, jpeg(0))
        assert any(url.endswith("/studio/v1/models/poster-genre:explain") for url in requested)


# For everybody


def test_by_keyboard_alone(page, server):
    number = find(server, genres=2)
    genres = explained(server.url, POSTERS[number])["genres"]

    def tab_to(selector):
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"Tab never came to {selector}")

    # Listening before it is needed: Chromium is told of it without waiting.
    choose = [jpeg(number), jpeg(1), NOTES]
    page.on("filechooser", lambda chooser: chooser.set_files(choose))
    tab_to("#welcome input")
    page.keyboard.press("Enter")
    wait_for(page, 2)
    expect(page.locator("[role=tab]").nth(0)).to_be_focused()
    for key, place in [("ArrowDown", 1), ("End", 2), ("ArrowLeft", 1), ("Home", 0)]:
        page.keyboard.press(key)
        tab = page.locator("[role=tab]").nth(place)
        expect(tab).to_be_focused()
        expect(tab).to_have_attribute("aria-selected", "true")
        expect(page.locator("#name")).to_have_text(tab.get_attribute("title"))

    tab_to("input[type=radio]:checked")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name=genres[1])).to_be_checked()
    expect(page.locator("#heat")).to_have_attribute("alt", re.compile(genres[1]))
    tab_to("#strength")
    page.keyboard.press("Home")
    expect(page.locator("#heat")).to_have_css("opacity", "0")
    tab_to("#year")
    page.keyboard.type("1925")
    page.keyboard.press("Enter")
    expect(page.locator("#era")).to_have_text("Silent")

    page.locator("[role=tab]").nth(0).focus()
    for left in (2, 1):
        page.keyboard.press("Delete")
        expect(page.locator("[role=tab]")).to_have_count(left)
        expect(page.locator("[role=tab]").nth(0)).to_be_focused()
    page.keyboard.press("Delete")
    expect(page.locator("#welcome input")).to_be_focused()


NAMELESS = """() => {
  const nameOf = (element) => element.getAttribute("aria-label")
    || document.getElementById(element.getAttribute("aria-labelledby"))?.textContent
    || [...(element.labels ?? [])].map((label) => label.textContent).join()
    || (element.matches("input") ? "" : element.textContent);
  const roles = "[role=tab], [role=tablist], [role=tabpanel]";
  return [...document.querySelectorAll(`button, input, summary, a, nav, section, ${roles}`)]
    .filter((element) => element.checkVisibility() && !nameOf(element).trim())
    .map((element) => element.outerHTML);
}"""

PALE = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => rgb.slice(0, 3)
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    throw new Error("no background");
  };
  const pale = [];
  let seen = 0;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const seeable = element.checkVisibility({ visibilityProperty: true });
    if (!own || !seeable || element.closest(":disabled")) continue;
    const style = getComputedStyle(element);
    const hollow = numbers(style.color)[3] === 0;
    const ink = luminance(numbers(hollow ? style.webkitTextStrokeColor : style.color));
    const paper = luminance(ground(element));
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    seen += 1;
    if (contrast < (large ? 3 : 4.5)) pale.push([element.textContent, contrast]);
  }
  if (seen < 5) throw new Error(`only ${seen} texts`);
  return pale;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_have_names_and_texts_contrast(open_page, server, scheme):
    page = open_page(color_scheme=scheme)
    unsure = find(server, unsure=True)

    def check():
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate(PALE) == []

    check()
    page.locator("footer summary").click()
    add(page, jpeg(find(server, genres=2)), jpeg(unsure), NOTES)
    wait_for(page, 2)
    wait_for(page, 1, "failed")
    for number in range(3):
        page.locator("[role=tab]").nth(number).click()
        check()
    assert page.locator("h1").count() == 1
    assert page.locator("img:not([alt])").count() == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(({ id }) => id)")
    assert len(ids) == len(set(ids))


def places(page):
    """Where things stand, from the top of the page; below the films, their titles decide."""
    names = ("sentence", "poster", "look", "bars", "alike-title", "films")
    return {name: page.locator(f"#{name}").bounding_box()["y"] for name in names}


@pytest.mark.parametrize("width", WIDTHS)
def test_an_answer_moves_nothing(open_page, server, width):
    page = open_page(viewport={"width": width, "height": 844})
    held = []
    page.route(EXPLAIN, lambda route: held.append(route))
    add(page, jpeg(find(server, genres=2)))
    expect(page.locator("#pending")).to_have_text("Reading")
    before = places(page)
    held[0].continue_()
    wait_for(page, 1)
    assert places(page) == before


LONG_NAMES = {"Comedy": "Science Fiction Adventure", "Horror": "Historical Drama"}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_layout_fits(open_page, server, width):
    def lengthen(route):
        response = route.fetch()
        text = response.text()
        for name, long in LONG_NAMES.items():
            text = text.replace(f'"{name}"', f'"{long}"')
        route.fulfill(response=response, body=text)

    page = open_page(viewport={"width": width, "height": 844})
    page.route(EXPLAIN, lengthen)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    read(page, jpeg(find(server, genres=2)))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    texts = page.locator("#lines li > *, .bars li > *").all()
    assert all(text.evaluate("e => e.scrollWidth <= e.clientWidth + 1") for text in texts)


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_nothing_moves_for_those_who_asked_for_that(open_page, motion, moves):
    page = open_page(reduced_motion=motion)
    page.route(EXPLAIN, lambda route: None)
    add(page, jpeg(0))
    expect(page.locator("#reading")).to_have_attribute("aria-busy", "true")
    assert page.evaluate("document.getAnimations().length > 0") is moves
