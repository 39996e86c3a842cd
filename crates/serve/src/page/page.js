// Takes a picture, sends it, and shows the caption and where the model looked for each of its words. Text is put on the
// page as text alone.

// The model sees a few hundred pixels a side. With 1024 its own, better scaling still has enough to work on, the picture
// is sharp on a screen, and a photograph of 40 megapixels is sent in a moment.
const LONGEST_SIDE = 1024;

// Gray, and not black: on a dark picture black would show nothing.
const VEIL = [74, 80, 94];
const VEIL_STRENGTH = 0.86;

const find = (id) => document.getElementById(id);
const [file, drop, count, prompt, progress, status, elapsed, problem, again, result, image, overlay, answerBox, caption,
  note, others, alternatives, facts] = ['file', 'drop', 'count', 'prompt', 'progress', 'status', 'elapsed', 'problem',
  'again', 'result', 'image', 'overlay', 'answer', 'caption', 'note', 'others', 'alternatives', 'facts'].map(find);

// What is on the page: the picture that was sent last, the answer to it, and the word that was chosen by a click.
let picture = null;
let answer = null;
let chosen = null;
// The work that is under way; a newer picture ends it.
let work = null;

// From a file to what is shown and sent: one and the same picture, upright, without transparency, in a size and format
// that the server reads. PNG, for a second JPEG would lose again.
async function prepare(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    throw new Error('The browser cannot read this file as a picture. Take a JPEG, PNG or WebP file.');
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext('2d');
  context.fillStyle = 'white';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const prepared = await new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  if (!prepared) {
    throw new Error('The browser could not make this picture smaller. Take a smaller one.');
  }
  return prepared;
}

