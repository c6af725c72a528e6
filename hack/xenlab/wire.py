"""The wire between the hosts of a lab: an Ethernet switch for QEMU's `-netdev socket,connect=`.

Run by the lab as a process of its own, `python wire.py FD`, with a listening socket on loopback that it inherits. QEMU
sends each frame behind its length (four bytes, big-endian). It learns addresses as a switch does; a port that does not
take its frames loses them. Only the standard library is imported, so that it starts from anywhere.
"""

from __future__ import annotations

import asyncio
import socket
import sys

BACKLOG = 4 << 20  # bytes that wait for one port before frames to it are dropped
MULTICAST = 1  # this bit of the first byte: a group, or everyone


class Port(asyncio.Protocol):
    """One host's side of the wire."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport = transport
        self.switch.ports.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.switch.forget(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        start, end = 0, len(self.buffer)
        while end - start >= 4:
            length = 4 + int.from_bytes(self.buffer[start : start + 4], "big")
            if end - start < length:
                break
            self.switch.forward(self, bytes(self.buffer[start : start + length]))
            start += length
        del self.buffer[:start]

    def send(self, packet: bytes) -> None:
        if self.transport.get_write_buffer_size() < BACKLOG:
            self.transport.write(packet)


class Switch:
    """Forwards frames between ports."""

    def __init__(self) -> None:
        self.ports: set[Port] = set()
        self.table: dict[bytes, Port] = {}

    def forget(self, port: Port) -> None:
        self.ports.discard(port)
        self.table = {mac: p for mac, p in self.table.items() if p is not port}

    def forward(self, source: Port, packet: bytes) -> None:
        target, sender = packet[4:10], packet[10:16]
        self.table[sender] = source
        known = None if target[:1] == b"" or target[0] & MULTICAST else self.table.get(target)
        for port in (known,) if known else tuple(self.ports):
            if port is not source:
                port.send(packet)


async def serve(listener: socket.socket) -> None:
    """Switch until the process is ended."""
    switch = Switch()
    server = await asyncio.get_running_loop().create_server(lambda: Port(switch), sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
