"""The output of Node's runner (TAP) to lines "PASSED name": tests only, not the suites that hold them."""

import re
import sys

path = []
# The test that was told last, as a line; told again when what follows does not say that it is a suite.
told = None
for line in sys.stdin:
    if match := re.match(r"( *)# Subtest: (.*)", line):
        path[len(match[1]) // 4 :] = [match[2]]
    elif match := re.match(r"( *)(not ok|ok) \d+ - (.*)", line):
        path[len(match[1]) // 4 :] = [re.sub(r" # (SKIP|TODO).*", "", match[3])]
        outcome = "SKIPPED" if " # SKIP" in line else "PASSED" if match[2] == "ok" else "FAILED"
        told = f"{outcome} {' > '.join(path)}"
    elif re.match(r" *type: 'suite'", line):
        told = None
    elif re.match(r" *\.\.\.$", line) and told:
        print(told)
        told = None
