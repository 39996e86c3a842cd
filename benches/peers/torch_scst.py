"""Peer baseline: one step of self-critical training in PyTorch, timed: samples with a key-value cache, CIDEr-D in Python
in the same process, and one teacher-forced pass for the gradient.

A pre-norm decoder with cross-attention to features of a ViT that are in memory. For sampling, keys and values of an image
are computed once for all of its captions; for the teacher-forced pass the features are repeated for each caption, as
self-critical.pytorch does it, or with --grouped shared there too. The references' n-gram vectors are computed once. Words
are token ids, so that nothing is tokenized. Captions end after as many tokens as those of Flickr8k do, at random. Prints
one JSON line: median seconds per step, and the share of them that rewards take.
"""
import argparse, json, math, random, resource, statistics, time
from collections import Counter, defaultdict
from pathlib import Path
import torch, torch.nn as nn
import torch.nn.functional as F

p = argparse.ArgumentParser()
p.add_argument("--batch", type=int, default=10, help="images")
p.add_argument("--samples", type=int, default=5)
p.add_argument("--seq", type=int, default=32)
p.add_argument("--real-lengths", action="store_true", help="the only lengths there are here")
p.add_argument("--vocab", type=int, default=10000)
p.add_argument("--dim", type=int, default=512)
p.add_argument("--heads", type=int, default=8)
p.add_argument("--layers", type=int, default=6)
p.add_argument("--ff", type=int, default=2048)
p.add_argument("--encoder", choices=["cached"], default="cached")
p.add_argument("--vit", choices=["base", "small", "tiny"], default="base")
p.add_argument("--images", type=int, default=6000, help="training images, whose references weigh")
p.add_argument("--grouped", action="store_true")
p.add_argument("--dropout", type=float, default=0.1)
p.add_argument("--steps", type=int, default=5)
p.add_argument("--warmup", type=int, default=2)
a = p.parse_args()
torch.manual_seed(0)
random.seed(0)
START, END, FIRST_WORD = 1, 2, 4
WIDTH = {"base": 768, "small": 384, "tiny": 192}[a.vit]


