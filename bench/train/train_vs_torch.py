#!/usr/bin/env python3
"""Training speed of one shape: inkstone (bf16 products) against PyTorch (float32), in turn.

    bench/train/train_vs_torch.py [--inkstone build/release/inkstone] [--data ../shared/data]
        [--config bench/train/llama_30m.toml] [--threads 2] [--rounds 3] [--steps 4]

Both train the same Llama shape with AdamW on sequences of the recipe's context. A round runs one,
then the other; the first step of each is not counted. PyTorch is Debian's python3-torch with
libopenblas0-openmp, with an allocator that keeps its pages: without the first, products run in the
reference BLAS, without the second, page faults take most of the time. It is needed here only. Prints tokens per second of each round and the medians' ratio.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OPENBLAS = "/usr/lib/x86_64-linux-gnu/openblas-openmp"


def run_torch(recipe, threads, steps, micro_tokens):
    """Trains for `steps` steps and prints seconds per step and tokens of a step as JSON."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    shape = recipe["model"]
    d, heads, ffn = shape["d_model"], shape["heads"], shape["ffn"]
    context, vocab = shape["context"], recipe["tokenizer"]["vocabulary"]
    head = d // heads

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(d))

        def forward(self, x):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight

    def rotate(x, cos, sin):
        a, b = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-b, a), dim=-1) * sin

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = Norm(), Norm()
            self.qkv = nn.Linear(d, 3 * d, bias=False)
            self.out = nn.Linear(d, d, bias=False)
            self.gate_up = nn.Linear(d, 2 * ffn, bias=False)
            self.down = nn.Linear(ffn, d, bias=False)

        def forward(self, x, cos, sin, mask):
            rows, tokens, _ = x.shape
            qkv = self.qkv(self.norm1(x)).view(rows, tokens, 3, heads, head).permute(2, 0, 3, 1, 4)
            q, k, v = rotate(qkv[0], cos, sin), rotate(qkv[1], cos, sin), qkv[2]
            scores = q @ k.transpose(-1, -2) * head**-0.5 + mask
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(rows, tokens, d)
            x = x + self.out(mixed)
            gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * up)

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(vocab, d)
            self.layers = nn.ModuleList(Layer() for _ in range(shape["layers"]))
            self.norm = Norm()
            angles = torch.outer(
                torch.arange(context).float(), 10000.0 ** (-torch.arange(0, head, 2) / head))
            angles = torch.cat((angles, angles), dim=-1)
            self.register_buffer("cos", angles.cos())
            self.register_buffer("sin", angles.sin())
            self.register_buffer(
                "mask", torch.full((context, context), float("-inf")).triu(1))

        def forward(self, ids):
            x = self.embed(ids)
            for layer in self.layers:
                x = layer(x, self.cos, self.sin, self.mask)
            return F.linear(self.norm(x), self.embed.weight)

    model = Llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    rows = max(1, micro_tokens // context)
    micro = max(1, recipe["train"]["batch_tokens"] // (rows * context))
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        for _ in range(micro):
            ids = torch.randint(vocab, (rows, context + 1))
            logits = model(ids[:, :-1])
            loss = F.cross_entropy(logits.reshape(-1, vocab), ids[:, 1:].reshape(-1))
            (loss / micro).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    print(json.dumps({
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_per_second": [micro * rows * context / t for t in times],
    }))


def torch_round(args, recipe):
    command = [args.python, __file__, "--child", json.dumps(recipe), "--threads",
               str(args.threads), "--steps", str(args.steps + 1), "--torch-micro-tokens",
               str(args.torch_micro_tokens)]
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), MALLOC_MMAP_MAX_="0",
               MALLOC_TRIM_THRESHOLD_=str(1 << 34), MALLOC_TOP_PAD_=str(1 << 28))
    if os.path.isdir(OPENBLAS):
        env["LD_LIBRARY_PATH"] = OPENBLAS
    else:
        print(f"{OPENBLAS} is missing (apt-get install libopenblas0-openmp)", file=sys.stderr)
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["tokens_per_second"][1:]


def inkstone_round(args, recipe_text, folder):
    text = "\n".join(
        f"steps = {args.steps + 1}" if line.startswith("steps") else line
        for line in recipe_text.splitlines())
    vocabulary = folder / "tokenizer.gguf"
    if vocabulary.exists():  # made by an earlier round
        kept = [line for line in text.splitlines()
                if not line.startswith(("vocabulary", "pre"))]
        at = kept.index("[tokenizer]")
        kept.insert(at + 1, f'file = "{vocabulary}"')
        text = "\n".join(kept)
    config = folder / "recipe.toml"
    config.write_text(text)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        done = subprocess.run(
            [args.inkstone, "train", "--config", str(config), "--data", args.data, "--out", out,
             "-t", str(args.threads)], stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{args.inkstone} train failed:\n{done.stderr}")
        if not vocabulary.exists():
            vocabulary.write_bytes((pathlib.Path(out) / "tokenizer.gguf").read_bytes())
        lines = [json.loads(l) for l in (pathlib.Path(out) / "log.jsonl").read_text().splitlines()]
    peak = [l for l in done.stderr.splitlines() if l.startswith(("peak arithmetic", "mean share"))]
    return [l["tokens_per_second"] for l in lines if "tokens_per_second" in l][1:], peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inkstone", default=str(ROOT / "build/release/inkstone"))
    parser.add_argument("--config", default=str(HERE / "llama_30m.toml"))
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="counted steps of a round")
    parser.add_argument("--torch-micro-tokens", type=int, default=1024,
                        help="tokens of a PyTorch forward pass")
    parser.add_argument("--python", default="/usr/bin/python3", help="the one that has torch")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run_torch(json.loads(args.child), args.threads, args.steps, args.torch_micro_tokens)
        return
    recipe_text = pathlib.Path(args.config).read_text()
    recipe = tomllib.loads(recipe_text)
    recipe = {key: recipe[key] for key in ("model", "tokenizer", "train")}
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.rounds):
            speeds, peak = inkstone_round(args, recipe_text, pathlib.Path(folder))
            ours += speeds
            theirs += torch_round(args, recipe)
            for line in peak:
                print(f"  inkstone: {line}")
            print(f"round {i + 1}: inkstone {statistics.median(ours[-args.steps:]):.0f} tokens/s, "
                  f"PyTorch {statistics.median(theirs[-args.steps:]):.0f} tokens/s", flush=True)
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"median: inkstone {a:.0f} tokens/s, PyTorch {b:.0f} tokens/s, ratio {a / b:.2f}")


if __name__ == "__main__":
    main()
