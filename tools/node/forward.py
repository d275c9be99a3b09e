#!/usr/bin/env python3
"""Forwards a loopback port of this network namespace to an address in another one.

Usage: forward.py PID IP:PORT    PID: a process in the other namespace. Prints the port it listens on.

The listening socket is made first, and keeps its namespace; then the process enters the other one, to connect there.
"""

import ctypes
import os
import socket
import sys
import threading

CLONE_NEWNET = 0x40000000


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        try:
            end.shutdown(how)
        except OSError:
            pass


def serve(client, address):
    try:
        with client, socket.create_connection(address, timeout=10) as server:
            server.settimeout(None)
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()
    except OSError as error:
        print(error, file=sys.stderr)


def main():
    pid, address = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    listener = socket.create_server(("127.0.0.1", 0))
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, (host, int(port))), daemon=True).start()


main()
