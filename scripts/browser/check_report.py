#!/usr/bin/env python3
"""Opens the report of a run in headless Chromium and uses it as a user would.

    check_report.py REPORT SCREENSHOT_FOLDER

The report requests nothing, has no error on the console, is never wider than the window, and shows its pictures. Its
charts show their values and its words their attention, with mouse, touch and keyboard. Leaves screenshots. A failed check
ends it with status 1. The run must have logged updates, and pictures with attention.
"""

import pathlib
import sys

from browser import Browser, check

TOOLS = r"""
window.test = {
  card: [...document.querySelectorAll('.card')].find((card) => card.querySelector('button.word')),
  words: () => [...test.card.querySelectorAll('button.word')],
  // How much the overlay varies over the picture; 0 if there is none, or if it does not cover the picture.
  veil() {
    const canvas = test.card.querySelector('canvas');
    if (canvas.hidden || !canvas.checkVisibility()) return 0;
    const [over, under] = [canvas, test.card.querySelector('img')].map((part) => part.getBoundingClientRect());
    const isOver = ['left', 'top', 'width', 'height'].every((side) => Math.abs(over[side] - under[side]) < 1);
    const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
    const paint = copy.getContext('2d', { willReadFrequently: true });
    paint.drawImage(canvas, 0, 0);
    const { data } = paint.getImageData(0, 0, copy.width, copy.height);
    let [least, most] = [255, 0];
    for (let at = 3; at < data.length; at += 4) { least = Math.min(least, data[at]); most = Math.max(most, data[at]); }
    return isOver ? most - least : 0;
  },
  // The gap between a caption and what is below it, in pixels.
  gap: () => test.card.querySelector('.pairs').getBoundingClientRect().top
    - test.card.querySelector('.caption').getBoundingClientRect().bottom,
  reading: () => test.card.querySelector('.reading').innerText,
  tip: (id) => document.querySelector(`#${id} .tip`),
  charts: () => [...document.querySelectorAll('.plot')].filter((plot) => plot.querySelector('.tip')).map((plot) => plot.id),
  // Texts that overflow their boxes.
  cut: () => [...document.querySelectorAll('.card, .chart, .table, .figures > div')]
    .filter((part) => part.checkVisibility() && part.scrollWidth > part.clientWidth + 1)
    .map((part) => part.className + ': ' + part.innerText.slice(0, 40)),
};
'ready'
"""

SEEN = "test.veil() > 50"
VIEWS = [("desktop", 1280, 900), ("phone", 390, 844), ("narrow", 360, 640)]


def open_report(browser, url):
    browser.open(url)
    browser.run(TOOLS)


def look(browser, url):
    grounds = set()
    for name, width, height in VIEWS:
        for scheme in ["light", "dark"]:
            browser.view(width, height, dark=scheme == "dark", phone=name != "desktop")
            open_report(browser, url)
            browser.check_faults(f"at {width} px, {scheme}")
            asked = browser.requests()
            check(asked == [url], f"no request except for the page itself {asked[1:] or ''}".rstrip())
            browser.check_width(f"at {width} px")
            if name != "narrow":
                browser.screenshot(f"report-{name}-{scheme}", whole=True)
            grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
            browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            browser.check_width(f"at {width} px with everything unfolded")
            cut = browser.run("test.cut()")
            check(not cut, f"nothing overflows {cut or ''}".rstrip())
    check(len(grounds) == 2, "dark mode has its own colours")
    browser.view(1280, 900)
    open_report(browser, url)
    count = browser.run("document.images.length")
    check(count > 0 and browser.run("Promise.all([...document.images].map((image) => image.decode()"
                                    ".then(() => image.naturalWidth > 1, () => false)))") == [True] * count,
          f"all {count} pictures load")


