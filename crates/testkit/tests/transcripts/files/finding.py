"""Prints the findings of `ostro doctor --json` that speak of this, and whether a mesh would come up."""
import json
import sys

said = json.load(sys.stdin)
print(json.dumps({"able": said["able"]}))
for finding in said["findings"]:
    if sys.argv[1] in finding["said"]:
        print(json.dumps(finding, indent=2))
