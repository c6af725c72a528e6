"""A simulated host's state on disk: one SQLite file in its directory, open in any number of processes and threads.

A transaction is there or not, also after kill -9 (not after a power cut: nothing is synced). The machine uses it; no
rule of Xen is in here.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubexen.hypervisor.drivers.sim.domain import SimDomain

FILE = "host.db"
_KEPT_CHANGES = 2_000  # a driver that was asleep for longer is told to look at everything
_KEPT_CALLS = 20_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS setting (layer TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (layer, key));
CREATE TABLE IF NOT EXISTS domain (uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, due REAL, record TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS domain_due ON domain (due);
CREATE TABLE IF NOT EXISTS change (seq INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT);
CREATE TABLE IF NOT EXISTS call (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, name TEXT, uuid TEXT, args TEXT);
CREATE TABLE IF NOT EXISTS fault (seq INTEGER PRIMARY KEY, call TEXT, error TEXT, message TEXT, after INTEGER);
"""


@dataclass(frozen=True)
class Call:
    """An act that a driver was asked for, whether it did it or not."""

    at: float
    name: str
    uuid: str
    args: Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """The next failure of a call. after: the act is done, only its answer is lost."""

    error: str
    message: str
    after: bool


class Store:
    """One connection to the file, shared by the threads of its owner."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(directory / FILE, timeout=30, isolation_level=None, check_same_thread=False)
        # Two processes that open a new directory at once: SQLite does not wait for the switch to WAL.
        with open(directory / "open.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that sees and changes the newest state; others wait."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A transaction over one consistent state; nobody waits."""
        with self._lock:
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def _all(self, sql: str, *args: Any) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, args).fetchall()

    # -- domains

    def domains(self) -> list[SimDomain]:
        return [SimDomain.load(record) for (record,) in self._all("SELECT record FROM domain")]

    def by_uuid(self, uuid: str) -> SimDomain | None:
        rows = self._all("SELECT record FROM domain WHERE uuid = ?", uuid)
        return SimDomain.load(rows[0][0]) if rows else None

    def by_name(self, name: str) -> SimDomain | None:
        rows = self._all("SELECT record FROM domain WHERE name = ?", name)
        return SimDomain.load(rows[0][0]) if rows else None

    def due(self, now: float) -> list[SimDomain]:
        """The domains whose next step is due, the earliest first."""
        rows = self._all("SELECT record FROM domain WHERE due <= ? ORDER BY due", now)
        return [SimDomain.load(record) for (record,) in rows]

    def next_due(self) -> float | None:
        due: float | None = self._all("SELECT MIN(due) FROM domain")[0][0]
        return due

    def put(self, domain: SimDomain) -> None:
        self._all(
            "INSERT OR REPLACE INTO domain VALUES (?, ?, ?, ?)", domain.uuid, domain.name, domain.due, domain.dump()
        )

    def remove(self, uuid: str) -> None:
        self._all("DELETE FROM domain WHERE uuid = ?", uuid)

    def clear(self, *tables: str) -> None:
        for table in tables:
            self._all(f"DELETE FROM {table}")

    # -- settings, in layers: `uri` and `host` (see machine.py), `latency` by call, `fact`, `loop` by name

    def layers(self) -> dict[str, dict[str, str]]:
        layers: dict[str, dict[str, str]] = {"uri": {}, "host": {}, "latency": {}, "fact": {}, "loop": {}}
        for layer, key, value in self._all("SELECT layer, key, value FROM setting"):
            layers[layer][key] = value
        return layers

    def fact(self, key: str) -> str | None:
        rows = self._all("SELECT value FROM setting WHERE layer = 'fact' AND key = ?", key)
        return rows[0][0] if rows else None

    def set(self, layer: str, key: str, value: str) -> None:
        self._all("INSERT OR REPLACE INTO setting VALUES (?, ?, ?)", layer, key, value)

    def unset(self, layer: str, key: str) -> None:
        self._all("DELETE FROM setting WHERE layer = ? AND key = ?", layer, key)

    def clear_layer(self, layer: str) -> None:
        self._all("DELETE FROM setting WHERE layer = ?", layer)

    # -- changes: what a driver has not yet told its listeners

    def add_change(self, uuid: str | None) -> None:
        self._all("INSERT INTO change (uuid) VALUES (?)", uuid)
        self._all("DELETE FROM change WHERE seq <= (SELECT MAX(seq) FROM change) - ?", _KEPT_CHANGES)

    def last_change(self) -> int:
        return int(self._all("SELECT COALESCE(MAX(seq), 0) FROM change")[0][0])

    def changes(self, seen: int) -> tuple[int, list[str | None]]:
        """The newest number, and the changes after `seen`; [None] if they are not all kept any more."""
        rows = self._all("SELECT seq, uuid FROM change WHERE seq > ? ORDER BY seq", seen)
        if not rows:
            return seen, []
        if rows[0][0] > seen + 1:
            return rows[-1][0], [None]
        return rows[-1][0], list(dict.fromkeys(uuid for _, uuid in rows))

    # -- calls and faults

    def add_call(self, at: float, name: str, uuid: str, args: Mapping[str, Any]) -> None:
        self._all("INSERT INTO call (at, name, uuid, args) VALUES (?, ?, ?, ?)", at, name, uuid, json.dumps(args))
        self._all("DELETE FROM call WHERE seq <= (SELECT MAX(seq) FROM call) - ?", _KEPT_CALLS)

    def calls(self) -> list[Call]:
        rows = self._all("SELECT at, name, uuid, args FROM call ORDER BY seq")
        return [Call(at, name, uuid, json.loads(args)) for at, name, uuid, args in rows]

    def add_fault(self, call: str, fault: Fault) -> None:
        self._all(
            "INSERT INTO fault (call, error, message, after) VALUES (?, ?, ?, ?)",
            call, fault.error, fault.message, fault.after,
        )  # fmt: skip

    def has_fault(self, call: str) -> bool:
        return bool(self._all("SELECT 1 FROM fault WHERE call = ? LIMIT 1", call))

    def take_fault(self, call: str) -> Fault | None:
        rows = self._all("SELECT seq, error, message, after FROM fault WHERE call = ? ORDER BY seq LIMIT 1", call)
        if not rows:
            return None
        seq, error, message, after = rows[0]
        self._all("DELETE FROM fault WHERE seq = ?", seq)
        return Fault(error, message, bool(after))
