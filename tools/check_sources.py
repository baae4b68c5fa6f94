#!/usr/bin/env python3
"""Lint that needs no compiler: format, file sizes, licence, leftovers, library rules."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARN_LINES, FAIL_LINES = 800, 1500
GENERATED = re.compile(r"(_table|_data|_tables)\.(cc|h)$")  # tables may be long


def tracked():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                         stdout=subprocess.PIPE, check=True).stdout
    return [ROOT / line for line in out.splitlines() if (ROOT / line).is_file()]


def main():
    errors = []
    files = tracked()
    sources = [p for p in files if p.suffix in (".h", ".cc", ".cu", ".cuh", ".c")]
    for path in sources:
        name = path.relative_to(ROOT)
        text = path.read_text(errors="replace")
        lines = text.count("\n")
        if lines > FAIL_LINES and not GENERATED.search(path.name):
            errors.append(f"{name}: expected at most {FAIL_LINES} lines, got {lines}")
        elif lines > WARN_LINES:
            print(f"warning: {name}: {lines} lines, over {WARN_LINES} wants splitting")
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text):
            errors.append(f"{name}: holds an open end (TODO, FIXME, XXX or HACK)")
        if name.parts[0] == "src":
            for number, line in enumerate(text.splitlines(), 1):
                code = line.split("//")[0]
                if re.search(r"\b(getenv|std::exit|std::cout|std::cerr|printf)\s*[(<]", code) and \
                        "snprintf" not in code and name.parts[1] not in ("base",):
                    errors.append(f"{name}:{number}: the library never prints, exits or reads the "
                                  f"environment: {line.strip()}")
    if not (ROOT / "LICENSE").is_file():
        errors.append("LICENSE: missing")
    if sources:
        result = subprocess.run(["clang-format", "--dry-run", "--Werror", *map(str, sources)],
                                stderr=subprocess.PIPE, text=True)
        if result.returncode != 0:
            bad = sorted({line.split(":")[0] for line in result.stderr.splitlines()
                          if "error:" in line})
            errors += [f"{b}: not formatted (clang-format -i)" for b in bad]
    for error in errors:
        print(error)
    print(f"sources: {len(sources)} files, {len(errors)} errors")
    sys.exit(1 if errors else 0)


main()
