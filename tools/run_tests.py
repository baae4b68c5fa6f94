#!/usr/bin/env python3
"""Runs every gtest program of a build folder and closes with one line of totals.

usage: run_tests.py BUILD_DIR [NAME ...]     (NAME: the part after test_)
"""
import pathlib
import re
import subprocess
import sys
import time

TIMEOUT_S = 1500


def run(program):
    """Returns (passed, failed, skipped) of one test program."""
    begin = time.time()
    try:
        result = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, errors="replace", timeout=TIMEOUT_S,
                                stdin=subprocess.DEVNULL)
        output, code = result.stdout, result.returncode
    except subprocess.TimeoutExpired as e:
        output = (e.stdout or b"").decode(errors="replace") if isinstance(e.stdout, bytes) else ""
        output += f"\n{program}: still running after {TIMEOUT_S} s\n"
        code = -1
    passed = len(re.findall(r"^\[       OK \]", output, re.M))
    skipped = len(re.findall(r"^\[  SKIPPED \] [^ ]+ \(", output, re.M))
    failed = len(re.findall(r"^\[  FAILED  \] [^ ]+ \(", output, re.M))
    if code != 0:
        failed = max(failed, 1)
        print(output[-20000:])
    for line in output.splitlines():
        if "Skipped" in line or "reference data is absent" in line:
            print(f"  {program.name}: {line.strip()}")
    print(f"{program.name}: {passed} passed, {failed} failed, {skipped} skipped "
          f"in {time.time() - begin:.1f} s", flush=True)
    return passed, failed, skipped


def main():
    build = pathlib.Path(sys.argv[1])
    names = sys.argv[2:]
    programs = sorted(p for p in (build / "tests").glob("*/test_*") if p.is_file())
    if names:
        programs = [p for p in programs if p.name[len("test_"):] in names]
    if not programs:
        sys.exit(f"{build}: no test programs{' named ' + ', '.join(names) if names else ''}")
    totals = [0, 0, 0]
    for program in programs:
        for i, n in enumerate(run(program.resolve())):
            totals[i] += n
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    sys.exit(1 if totals[1] or not totals[0] else 0)


main()
