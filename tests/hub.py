"""A Hub on this machine: what huggingface_hub asks of the real one, which refuses what that refuses."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

USERS = {"hf_alice": "alice", "hf_reader": "reader"}
"""Tokens, and whose they are; the reader may not write."""
LICENSES = ("apache-2.0", "mit", "cc-by-4.0", "other")


@dataclass
class Commit:
    """What a repository holds after a commit."""

    sha: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """Commits, oldest first, and tags."""

    commits: list[Commit]
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        sha = self.head.sha if revision == "main" else self.tags.get(revision, revision)
        return next((one for one in self.commits if one.sha == sha), None)

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits.append(Commit(sha, files))
        return sha


def digest(data: bytes, mode: str) -> str:
    """What git calls a file, and what Git LFS does."""
    return (
        hashlib.sha256(data).hexdigest() if mode == "lfs" else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    )


class Refusal(Exception):
    """An answer of the Hub that is none."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class StandIn:
    """A Hub with its repositories."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files by their SHA-256."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of each request."""
    cuts: dict[str, int] = field(default_factory=dict)
    """By a pattern of paths, how often an answer breaks off in the middle."""
    before_commit: Callable[[], object] = lambda: None
    endpoint: str = ""

    def new(self, name: str, files: dict[str, bytes] | None = None) -> Repository:
        self.repositories[name] = repository = Repository([])
        repository.commit({".gitattributes": b"*.safetensors filter=lfs\n"} | (files or {}))
        return repository

    def find(self, name: str, user: str | None) -> Repository:
        if name not in self.repositories:
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        return self.repositories[name]

    def commit_of(self, name: str, revision: str, user: str | None) -> Commit:
        commit = self.find(name, user).at(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def breaks_off(self, path: str) -> bool:
        for pattern, left in self.cuts.items():
            if left and fnmatch(path, pattern):
                self.cuts[pattern] -= 1
                return True
        return False

    def card_errors(self, content: str) -> list[str]:
        """What the Hub finds wrong with a card's head."""
        head = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        about = yaml.safe_load(head[1]) if head else None
        if not isinstance(about, dict):
            return ["no metadata"]
        errors = [] if about.get("license") in LICENSES else ['"license" must be one of ' + ", ".join(LICENSES)]
        for result in [one for index in about.get("model-index", []) for one in index["results"]]:
            errors += [f'"model-index" lacks {key}' for key in ("task", "dataset", "metrics") if key not in result]
            errors += [
                '"dataset.type" is no id' for _ in [0] if not re.fullmatch(r"[\w.-]+", result["dataset"]["type"])
            ]
            errors += ['"metrics.value" is none' for one in result["metrics"] if "value" not in one]
        return errors


class Handler(BaseHTTPRequestHandler):
    """Answers as the Hub does; `hub` is set where it is served."""

    hub: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        try:
            if (given := self.headers.get("Authorization")) and given.removeprefix("Bearer ") not in USERS:
                raise Refusal(401, "Invalid credentials in Authorization header")
            self.user = USERS.get(given.removeprefix("Bearer ")) if given else None
            for (method, pattern), action in ROUTES.items():
                if method == self.command and (match := re.fullmatch(pattern, path)):
                    action(self, body, *match.groups())
                    return
            raise Refusal(404, f"nothing at {path}")
        except Refusal as refusal:
            said = json.dumps({"error": str(refusal)}).encode()
            self.send(said, refusal.status, {"X-Error-Message": str(refusal), "X-Error-Code": refusal.code})

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def send(self, body: bytes = b"", status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if body and self.hub.breaks_off(unquote(urlsplit(self.path).path)):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def send_json(self, value: Any, status: int = 200) -> None:
        self.send(json.dumps(value).encode(), status)

    def require_writer(self, owner: str) -> None:
        if self.user is None:
            raise Refusal(401, "Invalid username or password.")
        if self.user != owner:
            raise Refusal(403, "You don't have the required permissions")

    def whoami(self, _: bytes) -> None:
        if self.user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        self.send_json({"type": "user", "name": self.user})

    def validate(self, body: bytes) -> None:
        errors = self.hub.card_errors(json.loads(body)["content"])
        if self.headers.get("Accept") == "text/plain":
            self.send("\n".join(errors).encode(), 400 if errors else 200)
            return
        self.send_json({"errors": [{"message": one} for one in errors], "warnings": []}, 400 if errors else 200)

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        self.require_writer(asked["organization"])
        name = f"{asked['organization']}/{asked['name']}"
        there = name in self.hub.repositories
        if not there:
            self.hub.new(name)
        self.send_json({"url": f"{self.hub.endpoint}/{name}"}, 409 if there else 200)

    def info(self, _: bytes, name: str, revision: str | None = None) -> None:
        commit = self.hub.commit_of(name, revision or "main", self.user)
        files = [{"rfilename": path, **self.described(data)} for path, data in commit.files.items()]
        self.send_json({"id": name, "modelId": name, "sha": commit.sha, "siblings": files, "tags": []})

    def tree(self, _: bytes, name: str, revision: str) -> None:
        commit = self.hub.commit_of(name, revision, self.user)
        files = [
            {"type": "file", "path": path, "oid": hashlib.sha1(data).hexdigest(), **self.described(data)}
            for path, data in commit.files.items()
        ]
        self.send_json(files)

    def described(self, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        large = {"oid": digest, "sha256": digest, "size": len(data), "pointerSize": 130}
        return {"size": len(data)} | ({"lfs": large} if digest in self.hub.stored else {})

    def resolve(self, _: bytes, name: str, revision: str, path: str) -> None:
        commit = self.hub.commit_of(name, revision, self.user)
        if self.hub.repositories[name].gated:
            raise Refusal(403, "Access to this model is restricted", "GatedRepo")
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        data = commit.files[path]
        about = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit.sha}
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(asked[1])
            where = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send(data[start:], 206, about | {"Content-Range": where})
            return
        self.send(data, 200, about)

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        self.require_writer(name.partition("/")[0])
        there, files = self.hub.commit_of(name, revision, self.user).files, []
        for path in (one["path"] for one in json.loads(body)["files"]):
            mode = "lfs" if path.endswith(".safetensors") else "regular"
            oid = {"oid": digest(there[path], mode)} if path in there else {}
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **oid})
        self.send_json({"files": files})

    def batch(self, body: bytes, name: str) -> None:
        self.require_writer(name.partition("/")[0])
        objects = [
            {"oid": one["oid"], "size": one["size"]}
            | (
                {}
                if one["oid"] in self.hub.stored
                else {"actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}", "header": {}}}}
            )
            for one in json.loads(body)["objects"]
        ]
        self.send_json({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refusal(400, "not what was promised")
        self.hub.stored[oid] = body
        self.send()

    def commit(self, body: bytes, name: str, _: str) -> None:
        self.require_writer(name.partition("/")[0])
        self.hub.before_commit()
        repository = self.hub.find(name, self.user)
        files = dict(repository.head.files)
        for line in body.splitlines():
            kind, value = (json.loads(line)[key] for key in ("key", "value"))
            if kind == "header" and value.get("parentCommit", repository.head.sha) != repository.head.sha:
                raise Refusal(412, "A commit has happened since")
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if kind == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            if kind == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(files)
        self.send_json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "commitOid": sha})


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES: dict[tuple[str, str], Callable[..., None]] = {
    ("GET", "/api/whoami-v2"): Handler.whoami,
    ("POST", "/api/validate-yaml"): Handler.validate,
    ("POST", "/api/repos/create"): Handler.create,
    ("GET", rf"/api/models/{NAME}"): Handler.info,
    ("GET", rf"/api/models/{NAME}/revision/(.+)"): Handler.info,
    ("GET", rf"/api/models/{NAME}/tree/([^/]+)"): Handler.tree,
    ("POST", rf"/api/models/{NAME}/preupload/(.+)"): Handler.preupload,
    ("POST", rf"/api/models/{NAME}/commit/(.+)"): Handler.commit,
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch"): Handler.batch,
    ("PUT", r"/lfs/(\w+)"): Handler.store,
    ("HEAD", rf"/{NAME}/resolve/([^/]+)/(.+)"): Handler.resolve,
    ("GET", rf"/{NAME}/resolve/([^/]+)/(.+)"): Handler.resolve,
}


@contextmanager
def served() -> Iterator[StandIn]:
    """A Hub that answers meanwhile."""
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
