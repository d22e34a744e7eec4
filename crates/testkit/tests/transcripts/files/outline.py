"""Prints the outline of `ostro demo --check --json`: its first step whole but for what was measured, and how all ended."""
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    said = json.load(file)
first = said["steps"][0]
first["seenAfterMs"] = type(first["seenAfterMs"]).__name__
for claim in first["claims"]:
    claim["got"] = type(claim["got"]).__name__
steps = [(step["step"], step["held"]) for step in said["steps"]]
outline = {**said, "startedIn": type(said["startedIn"]).__name__, "page": said["page"].partition(":")[0], "steps": [first]}
print(json.dumps(outline, indent=2))
for step in steps:
    print(*step)
