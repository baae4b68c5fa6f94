#!/usr/bin/env python3
"""Checks that includes follow the arrows of docs/design.md, section 2 (transitively)."""
import pathlib
import re
import sys

# folder -> folders it may include directly; the closure is what it may include at all.
ARROWS = {
    "base": [],
    "tensor": ["base"],
    "quant": ["tensor"],
    "kernels": ["quant"],
    "formats": ["quant"],
    "ops": ["kernels"],
    "text": ["base", "formats"],
    "model": ["ops", "formats"],
    "cache": ["base"],
    "sampling": ["text", "ops"],
    "engine": ["model", "cache", "sampling"],
    "train": ["model", "text"],
    "compress": ["model", "formats"],
    "guard": ["text"],
    "serve": ["engine", "guard"],
    "transport": ["serve"],
    "apps": ["serve", "train"],
}
ROOT = pathlib.Path(__file__).resolve().parent.parent


def closure(folder):
    seen = {folder}
    stack = [folder]
    while stack:
        for target in ARROWS[stack.pop()]:
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return seen


def main():
    errors = []
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix not in (".h", ".cc", ".cu", ".cuh"):
            continue
        folder = path.relative_to(ROOT / "src").parts[0]
        if folder not in ARROWS:
            errors.append(f"{path.relative_to(ROOT)}: folder {folder} is not in docs/design.md")
            continue
        allowed = closure(folder)
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'#include "([a-z_0-9]+)/', line)
            if match and match.group(1) in ARROWS and match.group(1) not in allowed:
                errors.append(f"{path.relative_to(ROOT)}:{number}: {folder} may include "
                              f"{', '.join(sorted(allowed))}; got {match.group(1)}")
        # Code of one instruction set stays in its folder.
        parts = path.relative_to(ROOT / "src").parts
        if parts[:2] == ("kernels", "cpu") and len(parts) > 3:
            isa = parts[2]
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = re.match(r'#include "kernels/cpu/(avx2|avx512|reference)/', line)
                if match and match.group(1) != isa:
                    errors.append(f"{path.relative_to(ROOT)}:{number}: {isa} includes "
                                  f"{match.group(1)}")
    for error in errors:
        print(error)
    print(f"layers: {len(errors)} violations")
    sys.exit(1 if errors else 0)


main()
