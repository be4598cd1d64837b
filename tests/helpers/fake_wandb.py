"""The part of W&B's server that its client needs to upload runs; it stores all uploads.

Written from the requests of the client of wandb 0.31. It replaces the network, not W&B: it does not
show that a real server accepts the uploads.
"""

import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0" * 40


@dataclass
class Received:
    """The uploads, by run id."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    artifacts: dict[tuple[str, str], str] = field(default_factory=dict)  # (name, digest): id
    logged: list[tuple[str, str]] = field(default_factory=list)  # (run, artifact's name)
    used: list[tuple[str, str]] = field(default_factory=list)
    files: set[str] = field(default_factory=set)

    def answer(self, operation: str, variables: dict[str, Any], url: str) -> dict[str, Any]:
        """The answer to a GraphQL operation."""
        place = {"id": "p", "name": "shop", "entity": {"id": "e", "name": "me"}}
        name = variables.get("name") or variables.get("runName") or ""
        upload = {"uploadUrl": f"{url}/put", "uploadHeaders": []}
        if operation == "RunResumeStatus":
            lines = [json.dumps(line) for line in self.history.get(name, [])]
            last = {"id": name, "name": name, "displayName": name, "historyLineCount": len(lines)}
            last |= {"eventsLineCount": 0, "logLineCount": 0, "config": "{}", "tags": []}
            last |= {"historyTail": json.dumps(lines[-1:]), "eventsTail": "[]"}
            last |= {"summaryMetrics": lines[-1] if lines else "{}", "wandbConfig": '{"t": 1}'}
            return {"model": {**place, "bucket": last if name in self.runs else None}}
        if operation == "UpsertBucket":
            new = name not in self.runs
            fields = {k: v for k, v in variables.items() if v is not None}
            self.runs[name] = self.runs.get(name, {}) | fields
            bucket = {"id": name, "name": name, "displayName": name, "config": "{}"}
            bucket |= {"historyLineCount": len(self.history.get(name, [])), "project": place}
            return {"upsertBucket": {"bucket": bucket, "inserted": new}}
        if operation == "CreateRunFiles":
            files = [
                {"name": file, "uploadUrl": f"{url}/put/{file}"} for file in variables["files"]
            ]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if operation == "CreateArtifact":
            key = variables["artifactCollectionName"], variables["digest"]
            state = "COMMITTED" if key in self.artifacts else "PENDING"
            number = self.artifacts.setdefault(key, str(len(self.artifacts)))
            if variables["runName"]:
                self.logged.append((variables["runName"], key[0]))
            artifact = {"id": number, "state": state, "artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": artifact}}
        if operation == "CreateArtifactManifest":
            file = {"id": "f", "name": "m", "displayName": "m", **upload}
            return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
        if operation == "CreateArtifactFiles":
            nodes = [
                {
                    "node": {
                        "name": f["name"],
                        "artifact": {"id": f["artifactID"]},
                        "uploadUrl": f"{url}/put/{f['name']}",
                        "uploadHeaders": [],
                    }
                }
                for f in variables["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": nodes}}}
        if operation == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}
        if operation == "UseArtifact":
            names = {number: key[0] for key, number in self.artifacts.items()}
            self.used.append((variables["runName"], names[variables["artifactID"]]))
            return {"useArtifact": {"artifact": {"id": variables["artifactID"]}}}
        if operation == "Viewer":
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}"}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        return {}

    def stream(self, run: str, message: dict[str, Any]) -> None:
        """Take the data that the client sends while a run goes on."""
        file = (message.get("files") or {}).get("wandb-history.jsonl", {})
        lines = self.history.setdefault(run, [])
        # A part that is sent twice replaces itself.
        lines[file.get("offset", len(lines)) :] = map(json.loads, file.get("content", []))
        if message.get("complete"):
            self.finished.add(run)


class FakeWandb:
    """The server at ``url``; while it is ``down``, it closes every connection."""

    def __init__(self) -> None:
        self.received, self.down = Received(), False
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.body()
                if not self.path.endswith(("/graphql", "/file_stream")):  # W&B's telemetry
                    return self.reply({})
                message = json.loads(content)
                if self.path.endswith("/file_stream"):
                    if not fake.down:
                        fake.received.stream(self.path.split("/")[-2], message)
                    return self.reply({"exitcode": None, "limits": {}})
                words = message["query"].replace("(", " ").replace("{", " ").split()
                variables = message.get("variables") or {}
                variables = variables.get("input") or variables
                answer = {} if fake.down else fake.received.answer(words[1], variables, fake.url)
                self.reply({"data": answer})

            def do_PUT(self) -> None:
                self.body()
                if not fake.down:
                    fake.received.files.add(self.path.removeprefix("/put/"))
                self.reply({})

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    content = b""
                    while size := int(self.rfile.readline(), 16):
                        content += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    content = self.rfile.read(int(self.headers["Content-Length"]))
                packed = self.headers.get("Content-Encoding") == "gzip"
                return gzip.decompress(content) if packed else content

            def reply(self, answer: dict[str, Any]) -> None:
                if fake.down:
                    self.close_connection = True
                    return
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
