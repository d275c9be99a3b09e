"""The software bill of materials of an image (CycloneDX 1.6): crates, Debian's shared libraries, CA roots, time zones."""

import pathlib
import subprocess


def crates(metadata, binary):
    """Yields the packages that the binary is built of, itself first: those that it depends on for its work."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = [next(id for id, package in packages.items() if package["name"] == binary)]
    seen = set(waiting)
    while waiting:
        node = nodes[waiting.pop(0)]
        yield packages[node["id"]]
        for dependency in node["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            if None in kinds and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                waiting.append(dependency["pkg"])


def component(kind, name, version, purl=None, licence=None):
    made = {"type": kind, "name": name, "version": version}
    if licence:
        made["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    if purl:
        made |= {"purl": purl, "bom-ref": purl}
    return made


def libraries(files):
    """Yields the Debian package of each shared library, where dpkg knows it."""
    for pair in files[1:]:
        path = pair.split("=", 1)[0]
        # Where /lib is a link to /usr/lib, dpkg knows one of the two.
        for known in [path, f"/usr{path}", pair.split("=", 1)[1]]:
            query = subprocess.run(["dpkg-query", "--search", known], capture_output=True, text=True, check=False)
            if query.returncode == 0:
                name = query.stdout.split(":", 1)[0]
                shown = ["dpkg-query", "--show", "--showformat=${Version} ${Architecture}", f"{name}"]
                version, machine = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()[:2]
                yield name, version, f"pkg:deb/debian/{name}@{version}?arch={machine}"
                break


def bill(metadata, binary, files, packages):
    first, *others = crates(metadata, binary)
    parts = [
        component("library", crate["name"], crate["version"], f"pkg:cargo/{crate['name']}@{crate['version']}", crate["license"])
        for crate in others
    ]
    parts += [component("library", *library) for library in sorted(set(libraries(files)))]
    for folder in sorted(pathlib.Path(packages).glob("*.dist-info")):
        name, version = folder.name.removesuffix(".dist-info").split("-", 1)
        parts.append(component("data", name, version, f"pkg:pypi/{name}@{version}"))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component("application", first["name"], first["version"], licence=first["license"])},
        "components": sorted(parts, key=lambda part: part["purl"]),
    }
