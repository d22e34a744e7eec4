"""Prints the pods of `ostro ps --json` whose names begin so, and the problems."""
import json
import sys

said = json.load(sys.stdin)
pods = [pod for pod in said["pods"] if pod["name"].startswith(sys.argv[1])]
print(json.dumps({**said, "pods": pods}, indent=2))
