"""The client of the API server: plain dicts in and out, every failure one of `errors.py`.

Used by everything that talks to Kubernetes. `kubernetes.aio` does the configuration (kubeconfig, in-cluster, exec
plugins), authentication, TLS and the connection pool; its typed models are not used, for they cost memory and drop
fields that they do not know. No caching in here (`reflector.py`), and no retry but of 429, which says that nothing
was done.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from .errors import NotConfigured, TooManyRequests, Unavailable, from_response, from_status
from .resources import Object, Resource

logger = logging.getLogger(__name__)

TRIES_OF_429 = 5
LONGEST_WAIT_ON_429 = 10.0
"""Seconds. A server that asks for more is left to the caller's queue, which has other keys to work on meanwhile."""

_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML

Objects = list[Object]
Query = dict[str, str]
Load = Callable[[Configuration], Awaitable[None]]


class Api:
    """A connection to one API server. Make it with `connect()`, end it with `close()`."""

    def __init__(self, client: ApiClient, load: Load, timeout: float) -> None:
        self._client = client
        self._load = load
        self._timeout = timeout
        self._reloading = asyncio.Lock()
        self._warned: set[str] = set()

    @classmethod
    async def connect(
        cls, kubeconfig: str | None = None, *, context: str | None = None, user_agent: str, timeout: float = 30.0
    ) -> Api:
        """A client by the given kubeconfig, else $KUBECONFIG, else the pod's service account, else ~/.kube/config.
        Sends nothing yet. `context`: of a kubeconfig; default: its current one.
        """
        load = _configuration_source(kubeconfig, context)
        configuration = Configuration()
        await load(configuration)
        # HTTPS_PROXY and friends are for what is elsewhere: as kubectl, never ask a proxy for loopback
        configuration.client_session_kwargs = {"trust_env": not _is_loopback(configuration.host)}
        client = ApiClient(configuration)
        client.user_agent = user_agent
        return cls(client, load, timeout)

    async def close(self) -> None:
        await self._client.close()

    # Reading

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> Object:
        return await self._call("GET", res.path(namespace, name))

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        page: int = 500,
    ) -> tuple[Objects, str]:
        """All objects, read in pages, and the resourceVersion to watch from."""
        objects: Objects = []
        version = ""
        pages = self.pages(res, namespace, label_selector=label_selector, field_selector=field_selector, page=page)
        async for items, version in pages:  # noqa: B007 - the last page's version is the result
            objects += items
        return objects, version

    async def pages(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        page: int = 500,
    ) -> AsyncGenerator[tuple[Objects, str], None]:
        """As `list()`, a page at a time, so that a large list is never in memory twice. Gone: it took too long; begin
        again.
        """
        query = _selectors(label_selector, field_selector) | {"limit": str(page)}
        while True:
            body = await self._call("GET", res.path(namespace), query)
            items = body.get("items") or []
            for item in items:  # a built-in kind's list does not repeat them
                item.setdefault("apiVersion", res.api_version)
                item.setdefault("kind", res.kind)
            metadata = body["metadata"]
            yield items, metadata.get("resourceVersion", "")
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: float,
        inactivity_timeout: float,
    ) -> AsyncGenerator[Object, None]:
        """Raw events `{type, object}` after `resource_version`, bookmarks among them; ends when the server ends it,
        after `timeout_seconds`.

        The server sends a bookmark about once a minute, so a silence of `inactivity_timeout` (over 75 s) is a lost
        connection: Unavailable. An ERROR event is raised as what it says: Gone where the version is too old. Leave it
        by `contextlib.aclosing`.
        """
        query = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(timeout_seconds))),
        }
        path = res.path(namespace)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout, sock_read=inactivity_timeout)
        response = await self._open("GET", path, query, timeout=timeout)
        try:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise from_status(event["object"])
                yield event
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:  # ValueError: half a line of JSON
            raise _unavailable("WATCH", path, error) from error
        finally:
            response.close()

    async def text(self, path: str, **query: str) -> str:
        """What is no object and has no kind: a pod's log, `/version`."""
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        response = await self._open("GET", path, query, timeout=timeout)
        try:
            return (await response.read()).decode(errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unavailable("GET", path, error) from error

    # Writing

    async def create(
        self,
        res: Resource,
        body: Object,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
    ) -> Object:
        """Makes an object; with `name` and `subresource`, posts to that of an object (`eviction`, `token`). There:
        AlreadyExists.
        """
        namespace = namespace or body.get("metadata", {}).get("namespace")
        return await self._call("POST", res.path(namespace, name, subresource), body=_typed(res, body))

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period_seconds: int | None = None,
    ) -> None:
        """Asks for the object's end; finalizers may keep it. Another uid or version than given: Conflict. Not there:
        NotFound.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if given := {field: value for field, value in preconditions.items() if value is not None}:
            options["preconditions"] = given
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        await self._call("DELETE", res.path(namespace, name), body=options)

    async def apply(
        self,
        res: Resource,
        name: str,
        body: Object,
        namespace: str | None = None,
        *,
        manager: str,
        force: bool = True,
        subresource: str | None = None,
    ) -> Object:
        """Server-side apply. With `metadata.resourceVersion` in the body a later write of others is a Conflict, also
        with force; without it a late write is accepted. Without `force`, so is a field that another manager owns.
        """
        body = _as_yaml(_typed(res, body))
        body["metadata"] = {**body.get("metadata", {}), "name": name}
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._call("PATCH", res.path(namespace, name, subresource), query, body, _APPLY_PATCH)

    async def merge(
        self, res: Resource, name: str, patch: Object, namespace: str | None = None, *, subresource: str | None = None
    ) -> Object:
        """JSON merge patch. With `metadata.resourceVersion` in it, a later write of others is a Conflict."""
        return await self._call("PATCH", res.path(namespace, name, subresource), body=patch, content_type=_MERGE_PATCH)

    async def json_patch(
        self,
        res: Resource,
        name: str,
        ops: Objects,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> Object:
        """JSON patch, all or nothing. A `test` that fails: Invalid."""
        return await self._call("PATCH", res.path(namespace, name, subresource), body=ops, content_type=_JSON_PATCH)

    # One request

    async def _call(
        self, method: str, path: str, query: Query | None = None, body: Any = None, content_type: str = _JSON
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        response = await self._open(method, path, query or {}, body, content_type, timeout=timeout)
        try:
            text = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unavailable(method, path, error) from error
        self._log_warnings(path, response)
        result: Object = json.loads(text)
        return result

    async def _open(
        self,
        method: str,
        path: str,
        query: Query,
        body: Any = None,
        content_type: str = _JSON,
        *,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """The answer to a request that was accepted; its body is yet to be read."""
        tries = 0
        reloaded = False
        while True:
            token = self._token()
            try:
                response = await self._send(method, path, query, body, content_type, timeout)
                if response.status < 300:
                    return response
                text = await response.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise _unavailable(method, path, error) from error
            refusal = from_response(response.status, text, response.headers.get("Retry-After"))
            if isinstance(refusal, TooManyRequests):
                tries += 1
                wait = refusal.retry_after if refusal.retry_after is not None else 1.0
                if tries < TRIES_OF_429 and wait <= LONGEST_WAIT_ON_429:
                    await asyncio.sleep(wait * random.uniform(1.0, 1.25))
                    continue
            elif response.status == 401 and not reloaded:
                reloaded = True
                if await self._reload(token):
                    continue
            raise refusal

    async def _send(
        self, method: str, path: str, query: Query, body: Any, content_type: str, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": _JSON, "Content-Type": content_type, **self._client.default_headers}
        # the in-cluster configuration reads the token's file again in here, once a minute
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        answer = await self._client.rest_client.request(method, url, headers, body, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response

    def _token(self) -> str | None:
        token: str | None = self._client.configuration.api_key.get("BearerToken")
        return token

    async def _reload(self, refused: str | None) -> bool:
        """Loads the credentials again, after a 401: the file was rotated, or the exec plugin's token has expired.
        Whether they are others now.
        """
        async with self._reloading:
            if self._token() == refused:  # else another request did it meanwhile
                try:
                    await self._load(self._client.configuration)
                except NotConfigured as error:
                    logger.warning("credentials were refused and cannot be loaded again: %s", error)
            return self._token() != refused

    def _log_warnings(self, path: str, response: aiohttp.ClientResponse) -> None:
        """The server's warnings (an unknown field, a deprecated version), each once."""
        for warning in response.headers.getall("Warning", ()):
            if warning not in self._warned and len(self._warned) < 1000:
                self._warned.add(warning)
                logger.warning("%s: %s", path, warning)


