// Values at the pointer in charts, and the attention of words over their pictures. All texts are set as texts.
"use strict";
(() => {
  const holder = document.getElementById("report-data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const live = document.getElementById("live");

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // Numbers of four significant digits, as the rest of the page has them.
  const written = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size >= 1e6 || size < 1e-4 ? value.toExponential(2).replace("e+", "e") : Number(value.toPrecision(4)).toString();
    return text.replace(/^-/, "\u2212");
  };
  const counted = (value) => Math.round(value).toLocaleString("en-US");

  // Index of the value that is nearest to `x` in a sorted list.
  const nearest = (list, x) => {
    let low = 0;
    let high = list.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] < x) low = middle + 1;
      else high = middle;
    }
    return low > 0 && x - list[low - 1] <= list[low] - x ? low - 1 : low;
  };

  const wireChart = (chart) => {
    const plot = document.getElementById("plot-" + chart.id);
    if (!plot || chart.series.length === 0) return;
    const [start, end] = chart.x;
    const cursor = element("div", "cursor");
    const tip = element("div", "tip");
    cursor.hidden = tip.hidden = true;
    plot.append(cursor, tip);
    // The places to stop at: those of the series with the most points.
    const stops = chart.series.reduce((most, next) => (next.x.length > most.x.length ? next : most)).x;
    let current = -1;

    const hide = () => {
      cursor.hidden = tip.hidden = true;
      current = -1;
    };

    const show = (index, aloud) => {
      if (index === current && !aloud) return;
      current = index;
      const x = stops[index];
      const place = (x - start) / (end - start);
      const title = chart.x_name === "word" ? counted(x) + (x === 1 ? " word" : " words") : chart.x_name + " " + counted(x);
      const parts = [title];
      tip.replaceChildren(element("strong", "", title));
      for (const series of chart.series) {
        const at = nearest(series.x, x);
        const far = series.x[at] !== x;
        const value = written(series.y[at]);
        const name = far ? series.name + " (" + counted(series.x[at]) + ")" : series.name;
        const line = element("span");
        line.append(element("span", "", name), element("b", "", value));
        tip.append(line);
        parts.push(name + " " + value);
      }
      for (const note of chart.notes) {
        if (Math.abs(note.x - x) > (end - start) / 60) continue;
        tip.append(element("em", "", "× " + note.text));
        parts.push(note.text);
      }
      cursor.style.left = 100 * place + "%";
      cursor.hidden = tip.hidden = false;
      // Beside the cursor where there is room, and never beyond the plot.
      const gap = 8;
      const room = plot.clientWidth - tip.offsetWidth;
      const right = place * plot.clientWidth + gap;
      const left = right - 2 * gap - tip.offsetWidth;
      tip.style.left = (right <= room ? right : left >= 0 ? left : Math.max(0, room)) + "px";
      if (aloud && live) live.textContent = parts.join(", ");
    };

    const follow = (event) => {
      const box = plot.getBoundingClientRect();
      if (box.width === 0) return;
      show(nearest(stops, start + ((event.clientX - box.left) / box.width) * (end - start)), false);
    };
    plot.addEventListener("pointermove", follow);
    plot.addEventListener("pointerdown", follow);
    plot.addEventListener("pointerleave", (event) => {
      // A finger that is lifted leaves the value to be read.
      if (event.pointerType === "mouse") hide();
    });
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const last = stops.length - 1;
      const stride = event.shiftKey ? Math.max(1, Math.round(last / 20)) : 1;
      const from = current < 0 ? last : current;
      const targets = { ArrowLeft: from - stride, ArrowRight: current < 0 ? last : from + stride, Home: 0, End: last };
      if (event.key === "Escape") return hide();
      if (!(event.key in targets) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      show(Math.min(last, Math.max(0, targets[event.key])), true);
    });
    document.addEventListener("pointerdown", (event) => {
      if (!plot.contains(event.target)) hide();
    });
  };

  // Draws a veil over the picture that is thin where the word looks.
  const VEIL = 205;
  const SIDE = 336;
  const drawVeil = (canvas, grid, levels) => {
    const bytes = atob(levels);
    const small = element("canvas");
    small.width = small.height = grid;
    const pen = small.getContext("2d");
    const veil = pen.createImageData(grid, grid);
    for (let patch = 0; patch < grid * grid; patch += 1) {
      veil.data[4 * patch + 3] = VEIL * (1 - bytes.charCodeAt(patch) / 255);
    }
    pen.putImageData(veil, 0, 0);
    canvas.width = canvas.height = SIDE;
    const brush = canvas.getContext("2d");
    brush.imageSmoothingEnabled = true;
    brush.imageSmoothingQuality = "high";
    brush.drawImage(small, 0, 0, SIDE, SIDE);
  };

  const wireCard = (card) => {
    const item = data.gallery[Number(card.dataset.card)];
    const canvas = card.querySelector("canvas");
    const reading = card.querySelector(".reading");
    const caption = card.querySelector(".caption");
    const words = [...card.querySelectorAll("button.word")];
    if (!item || !canvas || !reading || words.length === 0) return;
    let pinned = null;
    let focused = null;

    const show = (word) => {
      for (const other of words) {
        other.classList.toggle("chosen", other === word);
        other.setAttribute("aria-pressed", String(other === pinned));
      }
      const of = word && item.words[Number(word.dataset.word)];
      canvas.hidden = !of;
      reading.replaceChildren();
      if (of) reading.append(element("span", "", of.reading), element("span", "hidden-text", of.place));
      if (of) drawVeil(canvas, item.grid, of.levels);
    };
    const rest = () => show(focused || pinned);

    words.forEach((word, index) => {
      word.tabIndex = index === 0 ? 0 : -1;
      word.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse") show(word);
      });
      word.addEventListener("focus", () => {
        for (const other of words) other.tabIndex = other === word ? 0 : -1;
        // What a mouse focuses by a click is not held when the pointer goes on.
        focused = word.matches(":focus-visible") ? word : null;
        show(word);
      });
      word.addEventListener("blur", () => {
        focused = null;
        rest();
      });
      word.addEventListener("click", () => {
        pinned = pinned === word ? null : word;
        show(pinned || focused);
      });
      word.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.altKey || event.metaKey) return;
        if (event.key === "Escape") {
          pinned = focused = null;
          return show(null);
        }
        const backwards = getComputedStyle(caption).direction === "rtl";
        const step = { ArrowLeft: backwards ? 1 : -1, ArrowRight: backwards ? -1 : 1 }[event.key];
        const target = { Home: words[0], End: words[words.length - 1] }[event.key] || (step && words[index + step]);
        if (!target) return;
        event.preventDefault();
        target.focus();
      });
    });
    caption.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") rest();
    });
    show(null);
  };

  for (const chart of data.charts) wireChart(chart);
  for (const card of document.querySelectorAll(".card")) wireCard(card);
  window.addEventListener("beforeprint", () => {
    for (const closed of document.querySelectorAll("details")) closed.open = true;
  });
})();
