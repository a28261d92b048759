"""The page in a real browser: it renders, says what the store says, sorts, and can be read by all."""

import json
import re
import shutil
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise

import pytest

from pgmetrics.errors import OptionError, PgmetricsError
from pgmetrics.report import gallery, page, sections
from pgmetrics.report.run_curves import read_growth
from pgmetrics.results import COLUMNS, tables
from tests.report.conftest import REAL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def file(network_run, tmp_path_factory):
    """The page about the run with metrics of features."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert page.write_report(network_run, path, real=REAL, samples=8) == []
    return path


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Shown:
    """The page in a tab, and what the browser said about it."""

    def __init__(self, browser, file, width=1280, scheme="light"):
        self.said, self.asked = [], []
        self.tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(file.as_uri())

    def column(self, name, table="#scores"):
        """The cells of a column of the rows that are shown, as they would be sorted."""
        return self.tab.evaluate(
            """([table, name]) => {
                const rows = Array.from(document.querySelectorAll(table + " tbody tr"));
                const heads = Array.from(document.querySelector(table).tHead.rows[0].cells);
                const at = heads.findIndex((head) => head.textContent === name);
                return rows.filter((row) => !row.hidden).map((row) => row.cells[at])
                    .map((cell) => cell.dataset.v ?? cell.textContent);
            }""",
            [table, name],
        )


@pytest.fixture
def shown(browser, file):
    one = Shown(browser, file)
    yield one
    one.tab.close()


# In a browser.


def test_it_renders_without_a_word_from_the_console_and_asks_for_nothing(shown, file):
    # A style that the policy refuses, a script that fails, a font from elsewhere.
    assert shown.said == []
    assert {url for url in shown.asked if not url.startswith("data:")} == {file.as_uri()}
    assert shown.tab.locator("svg.plot:visible").count() == 9


def test_every_row_of_the_store_is_on_the_page_as_it_is(shown, growth):
    rows = growth.results.rows
    for name in COLUMNS:
        cells = shown.column(name.replace("_", " "))
        read = [("" if row[name] is None else row[name]) for row in rows]
        if name in ("value", "stderr"):
            assert [float(cell) if cell else "" for cell in cells] == read
        else:
            assert cells == [str(value) for value in read]
    texts = shown.tab.locator("#scores tbody tr").all_inner_texts()
    assert f"{rows[0]['value']:.6g}" in texts[0]


def test_the_table_of_the_paper_holds_what_tables_for_people_print(shown, growth):
    for protocol, table in zip(growth.protocols, shown.tab.locator("table.paper").all(), strict=True):
        rows = [r for r in growth.results.rows if str(r["protocol"]).split(",")[0] == protocol]
        expected = [line.cells for line in tables.layout(rows)[1]]
        found = [
            [cell.text_content() for cell in line.locator("td").all()]
            for line in table.locator("tbody tr").all()
        ]
        assert found == expected


def test_the_headline_says_what_the_store_says(shown, growth):
    last = next(
        row for row in growth.results.rows
        if (row["run"], row["metric"], row["level"], row["protocol"])
        == ("0000077056-32x32", "swd", None, "at-final")
    )  # fmt: skip
    lede = shown.tab.locator(".lede").inner_text()
    assert f"After 77,056 images, SWD ×10³ is {1e3 * last['value']:.2f}" in lede
    assert f"{last['value'] / 0.0085:.1f} times the 8.50" in lede
    tile = shown.tab.locator(".tile").first.inner_text()
    assert f"{1e3 * last['value']:.2f}" in tile
    assert f"± {1960 * last['stderr']:.2f}" in tile


def test_each_stage_has_its_card(shown):
    cards = [text.replace("\n", " ") for text in shown.tab.locator(".stage").all_inner_texts()]
    assert [card.split()[0] for card in cards] == ["4×4", "8×8", "16×16", "32×32"]
    assert "11,008 – 33,024 images" in cards[1]
    assert "within noise" in cards[3]
    assert "better" in cards[1]


def test_sorting_goes_up_down_and_back(shown):
    # As text 1149.66 comes before 29.48; empty cells first, or lost.
    given = shown.column("value")
    button = shown.tab.locator("#scores thead th", has_text="value").locator("button")
    head = shown.tab.locator("#scores thead th", has_text="value")
    button.click()
    assert [float(v) for v in shown.column("value")] == sorted(map(float, given))
    assert head.get_attribute("aria-sort") == "ascending"
    assert shown.tab.locator("#rows").inner_text() == "Sorted by value, ascending."
    button.click()
    assert [float(v) for v in shown.column("value")] == sorted(map(float, given), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    button.click()
    assert shown.column("value") == given
    assert head.get_attribute("aria-sort") is None


def test_sorting_by_keyboard_leaves_one_sorted_column_and_missing_values_last(shown):
    shown.tab.locator("#scores thead th", has_text="value").locator("button").click()
    shown.tab.locator("#scores thead th", has_text="level").locator("button").focus()
    for key, falling in (("Enter", False), ("Space", True)):
        shown.tab.keyboard.press(key)
        levels = shown.column("level")
        known = [int(level) for level in levels if level]
        assert known == sorted(known, reverse=falling)
        assert "" not in levels[: len(known)]
    assert shown.tab.locator("#scores th[aria-sort]").all_inner_texts() == ["level"]


def test_choosing_a_metric_hides_the_others(shown, growth):
    shown.tab.get_by_label("Metric").select_option("fid")
    assert set(shown.column("metric")) == {"fid"}
    count = sum(row["metric"] == "fid" for row in growth.results.rows)
    assert shown.tab.locator("#rows").inner_text() == f"{count} of {len(growth.results.rows)} rows."
    shown.tab.get_by_label("Metric").select_option("")
    assert len(shown.column("metric")) == len(growth.results.rows)


def test_the_download_is_the_csv(shown, growth, tmp_path):
    with shown.tab.expect_download() as started:
        shown.tab.get_by_text("Download CSV").click()
    started.value.save_as(tmp_path / "down.csv")
    assert started.value.suggested_filename == "features-scores.csv"
    assert (tmp_path / "down.csv").read_text("utf-8") == growth.results.to_csv()


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_screen(browser, file, width):
    shown = Shown(browser, file, width)
    assert shown.tab.evaluate("document.documentElement.scrollWidth") == width
    kind = "narrow" if width <= 620 else "wide"
    assert shown.tab.locator("svg.plot:visible").count() == 9
    assert shown.tab.locator(f"svg.{kind}:visible").count() == 9
    shown.tab.close()


SMALL_TEXT = """() => Array.from(document.querySelectorAll("svg.plot text"))
    .filter((text) => text.getBoundingClientRect().width)
    .map((text) => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_text_in_plots_is_large_enough_to_read(browser, file, width):
    # One drawing scaled to every screen has text of five pixels on a phone.
    shown = Shown(browser, file, width)
    assert min(shown.tab.evaluate(SMALL_TEXT)) >= 9.5
    shown.tab.close()


CONTRASTS = """() => {
    const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = (rgb) => {
        const part = rgb.slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const rgb = channels(getComputedStyle(at).backgroundColor);
            if (rgb.length === 3 || rgb[3] === 1) return rgb;
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = Array.from(element.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || ["SCRIPT", "STYLE", "title", "OPTION"].includes(element.tagName)) continue;
        if (!element.getBoundingClientRect().width) continue;
        const style = getComputedStyle(element);
        const color = channels(element instanceof SVGElement ? style.fill : style.color);
        const [a, b] = [light(color), light(behind(element))].sort((x, y) => y - x);
        found.push([(a + 0.05) / (b + 0.05), element.textContent.trim().slice(0, 40)]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_background(browser, file, scheme):
    # WCAG 2.2 AA asks 4.5 : 1 of text; labels within plots included.
    shown = Shown(browser, file, scheme=scheme)
    contrasts = shown.tab.evaluate(CONTRASTS)
    shown.tab.close()
    assert len(contrasts) > 500
    assert [found for found in contrasts if found[0] < 4.5] == []


def test_dark_is_dark(browser, file):
    shown = Shown(browser, file, scheme="dark")
    assert shown.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 26)"
    shown.tab.close()


def test_curves_and_floors_stand_out_from_the_page(browser, file):
    # WCAG asks 3 : 1 of graphics that carry meaning.
    script = CONTRASTS.replace('"body *"', '".s-curve, .s-real, [class*=s-level]"').replace(
        "if (!own ||", "if ("
    ).replace("style.fill", "style.stroke")  # fmt: skip
    for scheme in ("light", "dark"):
        shown = Shown(browser, file, scheme=scheme)
        contrasts = [found[0] for found in shown.tab.evaluate(script)]
        shown.tab.close()
        assert contrasts
        assert min(contrasts) >= 3


def test_without_scripts_the_page_is_complete(browser, file, growth):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert tab.locator("#scores tbody tr").count() == len(growth.results.rows)
    assert tab.locator("#scores thead button").count() == 0
    assert not tab.locator("#rows-filter").is_visible()
    context.close()


# In the file.


class Outline(HTMLParser):
    """Elements with their attributes, the text of a few, and whether every one was closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def outline(file):
    found = Outline(file.read_text("utf-8"))
    assert found.open == []
    return found


@pytest.mark.slow
def test_every_image_and_plot_is_told_in_words(outline):
    assert all(image["alt"].strip() for image in outline.all("img"))
    assert all(plot["role"] == "img" and plot["aria-labelledby"] for plot in outline.all("svg"))
    assert outline.all("html") == [{"lang": "en"}]


def test_headings_do_not_skip_a_level(outline):
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_ids_are_unique_and_links_lead_somewhere(outline):
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [link["href"][1:] for link in outline.all("a") if link["href"].startswith("#")]
    assert len(links) >= 6
    assert set(links) <= set(ids)


def test_what_can_be_scrolled_can_be_reached_by_keyboard(outline):
    boxes = [a for _, a in outline.elements if "scroll" in (a.get("class") or "").split()]
    assert boxes
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_nothing_comes_from_elsewhere(file):
    text = file.read_text("utf-8")
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert not re.search(r"<[^>]+\son\w+=|<[^>]+\sstyle=", text)


@pytest.mark.slow
def test_equal_scores_give_an_equal_page(file, network_run, tmp_path):
    page.write_report(network_run, tmp_path / "again.html", real=REAL, samples=8)
    assert (tmp_path / "again.html").read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_a_name_with_signs_of_html_is_only_a_name(run):
    text = page.to_html(read_growth(run), gallery.Images())
    assert "<h1>leaves &lt;32&gt; &amp; co</h1>" in text
    assert "<32>" not in text
    assert 'download="leaves--32----co-scores.csv"' in text


@pytest.mark.slow
def test_without_real_images_there_are_none(network_run, file, tmp_path):
    page.write_report(network_run, tmp_path / "none.html", samples=8, show_reals=False)
    without = Outline((tmp_path / "none.html").read_text("utf-8"))
    assert not any("real" in image["alt"] for image in without.all("img"))
    assert len(without.all("img")) == 8  # four cards and four grids
    with_reals = Outline(file.read_text("utf-8")).all("img")
    assert sum("real image" in image["alt"] for image in with_reals) == 4 + 8 * 4


@pytest.mark.slow
def test_ms_ssim_is_varied_and_never_better_or_worse(growth):
    # Lower was called better, beside reals of 0.069 that no checkpoint reaches.
    text = page.to_html(growth, gallery.Images())
    cards = re.findall(r'<li class="stage">.*?</li>', text, re.S)
    assert len(cards) == 4
    for card in cards:
        about = card.partition("<dt>MS-SSIM</dt>")[2].partition("<dt>")[0]
        assert "less varied than the reals" in about
        assert not re.search("better|worse", about)
    assert "more varied" in cards[1]
    tile = re.search(r"<dt>MS-SSIM</dt>.*?</div>", text, re.S)[0]
    assert "less varied than the reals" in tile
    figure = re.search(r"<h3>MS-SSIM</h3>.*?<span>(.*?)</span>", text, re.S)
    assert figure[1] == "higher is less varied; the reals are the measure"
    assert "lower is more varied" not in text


@pytest.mark.slow
def test_what_is_missing_is_said_on_the_page(growth):
    text = page.to_html(growth, gallery.Images(notes=["No real images: gone."]))
    assert "No real images: gone." in text


@pytest.mark.slow
def test_where_the_reals_lie_on_a_disk_is_not_told(growth):
    spec = {**growth.settings, "real_spec": "/home/somebody/secret/photos.zip", "asked": {"seed": 0}}
    text = page.to_html(replace(growth, settings=spec), gallery.Images())
    assert "photos.zip" in text
    assert "somebody" not in text


def test_a_page_is_one_html_file(network_run, tmp_path):
    with pytest.raises(OptionError, match=r"a\.pdf: the page is written to a file\.html"):
        page.write_report(network_run, tmp_path / "a.pdf")
    with pytest.raises(PgmetricsError, match="there is no directory"):
        page.write_report(network_run, tmp_path / "none" / "a.html")


BAD = "\"><script>alert(1)</script><b a='"
"""Text that would leave any place of a page where it is not escaped."""


def hostile(text):
    """Every text of a store made hostile, but for what decides how a line is read."""

    def change(value, kept=()):
        if isinstance(value, dict):
            # Names of metrics and settings are free, too.
            return {
                (name if name in KEPT else f"{name}{text}"): (inner if name in kept else change(inner, kept))
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [change(inner, kept) for inner in value]
        return value + text if isinstance(value, str) else value

    return change


KEPT = {
    "format", "series", "item", "settings", "results", "provenance", "notes", "device", "versions", "metrics",
    "kind", "label", "file", "digest", "images_shown", "resolution", "final_resolution", "alpha",
    "seed", "real_spec", "loader", *COLUMNS,
}  # fmt: skip


@pytest.mark.slow
def test_nothing_in_a_store_becomes_markup(network_run, tmp_path):
    lines = [json.loads(line) for line in (network_run / "scores.jsonl").read_text().splitlines()]
    for line in lines:
        if "settings" in line:
            line["settings"] |= {"loader": "os:system", "network": {"a": ["b", 1]}}
    made = [hostile(BAD)(line, {"kind", "subject"}) for line in lines]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made))
    notes = page.write_report(tmp_path, tmp_path / "a.html", samples=4)
    assert any("os:system" in note for note in notes)
    text = (tmp_path / "a.html").read_text("utf-8")
    found = Outline(text)
    assert found.open == []
    assert len(found.all("script")) == 1
    assert "<script>alert" not in text
    assert not any(name == "a" for tag, attributes in found.elements if tag == "b" for name in attributes)
    # It is there, as text: labels, metrics, protocols, errors, settings, notes, devices and versions.
    assert text.count("&lt;script&gt;") > 50


