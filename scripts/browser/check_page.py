#!/usr/bin/env python3
"""Opens the page of `caption-train serve` in headless Chromium and uses it as a user would.

    check_page.py PROGRAM CHECKPOINT SCREENSHOT_FOLDER

Drops, chooses and pastes pictures, waits for the captions, moves over the words with mouse, touch and keyboard, tries
what must fail, and leaves screenshots. A failed check or an unexpected error on the console ends it with status 1. The
model must write at least two words.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

from browser import PATIENCE, Browser, check

# A landscape, as a file of a given size and type; with an orientation, a JPEG with Exif rotation.
TOOLS = r"""
window.test = {
  async file(width, height, type = 'image/jpeg', orientation = 0) {
    const canvas = Object.assign(document.createElement('canvas'), { width, height });
    const paint = canvas.getContext('2d');
    const sky = paint.createLinearGradient(0, 0, 0, height);
    sky.addColorStop(0, '#4b86c5'); sky.addColorStop(0.55, '#f3d9b0'); sky.addColorStop(0.56, '#7a9b4e');
    sky.addColorStop(1, '#2f5a2c');
    paint.fillStyle = sky; paint.fillRect(0, 0, width, height);
    paint.fillStyle = '#ffe9a8'; paint.beginPath(); paint.arc(width * .75, height * .3, height * .08, 0, 7); paint.fill();
    paint.fillStyle = '#5a3c28'; paint.fillRect(width * .3, height * .55, width * .22, height * .15);
    for (const x of [.31, .36, .46, .5]) paint.fillRect(width * x, height * .68, width * .015, height * .12);
    paint.beginPath(); paint.arc(width * .54, height * .53, height * .08, 0, 7); paint.fill();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, type));
    const bytes = new Uint8Array(await blob.arrayBuffer());
    if (!orientation) return new File([bytes], 'picture', { type });
    const exif = [0xff, 0xe1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0, 0x4d, 0x4d, 0, 0x2a, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3,
      0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
    return new File([bytes.slice(0, 2), new Uint8Array(exif), bytes.slice(2)], 'turned.jpg', { type });
  },
  drop(...files) {
    const dataTransfer = new DataTransfer();
    files.forEach((file) => dataTransfer.items.add(file));
    const target = document.getElementById('drop');
    for (const type of ['dragenter', 'dragover', 'drop']) {
      target.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
    }
  },
  paste(file) {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(file);
    document.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }));
  },
  // How much the overlay varies over the picture; 0 if there is none, or if it does not cover the picture.
  veil() {
    const overlay = document.getElementById('overlay');
    if (overlay.hidden || !overlay.checkVisibility()) return 0;
    const [over, under] = [overlay, document.getElementById('image')].map((part) => part.getBoundingClientRect());
    const isOver = ['left', 'top', 'width', 'height'].every((side) => Math.abs(over[side] - under[side]) < 1);
    const copy = Object.assign(document.createElement('canvas'), { width: overlay.width, height: overlay.height });
    const paint = copy.getContext('2d', { willReadFrequently: true });
    paint.drawImage(overlay, 0, 0);
    const { data } = paint.getImageData(0, 0, copy.width, copy.height);
    let [least, most] = [255, 0];
    for (let at = 3; at < data.length; at += 4) { least = Math.min(least, data[at]); most = Math.max(most, data[at]); }
    return isOver ? most - least : 0;
  },
  words: () => [...document.querySelectorAll('.word')],
  isPressed: (index) => test.words()[index].getAttribute('aria-pressed') === 'true',
  text: (id) => document.getElementById(id).textContent,
  size: () => `${image.naturalWidth} x ${image.naturalHeight}`,
};
'ready'
"""

DONE = "document.getElementById('progress').hidden && test.words().length > 0"
SEEN = "test.veil() > 50"


def open_page(browser, url):
    browser.open(url, "document.getElementById('drop') !== null")
    browser.run(TOOLS)


def drop(browser, width, height, more=""):
    browser.run(f"(async () => test.drop(await test.file({width}, {height}{more})))()")


def some_word(browser, wanted):
    """The number of a word of the caption, which may be shorter than hoped for."""
    return min(wanted, browser.run("test.words().length") - 1)


def use_the_mouse(browser, url):
    browser.view(1100, 800)
    open_page(browser, url)
    browser.screenshot("page-empty")
    check(browser.run("document.getElementById('result').hidden"), "no result before there is a picture")
    # Records every status, since a fast model shows it only for a moment.
    browser.run("test.said = []; new MutationObserver(() => test.said.push(test.text('status')))"
                ".observe(document.getElementById('status'), { childList: true, characterData: true, subtree: true })")
    browser.run("(async () => { const file = await test.file(3000, 2000); test.drop(file, file); })()")
    browser.until(DONE, "a caption")
    check(browser.run("test.said.some((text) => text.startsWith('Writing'))"), "the page says that it is working")
    print(f"     caption: {browser.run('test.text(`caption`)')}")
    check(browser.run("test.size()") == "1024 x 683", "a large picture is made smaller")
    check(browser.run("test.text('caption').trim().length > 0 && image.alt === test.text('caption')"),
          "a dropped picture gets a caption")
    check(browser.run("test.text('facts').includes('Only the first of 2 files')"), "a second file is not ignored in silence")
    check(browser.run("document.querySelectorAll('#alternatives li').length") == 2, "there are two other captions")
    check(browser.run("test.veil() === 0"), "the picture is clear at first")
    word = some_word(browser, 2)
    browser.mouse(*browser.place(f"test.words()[{word}]"))
    browser.until(SEEN, "attention under the mouse")
    check(browser.run(f"test.text('note').includes(test.words()[{word}].textContent)"),
          "pointing at a word shows where the model looked, and says it")
    browser.screenshot("page-desktop-light")
    browser.mouse(5, 5)
    browser.until("test.veil() === 0", "a clear picture when the mouse leaves")
    browser.click(*browser.place(f"test.words()[{word}]"))
    browser.mouse(5, 5)
    check(browser.run(f"test.isPressed({word}) && {SEEN}"), "a click holds a word")
    browser.run("document.getElementById('count').value = '1';"
                " document.getElementById('count').dispatchEvent(new Event('change'))")
    browser.until(f"{DONE} && document.getElementById('others').hidden", "a single caption")
    node = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=node, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str((browser.folder / "page-empty.png").resolve())])
    browser.until(f"{DONE} && test.size() === '1024 x 745'", "a caption for a chosen file")
    browser.check_width("on a desktop")
    browser.check_faults("with the mouse")


def use_the_keyboard(browser, url):
    open_page(browser, url)
    browser.run("(async () => test.paste(await test.file(400, 300, 'image/png')))()")
    browser.until(DONE, "a caption for a pasted picture")
    check(browser.run("test.size()") == "400 x 300", "a pasted picture gets a caption, and a small one keeps its size")
    for stop in ["file", "count"]:
        browser.key("Tab")
        check(browser.run(f"document.activeElement.id === '{stop}'"), f"Tab comes to #{stop}")
    browser.key("Tab")
    check(browser.run(f"document.activeElement === test.words()[0] && {SEEN}"), "Tab comes to the words")
    browser.key("ArrowRight")
    check(browser.run(f"document.activeElement === test.words()[1] && {SEEN}"), "arrows go from word to word")
    browser.key("Enter")
    check(browser.run("test.isPressed(1)"), "Enter chooses a word")
    browser.screenshot("page-keyboard")
    browser.key("Escape")
    check(browser.run("test.veil() === 0 && !test.isPressed(1)"), "Escape ends it")
    browser.check_faults("with the keyboard")


def use_a_phone(browser, url):
    for width, height, dark in [(390, 844, False), (390, 844, True), (360, 640, False)]:
        browser.view(width, height, dark=dark, phone=True)
        open_page(browser, url)
        browser.check_width(f"at {width} px without a picture")
        drop(browser, 900, 1200, ", 'image/webp'")
        browser.until(DONE, "a caption")
        word = some_word(browser, 5)
        browser.tap(*browser.place(f"test.words()[{word}]"))
        browser.until(f"test.isPressed({word}) && {SEEN}", "a tapped word")
        check(browser.run("image.getBoundingClientRect().bottom > 0"),
              "a tapped word shows where the model looked, in sight")
        browser.check_width(f"at {width} px")
        browser.screenshot(f"page-phone-{'dark' if dark else 'light'}" if width == 390 else "page-narrow")
    browser.view(1100, 800, dark=True)
    open_page(browser, url)
    drop(browser, 1600, 1000)
    browser.until(DONE, "a caption")
    browser.mouse(*browser.place(f"test.words()[{some_word(browser, 3)}]"))
    browser.until(SEEN, "attention under the mouse")
    browser.screenshot("page-desktop-dark")
    browser.check_faults("on a phone and in the dark")


def get_odd_answers(browser, url):
    words = ["<b>bold</b>", "&amp;", "“quoted”", "w" * 300, "dog"]
    answer = {"caption": " ".join(words), "words": [{"text": word, "attention": [.1, .2, .3, .2]} for word in words],
              "log_probability": -1, "alternatives": [{"caption": "<img src=x onerror=alert(1)>", "log_probability": -2}],
              "patches": [2, 2], "region": {"left": 0, "top": 0, "width": 1, "height": 1}, "model": "<i>model</i>",
              "milliseconds": 1}
    browser.view(390, 844, phone=True)
    open_page(browser, url)
    browser.answer_with("*/api/caption*", 200, answer)
    drop(browser, 400, 300)
    browser.until(DONE, "an answer with markup")
    check(browser.run("test.text('caption')") == answer["caption"]
          and browser.run("document.querySelector('#answer b, #answer i, #answer img') === null"),
          "captions are text, not markup")
    browser.check_width("with a long word")
    browser.answer_with("*/api/caption*", 400, {"error": "cannot read the picture: the file ends early"})
    drop(browser, 400, 300)
    browser.until("test.text('problem') === 'Cannot read the picture: the file ends early.'", "the server's words")
    check(browser.run("document.getElementById('again').hidden && document.getElementById('answer').hidden"),
          "what would fail again is not offered again, and no old caption stays")
    browser.answer_with("*/api/caption*", 503, {"error": "too many pictures wait"})
    drop(browser, 400, 300)
    browser.until("test.text('problem') === 'Too many pictures wait.'", "a word about a server that is busy")
    browser.answer_with()
    browser.tap(*browser.place("document.getElementById('again')"))
    browser.until(DONE, "a caption after all")
    check(browser.run("test.text('problem') === ''"), "what may work later can be tried again")
    # The browser itself reports failed responses.
    check(all("status of" in fault for fault in browser.faults()), "no other error on the console")


def try_what_must_fail(browser, url):
    browser.view(1100, 800)
    open_page(browser, url)
    drop(browser, 400, 300, ", 'image/jpeg', 6")
    browser.until(DONE, "a caption for a turned picture")
    check(browser.run("test.size()") == "300 x 400", "a turned picture is upright")
    browser.mouse(*browser.place("test.words()[0]"))
    browser.until(SEEN, "attention over a turned picture")
    browser.run("test.drop(new File(['no picture'], 'notes.txt', { type: 'text/plain' }))")
    browser.until("test.text('problem').includes('cannot read this file')", "a message about a file that is not a picture")
    check(browser.run("document.getElementById('again').hidden"), "a file that is not a picture is reported")
    browser.screenshot("page-problem")
    browser.run("test.drop()")
    browser.until("test.text('problem').includes('no picture file')", "a word about a drop without a file")
    browser.check_faults("with files that are not pictures")
    elsewhere = [asked for asked in browser.requests() if not asked.startswith(url)]
    check(not elsewhere, f"the page only asks its server {elsewhere or ''}".rstrip())
    # The rules for what the page may load are in force.
    browser.run("(() => { const script = document.createElement('script'); script.append('window.hit = 1');"
                " document.body.append(script) })()")
    check(browser.run("window.hit === undefined"), "a script in the page does not run")
    check(browser.run("fetch('http://127.0.0.1:9/').then(() => false, () => true)"), "nothing is sent elsewhere")
    check(browser.run("(() => { try { document.body.innerHTML = '<p>'; return false } catch { return true } })()"),
          "text cannot become markup")
    check(browser.run("fetch('/api/caption?x=1', { method: 'POST', body: new Blob(['x'], { type: 'image/png' }) })"
                      ".then((response) => response.status)") == 400, "the page itself may send pictures")
    check(len(browser.faults()) > 0, "and the console reports each")


def lose_the_server(browser, url, server):
    open_page(browser, url)
    drop(browser, 400, 300)
    browser.until(DONE, "a caption")
    server.send_signal(signal.SIGTERM)
    check(server.wait(PATIENCE) == 0, "the server ends with code 0")
    drop(browser, 400, 300)
    browser.until("test.text('problem').includes('server does not answer')", "a word about a server that is gone")
    check(browser.run("!document.getElementById('again').hidden"), "it can be tried again")
    browser.screenshot("page-server-gone")


def start_server(program, checkpoint):
    """The server and its address. What it writes is passed on."""
    arguments = [program, "serve", "--port", "0", "--checkpoint", checkpoint]
    server = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        sys.stderr.write(line)
        if found := re.search(r"open (http://127\.0\.0\.1:\d+) in a browser", line):
            threading.Thread(target=lambda: sys.stderr.writelines(server.stderr), daemon=True).start()
            return server, found[1] + "/"
    sys.exit(f"error: the server did not start, code {server.wait()}")


def main(arguments):
    if len(arguments) != 3:
        sys.exit(__doc__)
    program, checkpoint, folder = arguments
    server, url = start_server(os.path.abspath(program), checkpoint)
    try:
        with Browser(pathlib.Path(folder)) as browser:
            for part in [use_the_mouse, use_the_keyboard, use_a_phone, get_odd_answers, try_what_must_fail]:
                print(part.__name__.replace("_", " "), flush=True)
                part(browser, url)
            print("lose the server", flush=True)
            lose_the_server(browser, url, server)
    finally:
        if server.poll() is None:
            server.kill()
    print("the page works")


main(sys.argv[1:])
