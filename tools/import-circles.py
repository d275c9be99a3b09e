#!/usr/bin/env python3
"""Prints the import circles of each crate: files that need each other, and rooms (folders of src/) that do.

usage: import-circles.py [CRATE-FOLDER...]    default: all crates

A file needs another when it names one of that file's items by `crate::`, `super::`, `self::` or a child module's name;
an item that a file only hands on (`pub use`) belongs to the file that has it. Tests don't count. Exits with 1 when more
than two files of a crate form a circle, or any two rooms.
"""

import re
import sys
from pathlib import Path

ALLOWED = 2
CRATES = ["core", "crds", "runtime", "operator", "dispatcher", "e2e", "bench"]

USE = re.compile(r"^[ \t]*(pub(?:\([a-z ]+\))?[ ]+)?use[ ]+([^;]+);", re.M)
INLINE = re.compile(r"\b((?:crate|super|self)(?:::[A-Za-z_][A-Za-z0-9_]*)+)")
MODULE = re.compile(r"^[ \t]*(?:pub(?:\([a-z ]+\))?[ ]+)?mod[ ]+(\w+);", re.M)


def source(path: Path) -> str:
    """Its text without comments, strings and unit tests."""
    text = re.sub(r"//[^\n]*", "", path.read_text())
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    return re.split(r"#\[cfg\(test\)\]\s*(?:pub\(crate\) )?mod \w+ \{", text)[0]


def leaves(tree: str) -> list[list[str]]:
    """`a::{b, c::{self, d as e}}` as [[a, b], [a, c], [a, c, d]]."""
    tree = re.sub(r"\s+", " ", tree.strip())
    brace = tree.find("{")
    if brace < 0:
        path = re.sub(r" as .*", "", tree).split("::")
        return [path[:-1] if path[-1] in ("self", "*") else path]
    head = [part for part in tree[:brace].split("::") if part]
    found, depth, start = [], 0, brace + 1
    for at in range(brace + 1, len(tree)):
        char = tree[at]
        if (char == "," and depth == 0) or (char == "}" and depth == 0):
            if tree[start:at].strip():
                found += [head + leaf for leaf in leaves(tree[start:at])]
            start = at + 1
        depth += {"{": 1, "}": -1}.get(char, 0)
    return found


class Crate:
    def __init__(self, folder: Path):
        self.name, self.src = folder.name, folder / "src"
        self.files: dict[tuple, Path] = {}
        for path in sorted(self.src.rglob("*.rs")):
            parts = path.relative_to(self.src).with_suffix("").parts
            if parts[0] == "bin" or parts[-1].endswith("tests") or parts == ("main",):
                continue
            self.files[() if parts == ("lib",) else parts] = path
        self.text = {module: source(path) for module, path in self.files.items()}
        # What a file hands on: module -> name -> the path that has it.
        self.handed: dict[tuple, dict[str, list[str]]] = {}
        for module, text in self.text.items():
            for visibility, tree in USE.findall(text):
                for leaf in leaves(tree) if visibility else []:
                    self.handed.setdefault(module, {})[leaf[-1]] = leaf

    def absolute(self, module: tuple, path: list[str]) -> tuple | None:
        head, rest = path[0], path[1:]
        if head == "crate":
            return tuple(rest)
        if head == "self":
            return module + tuple(rest)
        if head == "super":
            base = module[:-1]
            while rest and rest[0] == "super":
                base, rest = base[:-1], rest[1:]
            return base + tuple(rest)
        return module + tuple(path) if module + (head,) in self.files else None

    def owner(self, target: tuple, hops: int = 5) -> tuple | None:
        """The file that has the item, or that is the module, which an absolute path names."""
        for end in range(len(target), -1, -1):
            module = target[:end]
            if module in self.files:
                if end < len(target) and hops and (leaf := self.handed.get(module, {}).get(target[end])):
                    further = self.absolute(module, leaf)
                    if further is not None:
                        return self.owner(further + target[end + 1:], hops - 1)
                return module
        return None

    def needs(self, module: tuple) -> set[tuple]:
        text, paths = self.text[module], []
        for visibility, tree in USE.findall(text):
            if not visibility:
                paths += leaves(tree)
        rest = USE.sub("", text)
        paths += [path.split("::") for path in INLINE.findall(rest)]
        for child in MODULE.findall(text):
            paths += [[child, name] for name in re.findall(rf"(?<![:\w]){child}::(\w+)", rest)]
        found = {self.owner(target) for path in paths if (target := self.absolute(module, path)) is not None}
        return {other for other in found if other is not None and other not in (module, ())}


def circles(graph: dict) -> list[list]:
    """The strongly connected components of more than one node (Tarjan)."""
    index, low, stack, on, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                on.discard(component[-1])
                if component[-1] == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    sys.setrecursionlimit(10_000)
    for node in graph:
        if node not in index:
            visit(node)
    return found


def check(folder: Path) -> bool:
    crate = Crate(folder)
    files = {module: crate.needs(module) for module in crate.files if module}
    rooms: dict[str, set[str]] = {module[0]: set() for module in files}
    why: dict[tuple, list[str]] = {}
    for module, needed in files.items():
        for other in needed:
            if other[0] != module[0]:
                rooms[module[0]].add(other[0])
                why.setdefault((module[0], other[0]), []).append(f"{'/'.join(module)} -> {'/'.join(other)}")
    bad = False
    for circle in circles(files):
        is_bad = len(circle) > ALLOWED
        bad |= is_bad
        print(f"{crate.name}: {'TOO LARGE: ' if is_bad else ''}a circle of {len(circle)} files:")
        for module in circle:
            inside = sorted("/".join(other) for other in files[module] if other in circle)
            print(f"  {'/'.join(module)} -> {', '.join(inside)}")
    for circle in circles(rooms):
        bad = True
        print(f"{crate.name}: a circle between the rooms {', '.join(circle)}:")
        for (one, other), edges in sorted(why.items()):
            if one in circle and other in circle:
                print(f"  {one} needs {other}: {'; '.join(sorted(edges))}")
    return bad


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    folders = [Path(name) for name in sys.argv[1:]] or [root / name for name in CRATES]
    bad = [check(folder) for folder in folders]
    print(f"{len(folders)} crates read: {'circles that must go' if any(bad) else 'no circle that must go'}")
    return int(any(bad))


if __name__ == "__main__":
    sys.exit(main())