SECTIONS = ("header", *(name for name in vars(sections) if name.endswith("_section")))
OURS = {"wide", "narrow"}
"""Fields of sections that hold SVG of our own."""


class Printed(HTMLParser):
    """All that a page prints: texts, and the values of attributes."""

    def __init__(self, text):
        super().__init__()
        self.printed = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.printed += [value for _, value in attributes if value]

    def handle_data(self, data):
        self.printed.append(data)


def marked(value, marks):
    """The same values, with a text that is like no other in place of each text; `marks` collects them."""
    if is_dataclass(value):
        inside = {field.name: getattr(value, field.name) for field in fields(value) if field.name not in OURS}
        return replace(value, **{name: marked(inner, marks) for name, inner in inside.items()})
    if isinstance(value, tuple):
        return tuple(marked(inner, marks) for inner in value)
    if isinstance(value, dict):
        return {marked(name, marks): marked(inner, marks) for name, inner in value.items()}
    if isinstance(value, str) and value:
        marks.append(f"{BAD}\u202e{len(marks)}")
        return marks[-1]
    return value


@pytest.mark.slow
def test_every_field_of_a_section_is_printed_as_text(network_run, monkeypatch):
    # A field that a template marks safe, prints without quotes, or forgets.
    growth = read_growth(network_run)
    images = gallery.gather(growth, real=REAL, count=4)
    marks = []
    for name in SECTIONS:
        made = getattr(sections, name)
        monkeypatch.setattr(sections, name, lambda *given, made=made: marked(made(*given), marks))
    text = page.to_html(replace(growth, name=f"{BAD}run", series=f"{BAD}series"), images)
    found = Outline(text)
    assert found.open == []
    assert len(found.all("script")) == 1
    assert not any(name == "a" for _, attributes in found.elements for name in attributes)
    printed = "\n".join(Printed(text).printed) + "\n"
    assert len(marks) > 1000
    escaped = (mark.replace("\u202e", "\\u202e") for mark in [*marks, f"{BAD}run", f"{BAD}series"])
    assert [mark for mark in escaped if not re.search(re.escape(mark) + r"\D", printed)] == []


def test_only_our_own_text_is_marked_safe():
    templates = resources.files("pgmetrics.report").joinpath("templates")
    text = "".join(template.read_text("utf-8") for template in templates.iterdir())
    safe = re.findall(r"([\w.]+) \| safe\b", text)
    assert set(safe) == {"style", "script", "figure.wide", "figure.narrow"}
    assert len(safe) == text.count("safe")
    assert "autoescape" not in text
