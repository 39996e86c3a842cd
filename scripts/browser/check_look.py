#!/usr/bin/env python3
"""Opens the page of a data set in headless Chromium and uses it as a user would.

    check_look.py PROGRAM SCREENSHOT_FOLDER [NUM_IMAGES]

Makes a data set of 8,000 small images with five captions each, some of them hostile, and lets PROGRAM write its page.
The page opens in less than two seconds, loads the pictures that are in sight and no others, has no error on the console
and is never wider than the window. Images are found by their captions and names, lists unfold and lead to their images.
Leaves screenshots. A failed check ends it with status 1.
"""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import zlib

from browser import Browser, check

VIEWS = [("desktop", 1280, 900), ("phone", 390, 844), ("narrow", 360, 640)]
SECONDS_TO_OPEN = 2
NEEDLE = "zebra-shaped kite"
HOSTILE = "</script><img src=x onerror=window.hit=1> \u202eeht dna a dog"
WORDS = "a man dog two people red ball running on the grass while children watch near water with blue sky".split()


def png(number, width=40, height=30):
    """A picture of its own for each number: a gray grid of random-looking cells."""
    state, rows = number * 2654435761 + 1, []
    for _ in range(height // 5):
        cells = b""
        for _ in range(width // 5):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            cells += bytes([state >> 56]) * 15
        rows += [b"\0" + cells] * 5
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows)))
            + chunk(b"IEND", b""))


def make(folder, count):
    """A data set: the last image shows what the first does, in another split, and one has a name full of signs."""
    (folder / "images").mkdir(parents=True)
    images = []
    for number in range(count):
        name = "100% #1 <b>?&'\u00fc.png" if number == 3 else f"{number:05}.png"
        shown = 0 if number == count - 1 else number
        (folder / "images" / name).write_bytes(png(shown, 40 if shown % 3 else 25))
        captions = [" ".join(WORDS[(number * 7 + place * 3 + word * (place + 2)) % len(WORDS)] for word in range(9 + place))
                    for place in range(5)]
        if number == 3:
            captions[0] = HOSTILE
        if number == count // 2:
            captions[4] = f"a {NEEDLE} over the sea"
        if number % 50 == 0:
            captions[1] = "dog"
        split = "test" if number >= count - 1000 else "val" if number >= count - 2000 else "train"
        images.append({"filename": name, "split": split, "sentences": [{"raw": caption} for caption in captions]})
    (folder / "dataset.json").write_text(json.dumps({"dataset": "small pictures", "images": images}))


def open_page(browser, url):
    """Seconds until the first images are seen."""
    start = time.monotonic()
    browser.open(url, "document.querySelectorAll('#cards .card').length > 0 &&"
                      " document.querySelector('#cards img').naturalWidth > 0")
    return time.monotonic() - start


def look(browser, url, count):
    grounds, times = set(), []
    for name, width, height in VIEWS:
        for scheme in ["light", "dark"]:
            browser.view(width, height, dark=scheme == "dark", phone=name != "desktop")
            times.append(open_page(browser, url))
            browser.check_faults(f"at {width} px, {scheme}")
            browser.check_width(f"at {width} px")
            asked = browser.requests()
            others = [address for address in asked if address != url and "/images/" not in address]
            check(not others, f"nothing is requested but the page and images {others or ''}".rstrip())
            check(len(asked) < 120, f"only pictures near the window are loaded: {len(asked) - 1}")
            if name != "narrow":
                browser.screenshot(f"look-{name}-{scheme}")
            grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
            browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            browser.until("[...document.querySelectorAll('details.list')].every((part) => part.dataset.built)", "lists")
            browser.check_width(f"at {width} px with everything unfolded")
            if name != "narrow" and scheme == "light":
                browser.screenshot(f"look-{name}-whole", whole=True)
    check(len(grounds) == 2, "dark mode has its own colours")
    slowest = max(times)
    check(slowest < SECONDS_TO_OPEN, f"{count} images open in {min(times):.2f} to {slowest:.2f} s")


