"""A Hub on this machine: answers by a repository's name as huggingface.co does, serves one model, and may hang."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

# (status, headers) by the name's last part.
ANSWERS: dict[str, tuple[int, dict[str, str]]] = {
    "open": (200, {"ETag": '"x"', "X-Repo-Commit": "a" * 40, "Content-Length": "2"}),
    "gated": (401, {"X-Error-Code": "GatedRepo"}),
    "forbidden": (403, {}),
    "unknown": (401, {"X-Error-Code": "RepoNotFound"}),
    "bare": (404, {"X-Error-Code": "EntryNotFound"}),
    "busy": (429, {}),
    "broken": (503, {}),
    "nothing": (404, {}),
}
COMMIT = "b" * 40


class LocalHub(BaseHTTPRequestHandler):
    """`owner/served` is a model with the files of `folder`; `owner/hangs` never answers."""

    asked: ClassVar[list[tuple[str, str, str | None]]]
    """(method, path, Authorization) of every request."""
    held: ClassVar[threading.Event]
    folder: ClassVar[Path]

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        if self.path == "/api/agent-harnesses":  # huggingface_hub, about who runs it; not always
            self._send(404, {}, b"", body)
            return
        self.asked.append((self.command, self.path, self.headers.get("Authorization")))
        repository = re.split("/(?:resolve|revision|tree)/", self.path.removeprefix("/api/models"))[0]
        name = repository.rpartition("/")[2]
        if name == "hangs":
            self.held.wait(60)
        elif name != "served":
            status, headers = ANSWERS[name]
            self._send(status, headers, b"", body)
        elif self.path.startswith("/api/"):
            files = [(path.name, path.read_bytes()) for path in sorted(self.folder.iterdir())]
            document: Any = [{"type": "file", "path": file, "size": len(raw), "oid": git_sha1(raw)}
                             for file, raw in files]
            if "/tree/" not in self.path:
                document = {"id": "owner/served", "sha": COMMIT, "siblings": [{"rfilename": file} for file, _ in files]}
            self._send(200, {"Content-Type": "application/json"}, json.dumps(document).encode(), body)
        else:
            raw = (self.folder / self.path.rpartition("/")[2]).read_bytes()
            large = self.path.endswith(".safetensors")
            etag = sha256(raw).hexdigest() if large else git_sha1(raw)
            self._send(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, raw, body)

    def _send(self, status: int, headers: dict[str, str], raw: bytes, body: bool) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(raw)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


def git_sha1(raw: bytes) -> str:
    """What git, and the Hub for small files, call a content."""
    return sha1(b"blob %d\0" % len(raw) + raw).hexdigest()


@contextmanager
def local_hub(folder: Path) -> Iterator[tuple[str, type[LocalHub]]]:
    """(its HF_ENDPOINT, what was asked of it) while it runs."""
    handler: type[LocalHub] = type("OneHub", (LocalHub,), {"asked": [], "held": threading.Event(), "folder": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        handler.held.set()
        server.shutdown()
        server.server_close()
