
// The images of a data set, page by page, and the lists that link to them. All texts are set as texts.
"use strict";
(() => {
  const holder = document.getElementById("report-data");
  const cards = document.getElementById("cards");
  if (!holder || !cards) return;
  // As in mod.rs, which says how many are listed.
  const MAX_UNREADABLE = 1000;
  const { folder, splits, images, odd, repeated, pairs } = JSON.parse(holder.textContent);
  const PER_PAGE = 48;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const counted = (count, noun) => count.toLocaleString("en-US") + " " + noun + (count === 1 ? "" : "s");

  const address = (image) => folder + (image.file || image.name).split("/").map(encodeURIComponent).join("/");

  // The picture of an image, which is loaded when it comes into sight.
  const picture = (image) => {
    const made = element("img");
    made.loading = "lazy";
    made.decoding = "async";
    made.alt = image.name;
    if (image.size) [made.width, made.height] = image.size;
    made.addEventListener("error", () => made.replaceWith(element("p", "missing", "The picture cannot be shown.")));
    made.src = address(image);
    return made;
  };

  const link = (number, inside) => {
    const made = element("a");
    made.href = "#image-" + number;
    made.append(inside);
    return made;
  };

  const captionText = (image, index) => {
    const line = document.createDocumentFragment();
    const prompt = image.prompts && image.prompts[index];
    const weight = image.weights && image.weights[index];
    if (prompt) line.append(element("span", "prompt", prompt + " "));
    line.append(image.captions[index]);
    if (typeof weight === "number") line.append(" ", element("span", "badge", "weight " + weight));
    return line;
  };

  const about = (image) => {
    const line = element("p", "name");
    line.append(element("span", "badge", splits[image.split]), image.name);
    if (image.size) line.append(" ", element("span", "unit", image.size.join(" × ")));
    return line;
  };

  const card = (number) => {
    const image = images[number];
    const made = element("article", "card");
    made.id = "image-" + number;
    const frame = element("div", "picture");
    if (image.problem) {
      frame.append(element("p", "missing", image.problem));
    } else {
      const whole = element("a");
      whole.href = address(image);
      whole.target = "_blank";
      whole.rel = "noopener";
      whole.append(picture(image));
      frame.append(whole);
    }
    const list = element("ul", "captions");
    image.captions.forEach((_, index) => {
      const line = element("li");
      line.dir = "auto";
      line.append(captionText(image, index));
      list.append(line);
    });
    made.append(frame, list, about(image));
    return made;
  };

  // Pages.

  const query = document.getElementById("query");
  const split = document.getElementById("split");
  const pageField = document.getElementById("page");
  const steps = [...document.querySelectorAll("[data-step]")];
  let matching = images.map((_, number) => number);
  let page = 0;
  let texts = null;

  const numPages = () => Math.max(1, Math.ceil(matching.length / PER_PAGE));

  const show = (next) => {
    page = Math.min(numPages() - 1, Math.max(0, next));
    cards.replaceChildren(...matching.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(card));
    pageField.value = page + 1;
    pageField.max = numPages();
    document.getElementById("pages").textContent = numPages().toLocaleString("en-US");
    for (const step of steps) step.disabled = Number(step.dataset.step) < 0 ? page === 0 : page === numPages() - 1;
  };

  const find = () => {
    const words = query.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    if (words.length > 0 && !texts) {
      texts = images.map((image) => [image.name, ...image.captions].join("\n").toLowerCase());
    }
    const wanted = split.value === "" ? -1 : Number(split.value);
    matching = [];
    images.forEach((image, number) => {
      if (wanted >= 0 && image.split !== wanted) return;
      if (words.every((word) => texts[number].includes(word))) matching.push(number);
    });
    const isAll = words.length === 0 && wanted < 0;
    document.getElementById("found").textContent = isAll
      ? counted(images.length, "image")
      : matching.length.toLocaleString("en-US") + " of " + counted(images.length, "image");
    show(0);
  };

  // Shows an image by its number, whatever is sought.
  const go = (number) => {
    if (!images[number]) return;
    if (!matching.includes(number)) {
      query.value = split.value = "";
      find();
    }
    show(Math.floor(matching.indexOf(number) / PER_PAGE));
    const made = document.getElementById("image-" + number);
    made.classList.add("sought");
    made.scrollIntoView({ block: "center" });
  };
  const goToHash = () => {
    const found = /^#image-(\d+)$/.exec(location.hash);
    if (found) go(Number(found[1]));
  };

  splits.forEach((name, number) => {
    const option = element("option", "", name);
    option.value = number;
    split.append(option);
  });
  query.addEventListener("input", find);
  split.addEventListener("change", find);
  query.form.addEventListener("submit", (event) => event.preventDefault());
  pageField.addEventListener("change", () => show(Number(pageField.value) - 1 || 0));
  for (const step of steps) {
    step.addEventListener("click", () => {
      show(page + Number(step.dataset.step));
      if (step.closest(".end")) document.getElementById("images").scrollIntoView();
    });
  }
  window.addEventListener("hashchange", goToHash);
  document.addEventListener("click", (event) => {
    const made = event.target.closest('a[href^="#image-"]');
    // The address stays as it is when the same link is followed again.
    if (made && made.hash === location.hash) goToHash();
  });

  // Lists, built when they are unfolded.

  const oddRow = ([number, index, reason]) => {
    const image = images[number];
    const line = element("li");
    const text = element("div");
    const caption = element("p");
    caption.dir = "auto";
    caption.append(captionText(image, index));
    const place = element("p", "note");
    place.append(reason + " · ", link(number, image.name), " · " + splits[image.split]);
    text.append(caption, place);
    line.append(link(number, picture(image)), text);
    return line;
  };

  const repeatedRow = ([count, places]) => {
    const line = element("li");
    const text = element("div");
    const [number, index] = places[0];
    const caption = element("p", "", images[number].captions[index]);
    caption.dir = "auto";
    const strip = element("div", "strip");
    for (const [other] of places) strip.append(link(other, picture(images[other])));
    text.append(caption, strip);
    line.append(element("span", "when", counted(count, "image")), text);
    return line;
  };

  const pairCard = ([one, other, note]) => {
    const made = element("article", "pair");
    const sides = element("div", "sides");
    for (const number of [one, other]) {
      const side = element("div");
      const caption = element("p");
      caption.dir = "auto";
      caption.append(captionText(images[number], 0));
      side.append(link(number, picture(images[number])), about(images[number]), caption);
      sides.append(side);
    }
    made.append(sides, element("p", "note", note));
    return made;
  };

  const unreadableRow = (number) => {
    const line = element("li");
    const text = element("div");
    text.append(link(number, images[number].name), element("p", "note", images[number].problem));
    line.append(element("span", "badge", splits[images[number].split]), text);
    return line;
  };

  const listOf = (className, rows) => {
    const made = element(className === "pairs-list" ? "div" : "ul", className);
    made.append(...rows);
    return made;
  };

  const content = {
    odd: (index) => listOf("odd-list", odd[index].map(oddRow)),
    repeated: () => listOf("odd-list", repeated.map(repeatedRow)),
    pairs: (index) => listOf("pairs-list", pairs[index].map(pairCard)),
    unreadable: () => {
      const numbers = images.map((_, number) => number).filter((number) => images[number].problem);
      return listOf("odd-list", numbers.slice(0, MAX_UNREADABLE).map(unreadableRow));
    },
  };
  const build = (list) => {
    if (!list.open || list.dataset.built) return;
    list.dataset.built = "yes";
    list.append(content[list.dataset.kind](Number(list.dataset.index)));
  };
  for (const list of document.querySelectorAll("details.list")) {
    list.addEventListener("toggle", () => build(list));
    build(list);
  }

  find();
  goToHash();
})();
