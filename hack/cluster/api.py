"""The cluster's REST API for tests and tools: plain JSON by path, and waiting on a watch instead of sleeping.

Called by cluster.py, nodes.py and tests. It is no client for the product: no retries, no cache.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

Object = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(RuntimeError):
    """The API server's answer to a request that it refused; `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Api:
    """Requests of one user, named by the token. Paths are the API's own, such as `/api/v1/nodes/xen1`."""

    def __init__(self, port: int, ca: str, token: str) -> None:
        self._port = port
        self._tls = ssl.create_default_context(cadata=ca)
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "hack.cluster", "Accept": "application/json"}

    def get(self, path: str, **query: str) -> Object:
        return self._request("GET", path, query=query)

    def create(self, path: str, body: Object, **query: str) -> Object:
        """Create an object in the collection of this path."""
        return self._request("POST", path, body, query=query)

    def patch(self, path: str, body: Object, content_type: str = MERGE_PATCH, **query: str) -> Object:
        return self._request("PATCH", path, body, content_type, query)

    def delete(self, path: str, **query: str) -> None:
        """Delete an object; that it is not there is success."""
        try:
            self._request("DELETE", path, query=query)
        except ApiError as error:
            if error.code != 404:
                raise

    def healthy(self, path: str = "/readyz") -> bool:
        try:
            connection, response = self._open("GET", path, timeout=2)
        except (OSError, http.client.HTTPException):
            return False
        connection.close()
        return response.status == 200

    def watch(self, collection: str, timeout: float, **query: str) -> Iterator[tuple[str, Object]]:
        """(type, object) of the events in a collection, beginning with ADDED for what is there, for so many seconds."""
        deadline = time.monotonic() + timeout
        query |= {"watch": "1", "allowWatchBookmarks": "false", "timeoutSeconds": str(int(timeout) + 1)}
        connection, response = self._open("GET", f"{collection}?{urlencode(query)}", timeout=timeout)
        try:
            if response.status != 200:
                raise _error(response.status, response.read())
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _error(event["object"].get("code", 0), line)
                yield event["type"], event["object"]
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return
                if connection.sock:
                    connection.sock.settimeout(remaining)
        except TimeoutError:
            return
        finally:
            connection.close()

    def wait(self, path: str, condition: Callable[[Object], bool], timeout: float = 30) -> Object:
        """Wait until the object of this path exists and the condition holds for it; the object."""
        collection, _, name = path.rpartition("/")
        last: Object | None = None
        for kind, item in self.watch(collection, timeout, fieldSelector=f"metadata.name={name}"):
            last = item
            if kind != "DELETED" and condition(item):
                return item
        raise TimeoutError(f"{path} is not as expected after {timeout:g} s; last seen: {json.dumps(last)[:3000]}")

    def wait_gone(self, path: str, timeout: float = 30) -> None:
        """Wait until there is no object of this path."""
        collection, _, name = path.rpartition("/")
        items = self.get(collection, fieldSelector=f"metadata.name={name}")
        if not items["items"]:
            return
        query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": items["metadata"]["resourceVersion"]}
        last: Object = items["items"][0]
        for kind, item in self.watch(collection, timeout, **query):
            if kind == "DELETED":
                return
            last = item
        raise TimeoutError(f"{path} is still there after {timeout:g} s: {json.dumps(last['metadata'])[:3000]}")

    def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
        query: dict[str, str] | None = None,
    ) -> Object:
        target = f"{path}?{urlencode(query)}" if query else path
        connection, response = self._open(method, target, 60, body, content_type)
        try:
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise _error(response.status, answer)
        return json.loads(answer)  # type: ignore[no-any-return]

    def _open(
        self, method: str, target: str, timeout: float, body: Object | None = None, content_type: str = ""
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=timeout, context=self._tls)
        headers = self._headers | ({"Content-Type": content_type} if body is not None else {})
        try:
            connection.request(method, target, json.dumps(body) if body is not None else None, headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise


def _error(code: int, answer: bytes) -> ApiError:
    try:
        return ApiError(code, json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return ApiError(code, answer.decode(errors="replace")[:500])