def find(browser, url, count):
    browser.view(1280, 900)
    open_page(browser, url)
    names = "[...document.querySelectorAll('#cards .card')].map((card) => card.id)"
    found = "document.getElementById('found').textContent"
    def seek(text):
        browser.run(f"(() => {{ const field = document.getElementById('query'); field.value = {json.dumps(text)};"
                    " field.dispatchEvent(new Event('input')); })()")
    start = time.monotonic()
    seek(NEEDLE.upper())
    taken = time.monotonic() - start
    check(browser.run(names) == [f"image-{count // 2}"], f"a caption is found among {5 * count:,} in {taken:.2f} s")
    check(browser.run(found) == f"1 of {count:,} images", "and the number of images is said")
    seek("00012.png")
    check(browser.run(names) == ["image-12"], "a file name is found")
    seek("nothing has this")
    check(browser.run(f"{names}.length === 0 && {found}.startsWith('0 of')"), "what is not there is not found")
    seek("")
    browser.run("(() => { const field = document.getElementById('split'); field.value = '2';"
                " field.dispatchEvent(new Event('change')); })()")
    check(browser.run(f"{found}.startsWith('1,000 of')"), "images of a split alone are shown")
    browser.click(*browser.place("document.querySelector('.pager [data-step=\"1\"]')"))
    check(browser.run(f"{names}[0]") == f"image-{count - 1000 + 48}", "the next page goes on")
    browser.run("(() => { const field = document.getElementById('page'); field.value = 9999;"
                " field.dispatchEvent(new Event('change')); })()")
    check(browser.run(f"{names}.at(-1)") == f"image-{count - 1}", "a page beyond the last is the last")
    browser.check_faults("while images are sought")


def unfold(browser, url, count):
    browser.view(1280, 900)
    open_page(browser, url)
    pair = "document.querySelector('.pair')"
    check(browser.run(f"[...{pair}.querySelectorAll('.sides > div > a')].map((link) => link.getAttribute('href'))")
          == ["#image-0", f"#image-{count - 1}"], "a picture in two splits is shown side by side")
    browser.run(f"{pair}.scrollIntoView()")
    browser.until(f"[...{pair}.querySelectorAll('img')].every((image) => image.naturalWidth > 0)", "its pictures")
    browser.screenshot("look-pairs")
    browser.run("[...document.querySelectorAll('details.list')].find((part) => part.textContent.includes('Very short'))"
                ".open = true")
    row = "document.querySelector('details[open] .odd-list li')"
    browser.until(f"{row} !== null", "short captions")
    browser.click(*browser.place(f"document.querySelectorAll('details[open] .odd-list li')[2].querySelector('a[href] img')"))
    browser.until("location.hash === '#image-100' && document.querySelector('.sought') !== null", "the image of a caption")
    check(browser.run("document.querySelector('.sought').id") == "image-100", "a listed caption leads to its image")
    check(browser.run("(() => { const box = document.querySelector('.sought').getBoundingClientRect();"
                      " return box.top < innerHeight && box.bottom > 0; })()"), "which is in sight")
    browser.run("history.back()")
    browser.open(f"{url}#image-3", "document.querySelector('.sought') !== null")
    text = browser.run("document.querySelector('.sought').innerText")
    check("</script><img src=x" in text and "\u27e8U+202E\u27e9" in text, "a hostile caption is shown as it is written")
    browser.until("document.querySelector('.sought img').naturalWidth > 0", "a picture with an odd name")
    check(browser.run("window.hit === undefined"), "and nothing of it runs")
    browser.check_faults("with lists unfolded")
    # The keyboard alone.
    browser.run("document.getElementById('query').focus()")
    browser.key("Tab")
    browser.key("Tab")
    check(browser.run("document.activeElement.id") == "page", "keys reach the fields")


def main(arguments):
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    count = int(arguments[2]) if len(arguments) == 3 else 8000
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work).resolve() / "small pictures"
        make(folder, count)
        start = time.monotonic()
        subprocess.run([os.path.abspath(arguments[0]), "--quiet", "look", folder], check=True)
        page = folder / "look.html"
        print(f"the page of {count} images: {page.stat().st_size / 1e6:.1f} MB in {time.monotonic() - start:.1f} s")
        with Browser(pathlib.Path(arguments[1])) as browser:
            for part in [look, find, unfold]:
                print(part.__name__, flush=True)
                part(browser, page.as_uri(), count)
    print("the page of a data set works")


main(sys.argv[1:])
