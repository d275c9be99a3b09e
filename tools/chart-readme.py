#!/usr/bin/env python3
"""Prints a table of the chart's values, from the comments in values.yaml that begin with `# --`.

Usage: chart-readme.py FOLDER-OF-CHART

Fails if a value has no comment, or if values.yaml and values.schema.json don't have the same keys.
"""

import json
import pathlib
import re
import sys

CHART = pathlib.Path(sys.argv[1])
KEY = re.compile(r"^( *)([A-Za-z]+):(?: (.*))?$")


def values():
    """Yields (path, default, comment) of each value that values.yaml explains."""
    parents, comment, described = [], None, None
    for line in (CHART / "values.yaml").read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("# -- "):
            comment = text[5:]
        elif text.startswith("#"):
            comment = f"{comment} {text[2:]}" if comment else None
        elif match := KEY.match(line):
            depth, name, default = len(match[1]) // 2, match[2], match[3]
            del parents[depth:]
            if described is not None and depth > described:
                parents.append(name)
                continue  # a part of a value that is explained as a whole
            described = None
            parents.append(name)
            path = ".".join(parents)
            if comment:
                described = depth if default is None else None
                yield path, default, comment
            elif default is not None:
                sys.exit(f"values.yaml: {path} has no comment")
            comment = None


def keys(schema, root, path=""):
    """Yields the path of each value that the schema allows, down to where it lists no properties."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    for name, below in schema.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        if inner == "global":
            continue
        found = list(keys(below, root, inner))
        yield from found or [inner]


rows = list(values())
documented = {path for path, _, _ in rows}
schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
for path in keys(schema, schema):
    if not any(path == known or path.startswith(known + ".") for known in documented):
        sys.exit(f"values.schema.json allows {path}, which values.yaml does not explain")

print("# Values of the chart\n")
print("Generated from `values.yaml` by `make generate`. A key that is not here is refused.\n")
print("| Value | Default | What it does |\n|---|---|---|")
for path, default, comment in rows:
    shown = "see `values.yaml`" if default is None else f"`{default}`"
    print(f"| `{path}` | {shown} | {comment.replace('|', chr(92) + '|')} |")