async function send(blob, signal) {
  let response;
  const asked = prompt.value.trim() ? `&prompt=${encodeURIComponent(prompt.value.trim())}` : '';
  try {
    response = await fetch(`/api/caption?num_captions=${count.value}&attention=true${asked}`, {
      method: 'POST',
      headers: { 'Content-Type': blob.type },
      body: blob,
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw repeatable('The server does not answer. Does it still run?');
  }
  const content = await response.json().catch(() => ({}));
  if (!response.ok) {
    const message = content.error ?? `the server answered with status ${response.status}`;
    const sentence = `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
    throw response.status >= 500 ? repeatable(sentence) : new Error(sentence);
  }
  return content;
}

// A failure that may be over when the same picture is sent again.
function repeatable(message) {
  return Object.assign(new Error(message), { isRepeatable: true });
}

async function take(blob, numFiles = 1) {
  await attempt(async (signal) => {
    say('Reading the picture …');
    const prepared = await prepare(blob);
    signal.throwIfAborted();
    if (picture) URL.revokeObjectURL(image.src);
    picture = { blob: prepared, numFiles };
    image.src = URL.createObjectURL(prepared);
    await describe(signal);
  });
}

async function describe(signal) {
  clearAnswer();
  result.hidden = false;
  say('Writing the caption …');
  const content = await send(picture.blob, signal);
  signal.throwIfAborted();
  await image.decode();
  showAnswer(content);
  say(`Caption: ${content.caption}`);
}

// Does one piece of work at a time, tells how long it goes on, and what went wrong.
async function attempt(job) {
  work?.abort();
  const own = new AbortController();
  work = own;
  problem.textContent = '';
  again.hidden = true;
  progress.hidden = false;
  const start = performance.now();
  const clock = setInterval(() => {
    if (work === own) elapsed.textContent = `${Math.floor((performance.now() - start) / 1000)} s`;
  }, 1000);
  try {
    await job(own.signal);
  } catch (error) {
    if (work === own) {
      say('');
      problem.textContent = error.message;
      again.hidden = !error.isRepeatable;
    }
  } finally {
    clearInterval(clock);
    if (work === own) {
      work = null;
      progress.hidden = true;
      elapsed.textContent = '';
    }
  }
}

function say(text) {
  status.textContent = text;
  // The caption stands below in full; here it is for those who hear the page.
  status.classList.toggle('spoken', text.startsWith('Caption: '));
}

function clearAnswer() {
  answer = null;
  chosen = null;
  answerBox.hidden = true;
  overlay.hidden = true;
  caption.replaceChildren();
  alternatives.replaceChildren();
  image.alt = 'The picture that is being described';
}

function showAnswer(content) {
  answer = content;
  image.alt = content.caption;
  // What stands between the words, a space as a rule, is kept as it is.
  let end = 0;
  content.words.forEach((word, index) => {
    const start = content.caption.indexOf(word.text, end);
    if (start >= 0) {
      caption.append(content.caption.slice(end, start));
      end = start + word.text.length;
    } else if (index > 0) {
      caption.append(' ');
    }
    caption.append(wordButton(word, index));
  });
  if (content.words.length === 0) caption.textContent = content.caption || '(The caption is empty.)';
  for (const other of content.alternatives) {
    const item = document.createElement('li');
    item.textContent = other.caption;
    item.title = `log-probability ${other.log_probability.toFixed(2)}`;
    alternatives.append(item);
  }
  others.hidden = content.alternatives.length === 0;
  const first = picture.numFiles > 1 ? `Only the first of ${picture.numFiles} files was taken. ` : '';
  const [rows, columns] = content.patches;
  facts.textContent = `${first}${content.model}, ${content.milliseconds} ms, log-probability `
    + `${content.log_probability.toFixed(2)}, ${rows} × ${columns} patches.`;
  answerBox.hidden = false;
  showWord(null);
}

function wordButton(word, index) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'word';
  button.textContent = word.text;
  button.setAttribute('aria-pressed', 'false');
  button.setAttribute('aria-describedby', 'note');
  button.addEventListener('pointerenter', () => showWord(index));
  button.addEventListener('pointerleave', () => showWord(chosen));
  button.addEventListener('focus', () => showWord(index));
  button.addEventListener('blur', () => showWord(chosen));
  button.addEventListener('click', () => choose(chosen === index ? null : index));
  return button;
}

const buttons = () => [...caption.querySelectorAll('.word')];

function choose(index) {
  chosen = index;
  buttons().forEach((button, at) => button.setAttribute('aria-pressed', String(at === index)));
  showWord(index);
}

// Veils what the model looked at little while it wrote this word; `null` shows the picture as it is.
function showWord(index) {
  buttons().forEach((button, at) => button.classList.toggle('shown', at === index));
  const word = index === null ? null : answer?.words[index];
  overlay.hidden = !word?.attention;
  if (!word) {
    note.textContent = answer?.words.some(({ attention }) => attention)
      ? 'Point at a word, tap it, or go to it with the Tab key to see where the model looked for it.'
      : '';
    return;
  }
  if (!word.attention) {
    note.textContent = 'There is no attention for this word.';
    return;
  }
  drawVeil(word.attention, answer.patches, answer.region);
  const rest = Math.round(100 * (1 - word.attention.reduce((sum, weight) => sum + weight, 0)));
  const overall = rest > 0 ? ` ${rest}% of its attention went to the picture as a whole.` : '';
  const where = place(word.attention, answer.patches, answer.region);
  note.textContent = `For “${word.text}” the model looked most at ${where}.${overall}`;
}

function drawVeil(attention, [rows, columns], region) {
  const most = Math.max(...attention, Number.MIN_VALUE);
  const mask = new ImageData(columns, rows);
  attention.forEach((weight, patch) => {
    const strength = VEIL_STRENGTH * (1 - Math.max(0, weight) / most);
    mask.data.set([...VEIL, Math.round(255 * strength)], 4 * patch);
  });
  const small = document.createElement('canvas');
  small.width = columns;
  small.height = rows;
  small.getContext('2d').putImageData(mask, 0, 0);
  overlay.width = image.naturalWidth;
  overlay.height = image.naturalHeight;
  const context = overlay.getContext('2d');
  // What the patches do not cover the model has not seen.
  context.fillStyle = `rgb(${VEIL.join(' ')} / ${VEIL_STRENGTH})`;
  context.fillRect(0, 0, overlay.width, overlay.height);
  const box = [region.left * overlay.width, region.top * overlay.height, region.width * overlay.width,
    region.height * overlay.height];
  context.clearRect(...box);
  context.imageSmoothingQuality = 'high';
  context.drawImage(small, ...box);
}

// Where in the picture the weight is greatest, in words, for those who cannot see the veil.
function place(attention, [rows, columns], region) {
  const patch = attention.indexOf(Math.max(...attention));
  const third = (share, names) => names[Math.max(0, Math.min(2, Math.floor(3 * share)))];
  const down = region.top + (region.height * (Math.floor(patch / columns) + 0.5)) / rows;
  const across = region.left + (region.width * ((patch % columns) + 0.5)) / columns;
  const vertical = third(down, ['upper', '', 'lower']);
  const horizontal = third(across, ['left', '', 'right']);
  if (vertical && horizontal) return `the ${vertical} ${horizontal} part`;
  return vertical || horizontal ? `the ${vertical || horizontal} part` : 'the middle';
}

// The first file of a drop, a paste or a choice.
function takeFiles(files) {
  if (files.length > 0) {
    take(files[0], files.length);
    return;
  }
  work?.abort();
  work = null;
  progress.hidden = true;
  elapsed.textContent = '';
  say('');
  problem.textContent = 'There was no picture file in that. Save the picture first, and choose the file.';
}

file.addEventListener('change', () => {
  if (file.files.length > 0) takeFiles([...file.files]);
  // So that the same file can be chosen again.
  file.value = '';
});

// The whole page takes a drop: beside the field the browser would leave the page to show the file.
for (const type of ['dragenter', 'dragover']) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
}
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) drop.classList.remove('over');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  takeFiles([...(event.dataTransfer?.files ?? [])]);
});
document.addEventListener('paste', (event) => takeFiles([...(event.clipboardData?.files ?? [])]));

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && answer) choose(null);
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const all = buttons();
  const at = all.indexOf(document.activeElement);
  if (step && at >= 0) {
    event.preventDefault();
    all[at + step]?.focus();
  }
});

const repeat = () => attempt(describe);
again.addEventListener('click', repeat);
for (const setting of [count, prompt]) {
  setting.addEventListener('change', () => {
    if (picture) repeat();
  });
}
