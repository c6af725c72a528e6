"""Ways between the API server, which listens on this machine's loopback, and real nodes, whose networks lead nowhere.

    python ways.py to-api PID HOST:PORT HOST:PORT     in the network of process PID listen at the first, connect here to the second
    python ways.py to-nodes NAME FOLDER               at the abstract socket NAME, a proxy (HTTP CONNECT) that leads to kubelets

Processes of a cluster, started by cluster.py and kubelet.py. FOLDER has a file for each node, of its name: `within PID`
or `at HOST:PORT`. Only the standard library is imported: it starts at once, from anywhere.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CLONE_NEWNET = 0x40000000
CHUNK = 1 << 16
Address = tuple[str, int]


def within(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    """A socket made in the network namespace of a process. Only a thread that ends at once goes there."""
    found: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"cannot enter the network of process {pid}")
            finally:
                os.close(namespace)
            found.append(make())
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


async def to_api(pid: int, listen: Address, target: Address) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        await _join((reader, writer), far)

    listener = within(pid, lambda: socket.create_server(listen))
    server = await asyncio.start_server(carry, sock=listener)
    await server.serve_forever()


async def to_nodes(name: str, ways: Path) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            _, target, _ = head.decode().split(" ", 2)
            try:
                far = await _reach(ways, _address(target))
            except OSError as error:
                writer.write(f"HTTP/1.1 502 {error}\r\n\r\n".encode())
                await writer.drain()
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _join((reader, writer), far)
        writer.close()

    server = await asyncio.start_unix_server(carry, f"\0{name}")
    await server.serve_forever()


async def _reach(ways: Path, target: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a node. One that no file names is none that this proxy leads to."""
    how, where = (ways / target[0]).read_text().split()
    if how == "at":
        return await asyncio.open_connection(*_address(where))
    made = await asyncio.to_thread(within, int(where), lambda: socket.create_connection(("127.0.0.1", target[1]), 10))
    made.setblocking(False)
    return await asyncio.open_connection(sock=made)


async def _join(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter], far: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    await asyncio.gather(_copy(near[0], far[1]), _copy(far[0], near[1]))
    near[1].close()
    far[1].close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(CHUNK):
            target.write(chunk)
            await target.drain()
        target.write_eof()


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["to-api", pid, listen, target]:
            asyncio.run(to_api(int(pid), _address(listen), _address(target)))
        case ["to-nodes", name, folder]:
            asyncio.run(to_nodes(name, Path(folder)))
        case _:
            sys.exit(__doc__)