def use_the_mouse(browser, url):
    browser.view(1280, 900)
    open_report(browser, url)
    charts = browser.run("test.charts()")
    check("plot-loss" in charts, "there is a chart of the losses")
    for chart in charts:
        browser.mouse(*browser.place(f"document.getElementById('{chart}')", across=0.4))
        tip = browser.run(f"test.tip('{chart}').checkVisibility() && test.tip('{chart}').innerText").split("\n")
        check(len(tip) > 1 and any(map(str.isdigit, tip[-1])), f"a chart shows its values: {', '.join(tip)}")
        if chart == "plot-loss":
            browser.screenshot("report-values")
    browser.mouse(5, 5)
    check(browser.run("[...document.querySelectorAll('.tip')].every((tip) => tip.hidden)"), "values disappear with the mouse")
    check(browser.run("test.veil() === 0"), "pictures are clear at first")
    gap, height = browser.run("[test.gap(), test.card.offsetHeight]")
    check(gap < 12, f"no gap is left below a caption: {gap:.0f} px")
    word = min(2, browser.run("test.words().length") - 1)
    browser.mouse(*browser.place(f"test.words()[{word}]"))
    check(browser.run(SEEN), "pointing at a word shows its attention over the picture")
    check("%" in browser.run("test.reading()"), "and says it: " + browser.run("test.reading()").replace("\n", " "))
    check(browser.run("test.card.offsetHeight") == height, "and nothing moves")
    browser.screenshot("report-word")
    browser.mouse(5, 5)
    check(browser.run("test.veil() === 0"), "it disappears with the mouse")
    browser.click(*browser.place(f"test.words()[{word}]"))
    browser.mouse(5, 5)
    check(browser.run(SEEN), "a click holds it")
    browser.check_faults("with the mouse")


def use_the_keyboard(browser, url):
    open_report(browser, url)
    browser.run("document.getElementById('plot-loss').focus()")
    browser.key("End")
    browser.key("ArrowLeft")
    said = browser.run("document.getElementById('live').textContent")
    check("update" in said, f"keys read a chart aloud: {said}")
    browser.key("Escape")
    check(browser.run("test.tip('plot-loss').hidden"), "Escape ends it")
    check(browser.run("test.words().filter((word) => word.tabIndex === 0).length") == 1, "a caption is one stop of Tab")
    # From before the first caption, Tab moves to its first word.
    browser.run("const start = document.createElement('button'); test.card.prepend(start); start.focus(); start.remove()")
    browser.key("Tab")
    check(browser.run(f"document.activeElement === test.words()[0] && {SEEN}"), "Tab comes to the words")
    browser.key("ArrowRight")
    check(browser.run(f"document.activeElement === test.words()[1] && {SEEN}"), "arrows go from word to word")
    browser.key("Enter")
    check(browser.run("test.words()[1].getAttribute('aria-pressed') === 'true'"), "Enter chooses a word")
    browser.key("Escape")
    check(browser.run("test.veil() === 0"), "Escape ends it")
    if browser.run("document.querySelector('summary') !== null"):
        browser.run("document.querySelector('summary').focus()")
        browser.key("Enter")
        check(browser.run("document.querySelector('details').open"), "Enter unfolds what is folded")
    browser.check_faults("with the keyboard")


def use_a_phone(browser, url):
    browser.view(390, 844, dark=True, phone=True)
    open_report(browser, url)
    for chart in browser.run("test.charts()"):
        for across in (0.02, 0.3, 0.7, 0.98):
            browser.tap(*browser.place(f"document.getElementById('{chart}')", across=across))
            browser.until(f"!test.tip('{chart}').hidden", "values under the finger")
            left, right = browser.run(f"(() => {{ const box = test.tip('{chart}').getBoundingClientRect();"
                                      " return [box.left, box.right]; })()")
            if left < 0 or right > 390:
                raise AssertionError(f"the values of {chart} overflow the screen: {left:.0f} to {right:.0f}")
    check(True, "tapping a chart shows its values on the screen")
    browser.screenshot("report-values-phone")
    word = min(2, browser.run("test.words().length") - 1)
    browser.tap(*browser.place(f"test.words()[{word}]"))
    browser.until(SEEN, "attention of a tapped word")
    check(browser.run("test.card.querySelector('img').getBoundingClientRect().bottom > 0"),
          "tapping a word shows its attention, in sight")
    browser.screenshot("report-word-phone")
    browser.check_faults("on a phone")


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__)
    url = pathlib.Path(arguments[0]).resolve().as_uri()
    with Browser(pathlib.Path(arguments[1])) as browser:
        for part in [look, use_the_mouse, use_the_keyboard, use_a_phone]:
            print(part.__name__.replace("_", " "), flush=True)
            part(browser, url)
    print("the report works")


main(sys.argv[1:])
