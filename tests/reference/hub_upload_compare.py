"""Holds an upload to the Hub against that of the official client: both send one folder to a server on this machine.

    pip install huggingface_hub==2.4.0
    python tests/reference/hub_upload_compare.py COMMAND...

COMMAND uploads a folder; {folder}, {repo} and {message} in it are replaced, and HF_ENDPOINT and HF_TOKEN are set. The
server speaks the Hub's protocol without Xet, writes down each request and keeps what it gets. What must hold:
- what each client leaves in the repository is the folder, byte for byte;
- a first upload, a second one after some files changed, and a third one of the same again: the requests agree in method,
  path, content type, in who gets the token, and in their bodies, parsed; large files by their digest.
Differences that are meant: ours also asks for the head of the branch before it asks about files, and names it in the
commit (the official client gets it as an argument, so that the commits agree); the official client lets a card be judged twice, and
asks for a place for large files that have not changed. The order of files, and of requests to the storage, is free.
"""

import base64
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "hf_" + "x" * 34
REPO = "owner/name"
MESSAGE = 'A "first" model'
# A larger file goes to the storage in parts.
MOST_AT_ONCE = 300_000
PART = 200_000


def git_blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """A Hub with one repository, and its storage."""

    def __init__(self):
        self.requests, self.files, self.storage, self.parts = [], {}, {}, {}
        self.num_commits, self.exists = 0, False
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def head(self):
        return f"{self.num_commits:040x}"

    def handler(hub):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def respond(self):
                assert "Transfer-Encoding" not in self.headers, "the storage takes no chunks"
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with hub.lock:
                    status, headers, reply = hub.answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_POST = do_PUT = do_HEAD = respond

        return Handler

    def answer(self, method, path, headers, body):
        kind = (headers.get("Content-Type") or "").split(";")[0]
        if method == "PUT":
            said = hashlib.sha256(body).hexdigest()
        elif kind == "application/x-ndjson":
            said = [json.loads(line) for line in body.splitlines()]
        else:
            said = json.loads(body) if body else None
        token = headers.get("Authorization") == f"Bearer {TOKEN}"
        self.requests.append((method, path, token, None if method == "PUT" else kind, said))

        def ok(value):
            return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

        if path == "/api/whoami-v2":
            return ok({"type": "user", "name": "owner", "orgs": []})
        if path == "/api/repos/create":
            if self.exists:
                said = {"error": "You already created this model repo", "url": f"{self.address}/{REPO}"}
                return 409, {}, json.dumps(said).encode()
            self.exists, self.num_commits = True, 1
            return ok({"url": f"{self.address}/{REPO}"})
        if path == "/api/validate-yaml":
            return ok({"errors": [], "warnings": []})
        if path == f"/api/models/{REPO}/revision/main":
            return ok({"id": REPO, "modelId": REPO, "private": True, "sha": self.head(), "siblings": []})
        if path == f"/api/models/{REPO}/preupload/main":
            return ok({"files": [self.verdict(file["path"]) for file in said["files"]]})
        if path == f"/{REPO}.git/info/lfs/objects/batch":
            return ok({"transfer": "basic", "objects": [self.object(o["oid"], o["size"]) for o in said["objects"]]})
        if path.startswith("/stored/"):
            _, _, oid, part = path.split("/")
            if part == "whole":
                self.storage[oid] = body
            else:
                self.parts.setdefault(oid, {})[int(part)] = body
            return 200, {"ETag": f'"{said}"'}, b""
        if path.startswith("/complete/"):
            oid = path.split("/")[-1]
            parts = self.parts.pop(oid)
            tags = [{"partNumber": n, "etag": f'"{hashlib.sha256(parts[n]).hexdigest()}"'} for n in sorted(parts)]
            assert said == {"oid": oid, "parts": tags}, said
            self.storage[oid] = b"".join(parts[n] for n in sorted(parts))
            return ok({"success": True})
        if path == "/verify":
            return ok({})
        if path == f"/api/models/{REPO}/commit/main":
            return self.commit(said, ok)
        return 404, {}, b'{"error": "no such thing"}'

    def verdict(self, path):
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        found = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        return found | ({"oid": self.files[path][0]} if path in self.files else {})

    def object(self, oid, size):
        if oid in self.storage:
            return {"oid": oid, "size": size}
        if size > MOST_AT_ONCE:
            header = {f"{n + 1:05}": f"{self.address}/stored/{oid}/{n + 1}" for n in range(-(-size // PART))}
            upload = {"href": f"{self.address}/complete/{oid}", "header": header | {"chunk_size": str(PART)}}
        else:
            upload = {"href": f"{self.address}/stored/{oid}/whole"}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": f"{self.address}/verify"}}}

    def commit(self, lines, ok):
        parent = lines[0]["value"].get("parentCommit")
        if parent not in (None, self.head()):
            return 412, {}, b'{"error": "A commit has happened since. Please refresh and try again."}'
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
                self.files[value["path"]] = (git_blob(content), content)
            else:
                assert line["key"] == "lfsFile", line
                content = self.storage[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"] and len(content) == value["size"]
                self.files[value["path"]] = (value["oid"], content)
        self.num_commits += 1
        url = f"https://huggingface.co/{REPO}/commit/{self.head()}"
        return ok({"success": True, "commitOid": self.head(), "commitUrl": url, "hookOutput": ""})

    def take(self):
        """The requests since the last call, without the address of this server."""
        text = json.dumps(self.requests).replace(self.address, "HUB")
        self.requests = []
        return json.loads(text)


def official(hub, folder):
    script = (
        "import sys; from huggingface_hub import HfApi\n"
        "folder, repo, message, parent = sys.argv[1:]\n"
        "api = HfApi()\n"
        "api.create_repo(repo, repo_type='model', private=True, exist_ok=True)\n"
        "api.upload_folder(folder_path=folder, repo_id=repo, commit_message=message, parent_commit=parent)\n"
    )
    # The repository's first commit is made with it.
    parent = hub.head() if hub.exists else f"{1:040x}"
    run(hub, [sys.executable, "-c", script, str(folder), REPO, MESSAGE, parent])


def ours(hub, folder, command):
    values = {"{folder}": str(folder), "{repo}": REPO, "{message}": MESSAGE}
    run(hub, [re.sub(r"\{\w+\}", lambda found: values.get(found[0], found[0]), part) for part in command])


def run(hub, command):
    with tempfile.TemporaryDirectory() as home:
        settings = {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}
        settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert TOKEN not in done.stdout + done.stderr


def is_of_storage(request):
    return request[1].split("/")[1] in ("stored", "complete", "verify")


def compare(step, theirs, own, unchanged):
    """`unchanged`: the names of the contents that were in the repository before."""
    head = ["GET", f"/api/models/{REPO}/revision/main", True, "", None]
    # The official client asks for it only where nothing is left to do, and then last.
    theirs, own = ([request for request in requests if request != head] for requests in (theirs, own))
    judged = [request for request in theirs if request[1] == "/api/validate-yaml"]
    assert len(judged) == 2 and judged[0] == judged[1]
    theirs.remove(judged[0])
    for request in theirs[:]:
        if request[1].endswith("/info/lfs/objects/batch"):
            request[4]["objects"] = [found for found in request[4]["objects"] if found["oid"] not in unchanged]
            if not request[4]["objects"]:
                theirs.remove(request)
    stored = [sorted(filter(is_of_storage, requests), key=str) for requests in (theirs, own)]
    others = [[request for request in requests if not is_of_storage(request)] for requests in (theirs, own)]
    # Files are listed in the order of a folder, which is arbitrary.
    for requests in others:
        for request in requests:
            said = request[4]
            if isinstance(said, list):
                request[4] = said[:1] + sorted(said[1:], key=str)
            for name in ("files", "objects"):
                if isinstance(said, dict) and name in said:
                    said[name].sort(key=str)
    for kind, (expected, found) in (("to the storage", stored), ("to the Hub", others)):
        assert len(expected) == len(found), f"{step}, {kind}:\n  official: {names(expected)}\n  ours:     {names(found)}"
        for one, other in zip(expected, found):
            assert one == other, f"{step}, {kind}:\n  official: {str(one)[:600]}\n  ours:     {str(other)[:600]}"
    print(f"{step}: {len(own)} requests agree: {names(own)}")


def names(requests):
    return ", ".join(f"{request[0]} {re.sub('[0-9a-f]{64}', 'SHA256', request[1])}" for request in requests)


def main(command):
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        contents = {
            "README.md": b"---\nlicense: mit\n---\n# A model\n",
            "config.json": b"{}\n",
            "empty.txt": b"",
            "sub/folder/a b.json": rng.randbytes(400_001),
            "model.safetensors": rng.randbytes(250_000),
            "parts.safetensors": rng.randbytes(500_001),
            "empty.safetensors": b"",
        }
        hubs = Hub(), Hub()
        for step in ("first", "changed", "same again"):
            if step == "changed":
                contents |= {"config.json": b'{"a": 1}\n', "model.safetensors": rng.randbytes(100), "new.txt": b"new"}
            for name, content in contents.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            unchanged = {oid for oid, _ in hubs[0].files.values()}
            official(hubs[0], folder)
            ours(hubs[1], folder, command)
            for hub in hubs:
                assert {name: found[1] for name, found in hub.files.items()} == contents
            assert hubs[0].head() == hubs[1].head()
            compare(step, *(hub.take() for hub in hubs), unchanged)


if __name__ == "__main__":
    main(sys.argv[1:])
