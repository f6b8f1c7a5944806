"""Share many inputs among all targets, in processes of their own, and write a table of what came of it.

    python -m tests.fuzz --inputs 200000 [--processes 2] [--target NAME] [--seed N]

Exit status 1 where a reader raised anything but a HubError, broke a promise, took 10 s of CPU for one input or did not end in 20 s,
or where a process needed a gigabyte. The same `--seed` gives the same inputs.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import releases, several, targets, wire
from tests.fuzz.running import no_hang, once, scratch
from tests.fuzz.targets import Target

MEMORY = 1 << 30  # of a process, at its peak
KEPT = 5  # findings of one target that are shown
ALL = (*targets.TARGETS, *several.TARGETS, *wire.TARGETS, *releases.TARGETS)


def main() -> int:
    asked = _arguments()
    chosen = [target for target in ALL if asked.target in ("", target.name)]
    if asked.part is not None:
        return _part(chosen, asked.inputs, asked.seed, asked.part, asked.processes)
    command = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:], "--processes", str(asked.processes)]
    running = [
        subprocess.Popen([*command, "--part", str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(asked.processes)
    ]
    results = [json.loads(each.communicate()[0].splitlines()[-1]) for each in running]
    return _report(chosen, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--target", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=int)
    return parser.parse_args()


def counts(chosen: list[Target], inputs: int) -> dict[str, int]:
    """Return how many of the inputs each target gets: cheap ones more."""
    whole = sum(target.share for target in chosen)
    return {target.name: -int(-inputs * target.share // whole) for target in chosen}


def _part(chosen: list[Target], inputs: int, seed: int, part: int, parts: int) -> int:
    """Run every input of one process; the last line is the result as JSON."""
    logging.disable(logging.CRITICAL)
    rows = {}
    with tempfile.TemporaryDirectory(dir=scratch()) as folder, no_hang() as begun:
        for target in chosen:
            wanted = range(part, counts(chosen, inputs)[target.name], parts)
            rows[target.name] = _run(target, [(seed << 32) + number for number in wanted], Path(folder), begun)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"rows": rows, "peak": used.ru_maxrss * 1024, "cpu_s": used.ru_utime + used.ru_stime}))
    return 0


def _run(target: Target, seeds, folder: Path, begun) -> dict:
    began, taken, slowest_s, findings = time.process_time(), 0, 0.0, []

    def check(chance):
        begun()
        target.read(target.input(chance), folder)

    for seed in seeds:
        at_s = time.process_time()
        try:
            taken += once(target.name, seed, check)
        except AssertionError as error:
            findings.append(str(error))
        slowest_s = max(slowest_s, time.process_time() - at_s)
    return {
        "inputs": len(seeds),
        "taken": taken,
        "findings": findings,
        "cpu_s": time.process_time() - began,
        "slowest_s": slowest_s,
    }


def _report(chosen: list[Target], results: list[dict]) -> int:
    print("|target|inputs|let through|findings|CPU seconds|slowest, ms|\n|---|---|---|---|---|---|")
    found = []
    for target in chosen:
        rows = [each["rows"][target.name] for each in results]
        inputs, taken, cpu_s = (sum(row[key] for row in rows) for key in ("inputs", "taken", "cpu_s"))
        findings = [text for row in rows for text in row["findings"]]
        found += findings[:KEPT]
        slowest_ms = max(row["slowest_s"] for row in rows) * 1000
        print(f"|{target.name}|{inputs}|{taken}|{len(findings)}|{cpu_s:.1f}|{slowest_ms:.0f}|")
    peak, cpu_s = max(each["peak"] for each in results), sum(each["cpu_s"] for each in results)
    total = sum(row["inputs"] for each in results for row in each["rows"].values())
    print(f"\n{total} inputs, {cpu_s:.0f} s of CPU in {len(results)} processes of at most {peak >> 20} MiB")
    print("\n".join(found))
    return int(bool(found) or peak > MEMORY)


if __name__ == "__main__":
    sys.exit(main())
