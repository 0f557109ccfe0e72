"""A stand-in for the hub: as much of its HTTP interface as pushing, pulling and reading take.

Small files travel in the commit, large ones are put to the address that the LFS batch names, as on
the hub itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

TOKEN = "hf_test"
LARGE = (".safetensors", ".parquet", ".png")


class Hub(ThreadingHTTPServer):
    """Repositories, by name: their commits, each the content of every file by its path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.objects: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlparse(self.path).path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            there = name in self.server.repositories
            self.server.repositories.setdefault(name, [{}])
            address = f"{self.server.address}/datasets/{name}"
            self._answer(409 if there else 200, {"url": address, "name": name})
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    **one,
                    "actions": {"upload": {"href": f"{self.server.address}/put/{one['oid']}"}},
                }
                for one in json.loads(body)["objects"]
            ]
            self._answer(200, {"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            self._commit(path, body)
        elif "/paths-info/" in path:
            name, files = self._files(path.split("/paths-info/")[0])
            asked = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
            self._answer(200, [one for one in self._tree(files) if one["path"] in asked])
        else:
            self._answer(404, {"error": f"no {path}"})

    def _commit(self, path: str, body: bytes) -> None:
        name = path.split("/commit/")[0].removeprefix("/api/datasets/")
        files = dict(self.server.repositories[name][-1])
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        self.server.repositories[name].append(files)
        revision = _revision(self.server.repositories[name])
        address = f"{self.server.address}/datasets/{name}/commit/{revision}"
        self._answer(200, {"success": True, "commitUrl": address, "commitOid": revision})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        digest = hashlib.sha256(body).hexdigest()
        assert self.path == f"/put/{digest}", "the file is not the one that was announced"
        self.server.objects[digest] = body
        self._answer(200, {})

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def _get(self) -> None:
        path = unquote(urlparse(self.path).path)
        if "/resolve/" in path:
            self._file(path)
            return
        if not path.startswith("/api/datasets/"):
            self._answer(404, {"error": f"no {path}"})
            return
        name, files = self._files(path)
        if files is None:
            self._answer(404, {"error": "Repository not found"}, code="RepoNotFound")
        elif "/tree/" in path:
            below = path.split("/tree/")[1].partition("/")[2]
            tree = self._tree(files)
            self._answer(200, [one for one in tree if one["path"].startswith(below)])
        else:
            facts = {"id": name, "sha": _revision(self.server.repositories[name])}
            siblings = [{"rfilename": one} for one in sorted(files)]
            self._answer(200, {**facts, "siblings": siblings, "private": False, "tags": []})

    def _files(self, path: str) -> tuple[str, Any]:
        name = "/".join(path.removeprefix("/api/datasets/").split("/")[:2])
        commits = self.server.repositories.get(name)
        return name, None if commits is None else commits[-1]

    def _tree(self, files: dict[str, bytes]) -> list[dict[str, Any]]:
        folders = {name.rpartition("/")[0] for name in files} - {""}
        entries = [
            {"type": "directory", "path": one, "oid": "0" * 40, "size": 0} for one in folders
        ]
        for name, content in sorted(files.items()):
            oid = hashlib.sha1(content).hexdigest()
            entries.append({"type": "file", "path": name, "oid": oid, "size": len(content)})
        return entries

    def _file(self, path: str) -> None:
        name, _, rest = path.removeprefix("/datasets/").partition("/resolve/")
        commits = self.server.repositories.get(name)
        content = commits[-1].get(rest.partition("/")[2]) if commits else None
        if commits is None or content is None:
            code = "EntryNotFound" if commits else "RepoNotFound"
            self._answer(404, {"error": "not found"}, code=code)
            return
        start, end = 0, len(content)
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else end, end)
        part = content[start:end]
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", _revision(commits))
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

    def _answer(self, status: int, document: Any, *, code: str | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _revision(commits: list[dict[str, bytes]]) -> str:
    return hashlib.sha1(str(len(commits)).encode()).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub without repositories, until the block is left."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