class Attention(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.q, self.kv = nn.Linear(a.dim, a.dim), nn.Linear(inputs, 2 * a.dim)
        self.out, self.drop = nn.Linear(a.dim, a.dim), nn.Dropout(a.dropout)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], a.heads, -1).transpose(1, 2)

    def keys_values(self, x):
        return [self.split(part) for part in self.kv(x).chunk(2, -1)]

    def forward(self, x, keys, values, causal=False):
        q = self.split(self.q(x))
        p = a.dropout if self.training else 0.0
        h = F.scaled_dot_product_attention(q, keys, values, dropout_p=p, is_causal=causal)
        return self.drop(self.out(h.transpose(1, 2).reshape(x.shape)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(a.dim) for _ in range(3))
        self.own, self.cross = Attention(a.dim), Attention(a.dim)
        self.mlp = nn.Sequential(nn.Linear(a.dim, a.ff), nn.GELU(approximate="tanh"), nn.Linear(a.ff, a.dim), nn.Dropout(a.dropout))

    def forward(self, x, memory, groups=1):
        h = self.norms[0](x)
        x = x + self.own(h, *self.own.keys_values(h), causal=True)
        h = self.norms[1](x)
        # The captions of an image are one row of queries to it.
        grouped = h.view(h.shape[0] // groups, groups * h.shape[1], a.dim)
        x = x + self.cross(grouped, *self.cross.keys_values(memory)).view(h.shape)
        return x + self.mlp(self.norms[2](x))

    def step(self, x, past, images, groups):
        h = self.norms[0](x)
        new = self.own.keys_values(h)
        past = new if past is None else [torch.cat(pair, 2) for pair in zip(past, new)]
        x = x + self.own(h, *past)
        h = self.norms[1](x).view(-1, groups, a.dim)
        x = x + self.cross(h, *images).view(x.shape)
        return x + self.mlp(self.norms[2](x)), past


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(WIDTH, a.dim)
        self.tok, self.pos = nn.Embedding(a.vocab, a.dim), nn.Embedding(a.seq, a.dim)
        self.drop = nn.Dropout(a.dropout)
        self.blocks = nn.ModuleList(Block() for _ in range(a.layers))
        self.norm, self.head = nn.LayerNorm(a.dim), nn.Linear(a.dim, a.vocab, bias=False)
        for table in [self.tok, self.pos, self.head]:
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, features, ids):
        memory, groups = self.proj(features), 1
        if a.grouped:
            groups = a.samples
        else:
            memory = memory.repeat_interleave(a.samples, 0)
        x = self.drop(self.tok(ids) + self.pos.weight[: ids.shape[1]])
        for block in self.blocks:
            x = block(x, memory, groups)
        return self.head(self.norm(x))

    @torch.no_grad()
    def sample(self, features, end_logits):
        memory = self.proj(features)
        images = [block.cross.keys_values(memory) for block in self.blocks]
        rows = len(features) * a.samples
        newest = torch.full((rows, 1), START)
        pasts, done, tokens = [None] * a.layers, torch.zeros(rows, dtype=torch.bool), []
        for place in range(len(end_logits)):
            x = self.tok(newest) + self.pos.weight[place]
            for i, block in enumerate(self.blocks):
                x, pasts[i] = block.step(x, pasts[i], images[i], a.samples)
            logits = self.head(self.norm(x))[:, 0]
            logits[:, END] = end_logits[place]
            newest = torch.multinomial(torch.softmax(logits, -1), 1).masked_fill(done[:, None], 0)
            tokens.append(newest)
            done |= newest[:, 0] == END
            if done.all():
                break
        return torch.cat(tokens, 1)


def end_logits():
    """Logits of the end token with which captions are as long as those of Flickr8k, if all others are 0."""
    lengths = json.loads((Path(__file__).parent.parent / "caption_lengths.json").read_text())
    logits = []
    for length in range(1, min(max(lengths), a.seq) + 1):
        ends, lasting = sum(x == length for x in lengths), sum(x >= length for x in lengths)
        share = min(max(ends / lasting, 1e-6), 1 - 1e-6)
        logits.append(math.log(share / (1 - share) * a.vocab))
    return logits


def ngrams(words):
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


class Cider:
    """CIDEr-D with vectors of the references that are computed once."""

    def __init__(self, references):
        self.df, self.log_images = defaultdict(float), math.log(len(references))
        counted = [[ngrams(words) for words in image] for image in references]
        for image in counted:
            for ngram in set(ngram for counts in image for ngram in counts):
                self.df[ngram] += 1
        self.references = [[self.vector(counts) for counts in image] for image in counted]

    def vector(self, counts):
        vec, norm, length = [{} for _ in range(4)], [0.0] * 4, 0
        for ngram, count in counts.items():
            n = len(ngram) - 1
            value = count * (self.log_images - math.log(max(1.0, self.df.get(ngram, 0.0))))
            vec[n][ngram] = value
            norm[n] += value * value
            length += count if n == 1 else 0
        return vec, [math.sqrt(x) for x in norm], length

    def score(self, image, words):
        vec, norm, length = self.vector(ngrams(words))
        total = 0.0
        for other, other_norm, other_length in self.references[image]:
            penalty = math.exp(-((length - other_length) ** 2) / 72.0)
            for n in range(4):
                product = sum(min(value, other[n].get(g, 0.0)) * other[n].get(g, 0.0) for g, value in vec[n].items())
                if norm[n] and other_norm[n]:
                    total += product / (norm[n] * other_norm[n]) * penalty
        return 10.0 * total / 4 / len(self.references[image])


lengths = json.loads((Path(__file__).parent.parent / "caption_lengths.json").read_text())
words = lambda: [*random.choices(range(FIRST_WORD, a.vocab), k=random.choice(lengths) - 1), END]
cider = Cider([[words() for _ in range(5)] for _ in range(a.images)])
model = Decoder()
opt = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
features = torch.randn(a.batch, 197, WIDTH)
ends = end_logits()
in_rewards, num_tokens = [], []


def step():
    model.eval()
    samples = model.sample(features, ends)
    started = time.perf_counter()
    rewards = []
    for row, caption in enumerate(samples.tolist()):
        end = caption.index(END) + 1 if END in caption else len(caption)
        rewards.append(cider.score(row // a.samples, caption[:end]))
    rewards = torch.tensor(rewards).view(a.batch, a.samples)
    in_rewards.append(time.perf_counter() - started)
    baseline = (rewards.sum(1, keepdim=True) - rewards) / (a.samples - 1)
    advantage = (rewards - baseline).view(-1, 1)
    ended = (samples == END).cumsum(1)
    mask = ((ended - (samples == END).long()) == 0).float()
    num_tokens.append(mask.sum().item())
    model.train()
    ids = torch.cat([torch.full((len(samples), 1), START), samples[:, :-1]], 1)
    logp = F.log_softmax(model(features, ids), -1).gather(2, samples[..., None])[..., 0]
    loss = -(logp * mask * advantage).sum() / mask.sum()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    return loss.item()


for _ in range(a.warmup):
    step()
in_rewards.clear(), num_tokens.clear()
times = []
for _ in range(a.steps):
    t = time.perf_counter()
    loss = step()
    times.append(time.perf_counter() - t)
s = statistics.median(times)
print(json.dumps({"peer": f"torch {torch.__version__}", "batch": a.batch, "samples": a.samples, "step_s": round(s, 4),
                  "rewards_share": round(sum(in_rewards) / sum(times), 4), "tokens": statistics.mean(num_tokens),
                  "loss": round(loss, 4), "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
