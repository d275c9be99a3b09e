#!/usr/bin/env python3
"""Packs files into an OCI image layout with an SBOM, and into an archive of the same. The same input gives the same digest.

Usage: pack.py --out FOLDER --name NAME:TAG --binary NAME --packages FOLDER --metadata FILE PATH-IN-IMAGE=FILE...

--packages has Python's certifi and tzdata; --metadata is the output of `cargo metadata`.
"""

import argparse
import gzip
import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile

import sbom

USER = 65532
MOST = 15 << 20  # of what is pulled
OCI = "application/vnd.oci.image."
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def tar(entries):
    """A tar of (path, bytes, mode), sorted, with folders, without times and owners."""
    out, folders = io.BytesIO(), set()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, data, mode in sorted(entries):
            parts = path.strip("/").split("/")
            for depth in range(1, len(parts)):
                folder = tarfile.TarInfo("/".join(parts[:depth]))
                if folder.name not in folders:
                    folders.add(folder.name)
                    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(folder)
            file = tarfile.TarInfo("/".join(parts))
            file.size, file.mode = len(data), mode
            archive.addfile(file, io.BytesIO(data))
    return out.getvalue()


def content(options):
    """What the image's file system has: (path, bytes, mode)."""
    for pair in options.files:
        path, file = pair.split("=", 1)
        yield path, pathlib.Path(file).read_bytes(), 0o755
    packages = pathlib.Path(options.packages)
    yield "/etc/ssl/certs/ca-certificates.crt", (packages / "certifi/cacert.pem").read_bytes(), 0o644
    zones = packages / "tzdata/zoneinfo"
    for zone in sorted(zones.rglob("*")):
        if zone.is_file() and zone.suffix not in {".py", ".pyc"}:
            yield f"/usr/share/zoneinfo/{zone.relative_to(zones)}", zone.read_bytes(), 0o644
    yield "/etc/passwd", f"nonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n".encode(), 0o644
    yield "/etc/group", f"nonroot:x:{USER}:\n".encode(), 0o644
    yield "/etc/nsswitch.conf", b"hosts: files dns\n", 0o644


class Layout:
    """The blobs of an OCI image layout."""

    def __init__(self):
        self.blobs = {}

    def add(self, data, media_type, **more):
        """Keeps the data and returns its descriptor."""
        if not isinstance(data, bytes):
            data = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}

    def files(self, manifests):
        index = {"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": manifests}
        yield "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644
        yield "index.json", json.dumps(index, sort_keys=True).encode(), 0o644
        for digest, data in self.blobs.items():
            yield f"blobs/sha256/{digest}", data, 0o644


def machine():
    return MACHINES[subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    for option in ["out", "name", "binary", "packages", "metadata"]:
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    layout = Layout()
    layer = tar(content(options))
    packed = gzip.compress(layer, compresslevel=9, mtime=0)
    labels = {
        "org.opencontainers.image.title": options.binary,
        "org.opencontainers.image.version": options.name.rsplit(":", 1)[1],
        "org.opencontainers.image.licenses": "Apache-2.0",
    }
    config = layout.add(
        {
            "architecture": machine(),
            "os": "linux",
            "config": {"Entrypoint": [f"/usr/bin/{options.binary}"], "User": f"{USER}:{USER}", "Env": ["PATH=/usr/bin"], "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        },
        f"{OCI}config.v1+json",
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}manifest.v1+json",
        "config": config,
        "layers": [layout.add(packed, f"{OCI}layer.v1.tar+gzip")],
        "annotations": labels,
    }
    image = layout.add(manifest, f"{OCI}manifest.v1+json")
    cyclonedx = "application/vnd.cyclonedx+json"
    bill = sbom.bill(json.loads(pathlib.Path(options.metadata).read_text(encoding="utf-8")), options.binary, options.files, options.packages)
    artifact = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}manifest.v1+json",
        "artifactType": cyclonedx,
        "config": layout.add(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [layout.add(bill, cyclonedx)],
        "subject": image,
    }
    attached = layout.add(artifact, f"{OCI}manifest.v1+json")
    names = {"io.containerd.image.name": options.name, "org.opencontainers.image.ref.name": labels["org.opencontainers.image.version"]}
    manifests = [{**image, "annotations": names}, {**attached, "artifactType": cyclonedx}]

    out = pathlib.Path(options.out)
    shutil.rmtree(out, ignore_errors=True)
    for path, data, _ in layout.files(manifests):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(data)
    # Importers of archives know images only.
    out.with_suffix(".tar").write_bytes(tar(layout.files(manifests[:1])))
    size = sum(part["size"] for part in manifest["layers"])
    print(f"{options.name}  {image['digest']}  {size / 2**20:.1f} MiB compressed, {len(layer) / 2**20:.1f} MiB")
    if size > MOST:
        sys.exit(f"{options.name} is larger than {MOST >> 20} MiB")


if __name__ == "__main__":
    main()
