"""A local server that stands in for Weights & Biases and writes down what it is asked.

It answers the GraphQL operations that a run needs (UpsertBucket, the resume query, CreateRunFiles and the few questions
of the official client), takes uploads and file_stream requests, and appends one JSON object for each request to a file.
It keeps the rows of each run, so that a run can be resumed. Nothing is checked: the log is read by other scripts.

    python wandb_recorder.py LOG.jsonl [PORT]      prints the address, then serves until it is ended
"""

import base64
import gzip
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENTITY = "recorder"


class Recorder(ThreadingHTTPServer):
    """The server; `requests` holds what came, oldest first."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        # A client that ends closes its connections without ado.
        pass

    def __init__(self, log_path=None, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.requests = []
        self.runs = {}  # (project, name) -> what is known of the run
        self.stopped = False
        self.log = open(log_path, "a", encoding="utf-8") if log_path else None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def record(self, entry):
        with self.lock:
            self.requests.append(entry)
            if self.log:
                self.log.write(json.dumps(entry) + "\n")
                self.log.flush()

    # What the scripts ask of it afterwards.

    def operations(self, name):
        """The variables of every GraphQL request of that name."""
        return [r["body"].get("variables", {}) for r in self.requests if r.get("operation") == name]

    def stream(self):
        """The bodies of the file_stream requests."""
        return [r["body"] for r in self.requests if r["kind"] == "file_stream"]

    def uploads(self):
        """Name of each uploaded file -> its last content."""
        return {r["name"]: base64.b64decode(r["content"]) for r in self.requests if r["kind"] == "upload"}

    def stream_last(self, file):
        """The last content of a streamed file that is replaced as a whole."""
        return [b["files"][file]["content"][-1] for b in self.stream() if file in b.get("files", {})][-1]

    def lines(self, file):
        """The lines of a streamed file, laid at their offsets."""
        lines = {}
        for body in self.stream():
            part = body.get("files", {}).get(file)
            if part:
                for index, line in enumerate(part["content"]):
                    lines[part["offset"] + index] = line
        assert sorted(lines) == list(range(len(lines))), f"{file} has a hole: {sorted(lines)}"
        return [lines[index] for index in sorted(lines)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def answer(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def entry(self, kind, **more):
        headers = {k.lower(): v for k, v in self.headers.items()}
        return {"kind": kind, "method": self.command, "path": self.path, "headers": headers, **more}

    def do_GET(self):
        self.server.record(self.entry("get"))
        self.answer({})

    def do_PUT(self):
        name = self.path.removeprefix("/storage/").split("?")[0]
        content = base64.b64encode(self.body()).decode()
        self.server.record(self.entry("upload", name=name.split("/", 1)[1], content=content))
        self.answer({})

    def do_POST(self):
        data = self.body()
        if self.path.endswith("/file_stream"):
            body = json.loads(data)
            self.server.record(self.entry("file_stream", body=body))
            _, _, _, project, name, _ = self.path.split("/")
            self.keep(self.run(project, name), body)
            self.answer({"stopped": True} if self.server.stopped else {"exitcode": None, "limits": {}})
        elif self.path.startswith("/graphql"):
            body = json.loads(data)
            self.graphql(body)
        else:
            self.server.record(self.entry("other", content=base64.b64encode(data).decode()))
            self.answer({}, 404)

    def run(self, project, name):
        fresh = {"name": name, "config": "{}", "summary": "{}", "files": {}, "displayName": name, "resumed": False}
        return self.server.runs.setdefault((project, name), fresh)

    def keep(self, run, body):
        for file, part in body.get("files", {}).items():
            kept = run["files"].setdefault(file, {})
            for index, line in enumerate(part["content"]):
                kept[part["offset"] + index] = line
            if file == "wandb-summary.json" and part["content"]:
                run["summary"] = part["content"][-1]

    def graphql(self, body):
        query = body.get("query", "")
        variables = body.get("variables") or {}
        operation = body.get("operationName") or query.split("(")[0].split("{")[0].split()[-1]
        entry = self.entry("graphql", operation=operation, body=body)
        self.server.record(entry)
        if "upsertBucket" in query:
            self.answer({"data": {"upsertBucket": self.upsert(variables)}})
        elif "createRunFiles" in query:
            files = [
                {"name": f, "uploadUrl": f"{self.server.url}/storage/{variables['run']}/{f}"}
                for f in variables["files"]
            ]
            self.answer({"data": {"createRunFiles": {"runID": "storage", "uploadHeaders": [], "files": files}}})
        elif "missingOk" in query or operation == "RunResumeStatus":
            self.answer({"data": {"model": self.resume_status(variables)}})
        elif "__type" in query or "__schema" in query:
            self.answer({"data": self.types(query)})
        elif "viewer" in query:
            viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
            self.answer({"data": {"viewer": viewer, "serverInfo": {}}})
        else:
            self.answer({"data": {}})

    def upsert(self, variables):
        name = variables.get("name") or "noname"
        project = variables.get("project") or "uncategorized"
        known = (project, name) in self.server.runs
        run = self.run(project, name)
        if variables.get("config"):
            run["config"] = variables["config"]
        if variables.get("displayName"):
            run["displayName"] = variables["displayName"]
        bucket = {
            "id": "storage-" + name,
            "name": name,
            "displayName": run["displayName"],
            "description": None,
            "config": run["config"],
            "sweepName": None,
            "historyLineCount": len(run["files"].get("wandb-history.jsonl", {})),
            "project": {"id": "p", "name": project, "entity": {"id": "e", "name": variables.get("entity") or ENTITY}},
        }
        return {"bucket": bucket, "inserted": not known}

    def resume_status(self, variables):
        key = (variables.get("project"), variables.get("name") or variables.get("run"))
        if key not in self.server.runs:
            return {"id": "p", "name": key[0], "entity": {"id": "e", "name": ENTITY}, "bucket": None}
        run = self.server.runs[key]

        def rows(file):
            kept = run["files"].get(file, {})
            return [kept[index] for index in sorted(kept)]

        history, events = rows("wandb-history.jsonl"), rows("wandb-events.jsonl")
        bucket = {
            "id": "storage-" + run["name"],
            "name": run["name"],
            "displayName": run["displayName"],
            "summaryMetrics": run["summary"],
            "config": run["config"],
            "tags": [],
            "historyLineCount": len(history),
            "eventsLineCount": len(events),
            "logLineCount": len(rows("output.log")),
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps(events[-1:]),
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"id": "p", "name": key[0], "entity": {"id": "e", "name": ENTITY}, "bucket": bucket}

    def types(self, query):
        # The official client asks which fields a server knows; a server that knows none is served all the same.
        return {"QueryType": {"fields": []}, "MutationType": {"fields": []}, "ServerInfoType": {"fields": []}}


if __name__ == "__main__":
    recorder = Recorder(sys.argv[1] if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(recorder.url, flush=True)
    recorder.serve_forever()
