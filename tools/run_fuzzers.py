#!/usr/bin/env python3
"""Runs every libFuzzer program of a build folder for some seconds each.

usage: run_fuzzers.py BUILD_DIR [SECONDS]     (60 by default)
"""
import pathlib
import subprocess
import sys
import tempfile


def main():
    build = pathlib.Path(sys.argv[1])
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    programs = sorted(p for p in (build / "fuzz").glob("fuzz_*") if p.is_file())
    if not programs:
        sys.exit(f"{build}/fuzz: no fuzzers")
    failed = []
    for start in range(0, len(programs), 2):
        running = []
        for program in programs[start:start + 2]:
            corpus = tempfile.mkdtemp(prefix=program.name)
            log = tempfile.TemporaryFile()
            running.append((program, log, subprocess.Popen(
                [program.resolve(), f"-max_total_time={seconds}", "-rss_limit_mb=3000",
                 "-timeout=20", f"-artifact_prefix={build.resolve()}/", corpus],
                stdout=log, stderr=subprocess.STDOUT, cwd=corpus)))
        for program, log, process in running:
            code = process.wait()
            if code != 0:
                failed.append(program.name)
                log.seek(0)
                print(log.read()[-8000:].decode(errors="replace"))
            print(f"{program.name}: {'failed' if code else 'clean'} after {seconds} s", flush=True)
    sys.exit(1 if failed else 0)


main()