def _as_yaml(value: Any) -> Any:
    """The same without characters beyond U+FFFF, as in a user's emoji that a condition's message quotes.

    The server reads an apply as YAML, which refuses the surrogate pairs that JSON writes for them (400).
    """
    match value:
        case dict():
            return {key: _as_yaml(item) for key, item in value.items()}
        case list():
            return [_as_yaml(item) for item in value]
        case str() if not value.isascii():
            return "".join(letter if letter <= "\uffff" else "\ufffd" for letter in value)
    return value


def _configuration_source(kubeconfig: str | None, context: str | None) -> Load:
    """What fills a Configuration, now and again when the credentials are refused."""

    async def from_file(configuration: Configuration) -> None:
        try:
            await config.load_kube_config(file, context, client_configuration=configuration, persist_config=False)
        except Exception as error:  # a broken file ends in any of them: TypeError, YAMLError, ConfigException, OSError
            raise NotConfigured(message=f"kubeconfig {file}: {error}") from error

    async def from_pod(configuration: Configuration) -> None:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise NotConfigured(message=f"the pod's service account: {error}") from error

    file = kubeconfig or os.environ.get("KUBECONFIG") or ""
    if not file:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            return from_pod
        file = str(Path.home() / ".kube" / "config")
    if not any(Path(part).expanduser().is_file() for part in file.split(os.pathsep) if part):
        raise NotConfigured(message=f"kubeconfig {file}: no such file")
    return from_file


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _selectors(label_selector: str, field_selector: str) -> Query:
    selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in selectors.items() if value}


def _typed(res: Resource, body: Object) -> Object:
    return {"apiVersion": res.api_version, "kind": res.kind, **body}


def _unavailable(method: str, path: str, error: Exception) -> Unavailable:
    return Unavailable(message=f"{method} {path}: {error or type(error).__name__}")
