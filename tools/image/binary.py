#!/usr/bin/env python3
"""Packs one static binary into an archive of an image, for a throw-away node. Usage: binary.py OUT.tar NAME:TAG BINARY [ARGUMENT...]"""

import hashlib
import pathlib
import sys

from pack import OCI, USER, Layout, machine, tar


def main():
    out, name, binary, *arguments = sys.argv[1:]
    path = f"/{pathlib.Path(binary).name}"
    layout = Layout()
    layer = tar([(path, pathlib.Path(binary).read_bytes(), 0o755)])
    config = {
        "architecture": machine(),
        "os": "linux",
        "config": {"Entrypoint": [path, *arguments], "User": f"{USER}:{USER}"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}manifest.v1+json",
        "config": layout.add(config, f"{OCI}config.v1+json"),
        "layers": [layout.add(layer, f"{OCI}layer.v1.tar")],
    }
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]}
    image = layout.add(manifest, f"{OCI}manifest.v1+json", annotations=names)
    pathlib.Path(out).write_bytes(tar(layout.files([image])))


main()
