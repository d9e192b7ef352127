"""Harbor grader: reads a pytest log and writes 1 or 0, for task folders that stand alone; the standard library is enough.

```
python grade.py expected.json log.txt EXIT_CODE reward.txt
```
"""

import json
import re
import sys

PASSING = ("PASSED", "XFAIL")
STATUSES = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS")
HEADER = re.compile(r"^=+ short test summary info =+$")
RULE = re.compile(r"^=+ .* =+$")


def outcomes(log):
    """Return test id → outcome, from the last summary that `pytest -rA` printed."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", log).split("\n")
    starts = [number for number, line in enumerate(lines) if HEADER.match(line)]
    found = {}
    for line in lines[starts[-1] + 1 :] if starts else ():
        if RULE.match(line):
            break
        status, _, rest = line.partition(" ")
        if status in STATUSES and rest:
            found[rest] = status
    return found


def outcome_of(test, found):
    """Return the outcome of a test, whose line may go on with a message after its id."""
    if test in found:
        return found[test]
    return next((status for line, status in found.items() if line.startswith(test + " - ")), None)


def main(expected_file, log_file, code, reward_file):
    """Grade one log."""
    with open(expected_file, encoding="utf-8") as file:
        expected = json.load(file)
    with open(log_file, encoding="utf-8", errors="replace") as file:
        found = outcomes(file.read())
    failed = [
        test for test in expected["fail_to_pass"] + expected["pass_to_pass"] if outcome_of(test, found) not in PASSING
    ]
    # 0 and 1 are pytest's ends of a finished run; others may have printed a summary that is not its own
    good = not failed and int(code) in (0, 1)
    for test in failed[:10]:
        sys.stdout.write("did not pass: %s\n" % test)
    with open(reward_file, "w", encoding="utf-8") as file:
        file.write("1\n" if good else "0\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
